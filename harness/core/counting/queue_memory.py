"""The memory of a virtqueue and of its virtio-blk requests (virtio 1.2: 2.7, 5.2).

Requests are prepared once, each in a slot of its own: what is done again and again for a batch is little, and
the device finds the same addresses in every batch.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from harness.core.counting.pci import QueueAddresses

if TYPE_CHECKING:
    import mmap

    Memory = bytearray | mmap.mmap
    """Guest memory from address 0, shared with the device."""

DESCRIPTOR_BYTES = 16
CHAIN = 3
"""Descriptors of a request: header, data, status."""

_HEADER_BYTES = 16
_STATUS_UNSET = 0xFF
_PAGE = 4096


class RequestType(IntEnum):
    """What a virtio-blk request asks for."""

    READ = 0
    WRITE = 1


class RequestFailedError(Exception):
    """The device completed a request with an error, or completed what was never asked."""


@dataclass(frozen=True, slots=True)
class Request:
    """One virtio-blk request.

    Attributes:
        kind: read or write.
        sector: where, in units of 512 bytes.
    """

    kind: RequestType
    sector: int


@dataclass(frozen=True, slots=True)
class Descriptor:
    """One buffer of a request; ``writes`` says that the device writes it."""

    address: int
    length: int
    writes: bool


@dataclass(frozen=True, slots=True)
class Slot:
    """The memory of one request.

    Attributes:
        header: address of type and sector.
        data: address of the block.
        status: address of the byte that the device sets.
        table: address of the indirect descriptors.
        block: bytes of data.
    """

    header: int
    data: int
    status: int
    table: int
    block: int

    def chain(self, kind: RequestType) -> tuple[Descriptor, ...]:
        """Return the buffers of a request in the order the device expects."""
        return (
            Descriptor(self.header, _HEADER_BYTES, writes=False),
            Descriptor(self.data, self.block, writes=kind is RequestType.READ),
            Descriptor(self.status, 1, writes=True),
        )

    def prepare(self, memory: Memory, request: Request) -> None:
        """Write the header of a request, and a status that no device sets."""
        memory[self.header : self.header + _HEADER_BYTES] = struct.pack(
            "<IIQ", request.kind, 0, request.sector
        )
        memory[self.status : self.status + 1] = bytes([_STATUS_UNSET])

    def check(self, memory: Memory) -> None:
        """See whether the device completed the request well.

        Raises:
            RequestFailedError: it did not.
        """
        status = memory[self.status : self.status + 1][0]
        if status:
            what = {1: "an I/O error", 2: "unsupported", _STATUS_UNSET: "no status at all"}.get(
                status, status
            )
            raise RequestFailedError(f"the device completed a request with {what}")


@dataclass(frozen=True, slots=True)
class QueueLayout:
    """Where a queue and its requests lie.

    Attributes:
        size: descriptors of the ring, a power of two.
        slots: the requests of a batch.
        indirect: whether a request takes one descriptor of the ring, whatever it consists of.
        end: the first address behind all of it.
    """

    addresses: QueueAddresses
    size: int
    slots: tuple[Slot, ...]
    indirect: bool
    end: int


def lay_out(base: int, *, size: int, depth: int, block: int, indirect: bool) -> QueueLayout:
    """Return where a queue and ``depth`` requests of ``block`` bytes lie from an address on.

    Raises:
        ValueError: so many requests do not fit into the ring.
    """
    descriptors = depth if indirect else depth * CHAIN
    if descriptors > size:
        raise ValueError(f"{depth} requests take {descriptors} descriptors, the queue has {size}")
    table = _aligned(base)
    driver = table + _aligned(size * DESCRIPTOR_BYTES)
    device = driver + _aligned(6 + 2 * size)
    small = device + _aligned(6 + 8 * size)
    # A cache line for each header, status and table: requests share none.
    stride = 192
    data = small + _aligned(depth * stride)
    step = _aligned(block)
    slots = tuple(
        Slot(
            header=small + stride * i,
            data=data + step * i,
            status=small + stride * i + 64,
            table=small + stride * i + 128,
            block=block,
        )
        for i in range(depth)
    )
    return QueueLayout(QueueAddresses(table, driver, device), size, slots, indirect, data + step * depth)


def _aligned(value: int) -> int:
    return -(-value // _PAGE) * _PAGE
