"""The device's side of a virtqueue, and a PCI bus with such a device: what the driver is tested against."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

NEXT, WRITE, INDIRECT = 1, 2, 4
AVAIL, USED = 1 << 7, 1 << 15


@dataclass
class Seen:
    """A request as the device understood it."""

    kind: int
    sector: int
    length: int
    data_is_written: bool


def _read_chain(memory: bytearray, buffers: list[tuple[int, int, int]], *, status: int) -> Seen:
    (header, header_length, header_flags), (_, length, flags), (place, one, status_flags) = buffers
    assert (header_length, one) == (16, 1)
    assert not header_flags & WRITE
    assert status_flags & WRITE
    kind, _reserved, sector = struct.unpack_from("<IIQ", memory, header)
    memory[place] = status
    return Seen(kind, sector, length, bool(flags & WRITE))


@dataclass
class SplitDevice:
    """Serves a split virtqueue, in any order it likes."""

    memory: bytearray
    size: int
    descriptors: int
    driver: int
    device: int
    seen: list[Seen] = field(default_factory=list)
    _served: int = 0

    def serve(self, *, backwards: bool = False, status: int = 0) -> None:
        (index,) = struct.unpack_from("<H", self.memory, self.driver + 2)
        heads = []
        while self._served != index:
            place = self.driver + 4 + 2 * (self._served % self.size)
            heads.append(struct.unpack_from("<H", self.memory, place)[0])
            self._served = (self._served + 1) % 2**16
        (used,) = struct.unpack_from("<H", self.memory, self.device + 2)
        seen = [(head, _read_chain(self.memory, self._chain(head), status=status)) for head in heads]
        self.seen += [request for _head, request in seen]
        for head, _request in reversed(seen) if backwards else seen:
            struct.pack_into("<II", self.memory, self.device + 4 + 8 * (used % self.size), head, 1)
            used = (used + 1) % 2**16
        struct.pack_into("<H", self.memory, self.device + 2, used)

    def _chain(self, head: int) -> list[tuple[int, int, int]]:
        table, number, found = self.descriptors, head, list[tuple[int, int, int]]()
        while True:
            address, length, flags, following = struct.unpack_from("<QIHH", self.memory, table + 16 * number)
            if flags & INDIRECT:
                assert length % 16 == 0
                table, number = address, 0
                continue
            found.append((address, length, flags))
            if not flags & NEXT:
                return found
            number = following


@dataclass
class PackedDevice:
    """Serves a packed virtqueue in order."""

    memory: bytearray
    size: int
    descriptors: int
    seen: list[Seen] = field(default_factory=list)
    _next: int = 0
    _wrap: bool = True

    def serve(self, *, status: int = 0) -> None:
        while (taken := self._take()) is not None:
            buffers, identity, count = taken
            self.seen.append(_read_chain(self.memory, buffers, status=status))
            flags = (AVAIL | USED) if self._wrap else 0
            struct.pack_into("<IHH", self.memory, self._at(self._next) + 8, 1, identity, flags)
            self._next += count
            if self._next >= self.size:
                self._next, self._wrap = self._next - self.size, not self._wrap

    def _at(self, place: int) -> int:
        return self.descriptors + 16 * place

    def _take(self) -> tuple[list[tuple[int, int, int]], int, int] | None:
        place, wrap, found = self._next, self._wrap, list[tuple[int, int, int]]()
        while True:
            address, length, identity, flags = struct.unpack_from("<QIHH", self.memory, self._at(place))
            if bool(flags & AVAIL) is not wrap or bool(flags & USED) is wrap:
                assert not found, "the driver handed over the first descriptor before the others"
                return None
            place += 1
            if place == self.size:
                place, wrap = 0, not wrap
            if flags & INDIRECT:
                return self._table(address, length), identity, 1
            found.append((address, length, flags))
            if not flags & NEXT:
                return found, identity, len(found)

    def _table(self, address: int, length: int) -> list[tuple[int, int, int]]:
        entries = [struct.unpack_from("<QIHH", self.memory, address + at) for at in range(0, length, 16)]
        return [(place, size, flags) for place, size, _identity, flags in entries]


@dataclass
class PciBus:
    """A root bus with one modern virtio device, whose registers appear where its BAR is put."""

    slot: int = 4
    vendor: int = 0x1AF4
    offered: int = 1 << 32 | 1 << 28
    largest: int = 256
    sectors: int = 2048
    accepts: bool = True
    capabilities: bool = True
    circle: bool = False
    registers: dict[int, int] = field(default_factory=dict)
    queue: dict[int, int] = field(default_factory=dict)
    kicks: list[int] = field(default_factory=list)
    config: bytearray = field(default_factory=lambda: bytearray(256))
    _address: int = 0
    _half: int = 0
    accepted: int = 0

    def __post_init__(self) -> None:
        struct.pack_into("<HH", self.config, 0, self.vendor, 0x1042)
        struct.pack_into("<I", self.config, 0x20, 0xC)
        if not self.capabilities:
            return
        self.config[0x34] = 0x40
        # Something that is no vendor capability, then common, notify, device.
        self.config[0x40:0x42] = bytes([0x11, 0x50])
        for number, kind, offset, following in (
            (0x50, 1, 0, 0x60),
            (0x60, 2, 0x3000, 0x80),
            (0x80, 4, 0x2000, 0x40 if self.circle else 0),
        ):
            self.config[number : number + 5] = bytes([9, following, 16, kind, 4])
            struct.pack_into("<I", self.config, number + 8, offset)
        struct.pack_into("<I", self.config, 0x60 + 16, 4)

    def read_port(self, width: int, address: int) -> int:
        if self._address >> 11 & 31 != self.slot:
            return (1 << 8 * width) - 1
        place = (self._address & 0xFC) + address - 0xCFC
        return int.from_bytes(self.config[place : place + width], "little")

    def write_port(self, width: int, address: int, value: int) -> None:
        if address == 0xCF8:
            self._address = value
            return
        place = (self._address & 0xFC) + address - 0xCFC
        if place == 0x20:
            value |= 0xC
        self.config[place : place + width] = value.to_bytes(width, "little")

    @property
    def base(self) -> int:
        return int.from_bytes(self.config[0x20:0x24], "little") & ~0xF

    def read_memory(self, width: int, address: int) -> int:
        offset = address - self.base
        if offset >= 0x2000:
            return self.sectors >> 8 * (offset - 0x2000) & (1 << 8 * width) - 1
        if offset == 0x04:
            return self.offered >> 32 * self.registers.get(0, 0) & 0xFFFFFFFF
        if offset == 0x14:
            status = self.registers.get(0x14, 0)
            return status if self.accepts else status & ~8
        return {0x18: self.largest, 0x1E: 2}.get(offset, self.registers.get(offset, 0))

    def write_memory(self, width: int, address: int, value: int) -> None:
        assert value < 1 << 8 * width
        offset = address - self.base
        if offset >= 0x3000:
            self.kicks.append(offset - 0x3000)
        elif offset == 0x0C:
            self.accepted |= value << 32 * self.registers.get(8, 0)
        else:
            self.registers[offset] = value
