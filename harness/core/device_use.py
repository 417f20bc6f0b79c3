"""What speaks against handing a block device to a guest: each use of it a problem with a remedy."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from harness.core.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

BY_ID = "/dev/disk/by-id/"
"""Names that hold the device's own serial number: they do not change from boot to boot."""


class UseKind(StrEnum):
    """How a block device is used."""

    MOUNTED = "mounted"
    SWAP = "swap"
    HELD = "held"
    LOOP = "loop"
    CLAIMED = "claimed"
    OPEN = "open"
    SIGNATURE = "signature"
    READ_ONLY = "read-only"


@dataclass(frozen=True, slots=True)
class Use:
    """One use of a device.

    Attributes:
        kind: what kind of use.
        device: the kernel's name of the device, of a partition of it or of what is stacked upon it.
        detail: where, by whom, or what was found.
    """

    kind: UseKind
    device: str
    detail: str


_SHARED = frozenset({UseKind.MOUNTED, UseKind.SWAP, UseKind.HELD, UseKind.LOOP, UseKind.OPEN})
"""What goes on beside a measurement that only reads, and disturbs it."""

_HOST_LOSES = _SHARED | {UseKind.CLAIMED}
"""What would break when the host's driver gave the device up, also if nothing were written."""


def problems_of_writing(path: str, uses: Iterable[Use], where: str) -> list[Problem]:
    """Return everything that speaks against overwriting a device, each with its remedy."""
    return [_problem(path, use, where) for use in uses]


def problems_of_taking(path: str, uses: Iterable[Use], where: str) -> list[Problem]:
    """Return what speaks against taking a device from the host's driver, only to read it."""
    return [_problem(path, use, where) for use in uses if use.kind in _HOST_LOSES]


def remarks_on_reading(path: str, uses: Iterable[Use]) -> list[str]:
    """Return what will disturb a measurement that only reads; to the data it does no harm."""
    found = [use for use in uses if use.kind in _SHARED]
    return [f"{path}: {_what(use)}: what is done there is measured too" for use in found]


def _problem(path: str, use: Use, where: str) -> Problem:
    remedy = _REMEDY[use.kind].format(device=use.device, detail=use.detail)
    return Problem(where, f"{path}: {_what(use)}", remedy)


def _what(use: Use) -> str:
    return f"{use.device} {_WHAT[use.kind].format(detail=use.detail)}"


_WHAT = {
    UseKind.MOUNTED: "is mounted on {detail}",
    UseKind.SWAP: "is used as swap",
    UseKind.HELD: "is part of {detail}",
    UseKind.LOOP: "is behind the loop device {detail}",
    UseKind.CLAIMED: "is claimed by somebody else (a file system, RAID, LVM or ZFS)",
    UseKind.OPEN: "is held open by {detail}",
    UseKind.SIGNATURE: "holds {detail}",
    UseKind.READ_ONLY: "is read-only",
}
_REMEDY = {
    UseKind.MOUNTED: "is it the right device? If so: umount {detail}",
    UseKind.SWAP: "is it the right device? If so: swapoff /dev/{device}",
    UseKind.HELD: "is it the right device? If so, take it out there (vgreduce, mdadm --stop, dmsetup remove)",
    UseKind.LOOP: "losetup -d {detail}",
    UseKind.CLAIMED: "is it the right device? If so, end what claims it (zpool export, mdadm --stop, umount)",
    UseKind.OPEN: "end that process: two users of one device destroy each other's data",
    UseKind.SIGNATURE: "is it the right device? If nothing on it is needed, wipe it by your own hand: "
    "wipefs -a /dev/{device}",
    UseKind.READ_ONLY: "use another device, or blockdev --setrw /dev/{device}",
}
