"""A modern virtio PCI device as a driver sees it: found by its capabilities, placed, started.

Follows the virtio specification 1.2, chapters 3.1 (initialization) and 4.1 (PCI). The accesses go through a
bus, which a driver in a guest would reach by instructions and this project by the qtest protocol.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

VIRTIO_VENDOR = 0x1AF4

_CONFIG_ADDRESS, _CONFIG_DATA = 0xCF8, 0xCFC
_COMMAND, _BARS, _CAPABILITIES = 0x04, 0x10, 0x34
_MEMORY_AND_MASTER = 0x6
_VENDOR_CAPABILITY = 0x09
_SLOWEST_RESET = 1000


class Feature(IntEnum):
    """Feature bits that the driver knows, by their number."""

    INDIRECT_DESC = 28
    VERSION_1 = 32
    RING_PACKED = 34
    BLK_MQ = 12


class Status(IntFlag):
    """The device status register."""

    ACKNOWLEDGE = 1
    DRIVER = 2
    DRIVER_OK = 4
    FEATURES_OK = 8
    NEEDS_RESET = 64
    FAILED = 128


class _Kind(IntEnum):
    """Which structure a vendor capability tells the place of."""

    COMMON = 1
    NOTIFY = 2
    DEVICE = 4


class DeviceRefusedError(Exception):
    """The device is not there, or refuses what the driver asks."""


class Bus(Protocol):
    """Reads and writes of ports and of physical memory, little-endian."""

    def read_port(self, width: int, address: int) -> int:
        """Return ``width`` bytes of an I/O port."""

    def write_port(self, width: int, address: int, value: int) -> None:
        """Write ``width`` bytes to an I/O port."""

    def read_memory(self, width: int, address: int) -> int:
        """Return ``width`` bytes of physical memory."""

    def write_memory(self, width: int, address: int, value: int) -> None:
        """Write ``width`` bytes to physical memory."""


@dataclass(frozen=True, slots=True)
class PciSlot:
    """A device on the root bus, reached through the configuration ports that pc and q35 both have."""

    bus: Bus
    slot: int

    def read(self, width: int, offset: int) -> int:
        """Return ``width`` bytes of the configuration space."""
        self._select(offset)
        return self.bus.read_port(width, _CONFIG_DATA + offset % 4)

    def write(self, width: int, offset: int, value: int) -> None:
        """Write ``width`` bytes of the configuration space."""
        self._select(offset)
        self.bus.write_port(width, _CONFIG_DATA + offset % 4, value)

    def _select(self, offset: int) -> None:
        self.bus.write_port(4, _CONFIG_ADDRESS, 1 << 31 | self.slot << 11 | offset & ~3)

    def vendor_capabilities(self) -> Iterator[int]:
        """Yield the offset of each vendor capability; a list that runs in circles ends."""
        offset, seen = self.read(1, _CAPABILITIES), set[int]()
        while offset and offset not in seen:
            seen.add(offset)
            if self.read(1, offset) == _VENDOR_CAPABILITY:
                yield offset
            offset = self.read(1, offset + 1)


@dataclass(frozen=True, slots=True)
class QueueAddresses:
    """Where the three parts of a virtqueue lie in guest memory."""

    descriptors: int
    driver: int
    device: int


@dataclass(frozen=True, slots=True)
class Doorbell:
    """The register that tells the device of new requests in one queue."""

    bus: Bus
    address: int
    queue: int

    def ring(self) -> None:
        """Kick the queue."""
        self.bus.write_memory(2, self.address, self.queue)


class VirtioPci:
    """The driver's side of one modern virtio PCI device.

    Args:
        bus: how the device is reached.
        slot: the device's number on the root bus.
        base: where in physical memory its registers may be put (64 KiB, free and aligned).

    Raises:
        DeviceRefusedError: there is no modern virtio device at that slot.
    """

    def __init__(self, bus: Bus, slot: int, base: int) -> None:
        self._bus = bus
        self._slot = PciSlot(bus, slot)
        vendor = self._slot.read(2, 0)
        if vendor != VIRTIO_VENDOR:
            raise DeviceRefusedError(f"slot {slot} holds no virtio device (vendor {vendor:#06x})")
        places = self._places()
        missing = [kind.name.lower() for kind in _Kind if kind not in places]
        if missing:
            raise DeviceRefusedError(
                f"slot {slot} is no modern virtio device: no {', '.join(missing)} structure"
            )
        self._multiplier = self._slot.read(4, places[_Kind.NOTIFY][2] + 16)
        bars = self._place_bars({bar for bar, _offset, _capability in places.values()}, base)
        self._slot.write(2, _COMMAND, self._slot.read(2, _COMMAND) | _MEMORY_AND_MASTER)
        self._common, self._notify, self._config = (
            bars[places[kind][0]] + places[kind][1] for kind in (_Kind.COMMON, _Kind.NOTIFY, _Kind.DEVICE)
        )

    def _places(self) -> dict[_Kind, tuple[int, int, int]]:
        """Return each structure's BAR, offset in it, and capability; the first of a kind counts."""
        found: dict[_Kind, tuple[int, int, int]] = {}
        for capability in self._slot.vendor_capabilities():
            number = self._slot.read(1, capability + 3)
            if number in {kind.value for kind in _Kind}:
                place = (self._slot.read(1, capability + 4), self._slot.read(4, capability + 8), capability)
                found.setdefault(_Kind(number), place)
        return found

    def _place_bars(self, wanted: set[int], base: int) -> dict[int, int]:
        placed: dict[int, int] = {}
        for bar in sorted(wanted):
            register = _BARS + 4 * bar
            is_64_bit = self._slot.read(4, register) & 0x6 == 0x4  # noqa: PLR2004 - the type bits of a BAR
            self._slot.write(4, register, base)
            if is_64_bit:
                self._slot.write(4, register + 4, 0)
            placed[bar] = base
            base += 2**16
        return placed

    # -- initialization -----------------------------------------------------------------------------------

    def negotiate(self, wanted: set[Feature]) -> None:
        """Reset the device and agree on features: exactly the wanted ones.

        Raises:
            DeviceRefusedError: it does not offer one of them, or does not accept the set.
        """
        self._write(1, 0x14, 0)
        for _ in range(_SLOWEST_RESET):
            if self.status == 0:
                break
        self._write(1, 0x14, Status.ACKNOWLEDGE | Status.DRIVER)
        offered = self._features()
        missing = sorted(feature.name for feature in wanted if not offered >> feature & 1)
        if missing:
            self._write(1, 0x14, Status.FAILED)
            raise DeviceRefusedError(
                f"the device does not offer {', '.join(missing)} (it offers {offered:#x})"
            )
        bits = sum(1 << feature for feature in wanted)
        for half in (0, 1):
            self._write(4, 0x08, half)
            self._write(4, 0x0C, bits >> 32 * half & 0xFFFFFFFF)
        self._write(1, 0x14, Status.ACKNOWLEDGE | Status.DRIVER | Status.FEATURES_OK)
        if not self.status & Status.FEATURES_OK:
            names = ", ".join(sorted(feature.name for feature in wanted))
            raise DeviceRefusedError(f"the device refuses the features {names}")

    def _features(self) -> int:
        offered = 0
        for half in (0, 1):
            self._write(4, 0x00, half)
            offered |= self._read(4, 0x04) << 32 * half
        return offered

    def start_queue(self, queue: int, size: int, addresses: QueueAddresses) -> Doorbell:
        """Tell the device where a queue lies and enable it; returns what kicks it.

        Raises:
            DeviceRefusedError: the device has no such queue, or none so large.
        """
        self._write(2, 0x16, queue)
        largest = self._read(2, 0x18)
        if largest < size:
            raise DeviceRefusedError(f"queue {queue} holds at most {largest} descriptors, not {size}")
        self._write(2, 0x18, size)
        parts = (addresses.descriptors, addresses.driver, addresses.device)
        for register, address in zip((0x20, 0x28, 0x30), parts, strict=True):
            self._write(4, register, address & 0xFFFFFFFF)
            self._write(4, register + 4, address >> 32)
        self._write(2, 0x1C, 1)
        offset = self._read(2, 0x1E) * self._multiplier
        return Doorbell(self._bus, self._notify + offset, queue)

    def start(self) -> None:
        """Tell the device that the driver is ready.

        Raises:
            DeviceRefusedError: the device says that it is broken.
        """
        ready = Status.ACKNOWLEDGE | Status.DRIVER | Status.FEATURES_OK | Status.DRIVER_OK
        self._write(1, 0x14, ready)
        if self.status != ready:
            raise DeviceRefusedError(f"the device does not start: its status is {self.status:#x}")

    @property
    def sectors(self) -> int:
        """The capacity of a block device in sectors of 512 bytes."""
        low, high = (self._bus.read_memory(4, self._config + offset) for offset in (0, 4))
        return low | high << 32

    @property
    def status(self) -> int:
        """The device status register."""
        return self._read(1, 0x14)

    def _read(self, width: int, register: int) -> int:
        return self._bus.read_memory(width, self._common + register)

    def _write(self, width: int, register: int, value: int) -> None:
        self._bus.write_memory(width, self._common + register, value)
