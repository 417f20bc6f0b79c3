"""What a guest asks of libvirt and QEMU, and whether the versions at hand can do it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.core.errors import Problem
from harness.core.model import Aio, Backend

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from harness.core.domain_specs import DomainSpec

_VERSION = re.compile(r"([0-9]+)\.([0-9]+)(?:\.([0-9]+))?")


@dataclass(frozen=True, slots=True)
class Requirement:
    """A feature a guest uses, with the versions that brought it.

    Attributes:
        feature: in words.
        setting: the experiment's key that asks for it.
        libvirt: the least version; None when any will do.
        qemu: the least version; None when any will do.
    """

    feature: str
    setting: str
    libvirt: tuple[int, int, int] | None = None
    qemu: tuple[int, int] | None = None


def qemu_version(text: str) -> tuple[int, int, int] | None:
    """Return the version in QEMU's version line (``QEMU emulator version 7.2.22 (Debian ...)``)."""
    match = _VERSION.search(text)
    return (int(match[1]), int(match[2]), int(match[3] or 0)) if match else None


def requirements(spec: DomainSpec) -> tuple[Requirement, ...]:
    """Return what a guest needs that not every libvirt and QEMU has."""
    return tuple(dict.fromkeys(_requirements(spec)))


def _requirements(spec: DomainSpec) -> Iterator[Requirement]:
    if any(iothread.polls for iothread in spec.iothreads):
        yield Requirement("polling of IOThreads (<poll>)", "disk.poll", libvirt=(9, 4, 0))
    if spec.cpu == "maximum":
        yield Requirement("the CPU mode maximum", "guest.cpu", libvirt=(7, 1, 0))
    for disk in spec.disks:
        if disk.mapping:
            # For null-co the mapping goes to QEMU past libvirt.
            libvirt = None if disk.backend is Backend.NULL_CO else (10, 0, 0)
            feature = "spreading virtio queues over IOThreads"
            yield Requirement(feature, "disk.iothread_mapping", libvirt=libvirt, qemu=(9, 0))
        if disk.backend is Backend.NULL_CO:
            continue
        yield Requirement("a queue size of its own (queue_size)", "disk.queue_size", libvirt=(7, 8, 0))
        if disk.backend is Backend.NVME:
            yield Requirement("NVMe devices without the host's driver", "disk.backend", libvirt=(6, 0, 0))
        elif disk.aio is Aio.IO_URING:
            yield Requirement("io_uring", "disk.aio", libvirt=(6, 3, 0), qemu=(5, 0))


def unmet(
    needed: Iterable[Requirement],
    libvirt_version: tuple[int, ...],
    qemu_version: tuple[int, ...],
    *,
    build: str = "QEMU",
) -> list[Problem]:
    """Return what the versions at hand cannot do, each with the version it needs.

    Args:
        needed: of the guest.
        libvirt_version: the libvirt that starts it.
        qemu_version: the build that runs it.
        build: what to call the build in messages (the variant's name).
    """
    problems: list[Problem] = []
    for requirement in needed:
        if requirement.libvirt and tuple(libvirt_version) < requirement.libvirt:
            have, need = _dotted(libvirt_version), _dotted(requirement.libvirt)
            problems.append(
                Problem(
                    requirement.setting,
                    f"{requirement.feature} needs libvirt {need}, here is {have}",
                    f"install libvirt {need} or newer (on Debian from backports), or leave the setting out",
                )
            )
        if requirement.qemu and tuple(qemu_version) < requirement.qemu:
            have, need = _dotted(qemu_version), _dotted(requirement.qemu)
            problems.append(
                Problem(
                    requirement.setting,
                    f"{requirement.feature} needs QEMU {need}, {build} is {have}",
                    f"compare builds from {need} on, or leave the setting out",
                )
            )
    return problems


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version)
