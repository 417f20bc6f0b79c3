"""Virtqueues in guest memory, split and packed, filled with virtio-blk requests (virtio 1.2: 2.7, 2.8, 5.2).

Requests are prepared once, each in a slot of its own: what is done again and again for a batch is little, and
the device finds the same addresses in every batch.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

from harness.core.counting.pci import QueueAddresses

if TYPE_CHECKING:
    import mmap
    from collections.abc import Sequence

    Memory = bytearray | mmap.mmap
    """Guest memory from address 0, shared with the device."""

_NEXT, _WRITE, _INDIRECT = 1, 2, 4
_AVAIL, _USED = 1 << 7, 1 << 15
_DESCRIPTOR_BYTES = 16
_HEADER_BYTES = 16
CHAIN = 3
"""Descriptors of a request: header, data, status."""

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
    driver = table + _aligned(size * _DESCRIPTOR_BYTES)
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


def _descriptor(buffer: Descriptor, flags: int, following: int) -> bytes:
    return struct.pack("<QIHH", buffer.address, buffer.length, flags, following)


class Ring(Protocol):
    """A queue that takes batches."""

    def submit(self, requests: Sequence[Request]) -> None:
        """Make a batch available to the device; it still has to be kicked."""

    def completed(self) -> bool:
        """Return whether the device has used the whole batch."""

    def finish(self) -> None:
        """Take the batch back.

        Raises:
            RequestFailedError: a request failed, or another one than was asked came back.
        """


class SplitRing:
    """A split virtqueue.

    Args:
        memory: guest memory, where the queue is zero.
        layout: where everything lies.
        kind: whether the requests read or write: the buffers' directions are fixed.
    """

    def __init__(self, memory: Memory, layout: QueueLayout, kind: RequestType) -> None:
        self._memory = memory
        self._layout = layout
        self._index = 0
        self._batch = 0
        self._heads = [slot if layout.indirect else slot * CHAIN for slot in range(len(layout.slots))]
        for slot, head in zip(layout.slots, self._heads, strict=True):
            self._write_chain(slot, head, kind)

    def _write_chain(self, slot: Slot, head: int, kind: RequestType) -> None:
        chain = slot.chain(kind)
        first = 0 if self._layout.indirect else head
        packed = b"".join(
            _descriptor(
                buffer,
                (_WRITE if buffer.writes else 0) | (_NEXT if number < CHAIN - 1 else 0),
                first + number + 1 if number < CHAIN - 1 else 0,
            )
            for number, buffer in enumerate(chain)
        )
        if self._layout.indirect:
            self._memory[slot.table : slot.table + len(packed)] = packed
            packed = _descriptor(Descriptor(slot.table, len(packed), writes=False), _INDIRECT, 0)
        place = self._layout.addresses.descriptors + head * _DESCRIPTOR_BYTES
        self._memory[place : place + len(packed)] = packed

    def submit(self, requests: Sequence[Request]) -> None:
        """Make a batch available to the device; it still has to be kicked."""
        available, size = self._layout.addresses.driver, self._layout.size
        self._batch = len(requests)
        for number, request in enumerate(requests):
            self._layout.slots[number].prepare(self._memory, request)
            place = available + 4 + 2 * ((self._index + number) % size)
            self._memory[place : place + 2] = struct.pack("<H", self._heads[number])
        self._index = (self._index + self._batch) % 2**16
        # Last: the device looks at the entries once it sees the index.
        self._memory[available + 2 : available + 4] = struct.pack("<H", self._index)

    def completed(self) -> bool:
        """Return whether the device has used the whole batch."""
        return self._used() == self._index

    def answered(self) -> int:
        """Return how many requests of the batch the device has used."""
        return self._batch - (self._index - self._used()) % 2**16

    def _used(self) -> int:
        used = self._layout.addresses.device
        index: int = struct.unpack("<H", self._memory[used + 2 : used + 4])[0]
        return index

    def finish(self) -> None:
        """Take the batch back.

        Raises:
            RequestFailedError: a request failed, or another one than was asked came back.
        """
        used, size = self._layout.addresses.device, self._layout.size
        start = self._index - self._batch
        places = [used + 4 + 8 * ((start + number) % size) for number in range(self._batch)]
        returned = sorted(struct.unpack("<I", self._memory[place : place + 4])[0] for place in places)
        _check_batch(returned, sorted(self._heads[: self._batch]))
        for slot in self._layout.slots[: self._batch]:
            slot.check(self._memory)


class PackedRing:
    """A packed virtqueue.

    Args:
        memory: guest memory, where the queue is zero.
        layout: where everything lies.
        kind: whether the requests read or write.
    """

    def __init__(self, memory: Memory, layout: QueueLayout, kind: RequestType) -> None:
        self._memory = memory
        self._layout = layout
        self._kind = kind
        self._batch = 0
        self._next, self._wrap = 0, True
        self._used, self._used_wrap = 0, True
        self._taken = 1 if layout.indirect else CHAIN
        if layout.indirect:
            for slot in layout.slots:
                table = b"".join(
                    _packed(buffer, 0, _WRITE if buffer.writes else 0) for buffer in slot.chain(kind)
                )
                memory[slot.table : slot.table + len(table)] = table

    def submit(self, requests: Sequence[Request]) -> None:
        """Make a batch available to the device; it still has to be kicked."""
        self._batch = len(requests)
        first: tuple[int, bytes] | None = None
        for number, request in enumerate(requests):
            self._layout.slots[number].prepare(self._memory, request)
            for place, descriptor in self._descriptors(number):
                if first is None:
                    first = place, descriptor
                else:
                    self._store(place, descriptor)
        if first is not None:
            # The device stops at the batch's first descriptor until all the others are there.
            self._store(*first)

    def _descriptors(self, number: int) -> list[tuple[int, bytes]]:
        """Return a request's descriptors with their places in the ring, and move on."""
        slot = self._layout.slots[number]
        if self._layout.indirect:
            table = Descriptor(slot.table, CHAIN * _DESCRIPTOR_BYTES, writes=False)
            buffers = [(table, _INDIRECT)]
        else:
            chain = slot.chain(self._kind)
            buffers = [
                (buffer, (_WRITE if buffer.writes else 0) | (_NEXT if index < CHAIN - 1 else 0))
                for index, buffer in enumerate(chain)
            ]
        found = []
        for buffer, flags in buffers:
            mark = _AVAIL if self._wrap else _USED
            found.append((self._next, _packed(buffer, number, flags | mark)))
            self._next += 1
            if self._next == self._layout.size:
                self._next, self._wrap = 0, not self._wrap
        return found

    def _store(self, place: int, descriptor: bytes) -> None:
        address = self._layout.addresses.descriptors + place * _DESCRIPTOR_BYTES
        # Everything but the flags first: they hand the descriptor over.
        self._memory[address : address + 14] = descriptor[:14]
        self._memory[address + 14 : address + 16] = descriptor[14:]

    def _walk(self) -> tuple[int, bool, list[int]]:
        """Follow the used descriptors of a batch; return where that ends, and the requests they name."""
        place, wrap, found = self._used, self._used_wrap, list[int]()
        while len(found) < self._batch:
            address = self._layout.addresses.descriptors + place * _DESCRIPTOR_BYTES
            identity, flags = struct.unpack("<HH", self._memory[address + 12 : address + 16])
            if bool(flags & _AVAIL) is not wrap or bool(flags & _USED) is not wrap:
                break
            found.append(identity)
            place += self._taken
            if place >= self._layout.size:
                place, wrap = place - self._layout.size, not wrap
        return place, wrap, found

    def completed(self) -> bool:
        """Return whether the device has used the whole batch."""
        return len(self._walk()[2]) == self._batch

    def finish(self) -> None:
        """Take the batch back.

        Raises:
            RequestFailedError: a request failed, or another one than was asked came back.
        """
        self._used, self._used_wrap, returned = self._walk()
        _check_batch(sorted(returned), list(range(self._batch)))
        for slot in self._layout.slots[: self._batch]:
            slot.check(self._memory)


def _packed(buffer: Descriptor, identity: int, flags: int) -> bytes:
    return struct.pack("<QIHH", buffer.address, buffer.length, identity, flags)


def _check_batch(returned: list[int], asked: list[int]) -> None:
    if returned != asked:
        raise RequestFailedError(f"the device returned the requests {returned}, asked were {asked}")
