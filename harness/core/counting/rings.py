"""Virtqueues in guest memory, split and packed, filled with virtio-blk requests (virtio 1.2: 2.7, 2.8)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Protocol

from harness.core.counting.queue_memory import CHAIN, DESCRIPTOR_BYTES, Descriptor, RequestFailedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.core.counting.queue_memory import Memory, QueueLayout, Request, RequestType, Slot

_NEXT, _WRITE, _INDIRECT = 1, 2, 4
_AVAIL, _USED = 1 << 7, 1 << 15


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
        place = self._layout.addresses.descriptors + head * DESCRIPTOR_BYTES
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
            table = Descriptor(slot.table, CHAIN * DESCRIPTOR_BYTES, writes=False)
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
        address = self._layout.addresses.descriptors + place * DESCRIPTOR_BYTES
        # Everything but the flags first: they hand the descriptor over.
        self._memory[address : address + 14] = descriptor[:14]
        self._memory[address + 14 : address + 16] = descriptor[14:]

    def _walk(self) -> tuple[int, bool, list[int]]:
        """Follow the used descriptors of a batch; return where that ends, and the requests they name."""
        place, wrap, found = self._used, self._used_wrap, list[int]()
        while len(found) < self._batch:
            address = self._layout.addresses.descriptors + place * DESCRIPTOR_BYTES
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
