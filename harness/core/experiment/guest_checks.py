"""What contradicts itself about the guest: where it comes from, and how it is reached."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.core.experiment.finding import Finding
from harness.core.experiment.machine import MICRO
from harness.core.model import Connection, Workload

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.core.experiment.model import Experiment


def contradictions(experiment: Experiment) -> Iterator[Finding]:
    """Find what contradicts itself about the guest."""
    if experiment.guest.disk_image is None:
        yield from _without_disk(experiment)
    else:
        yield from _image(experiment)
        yield from _reached(experiment)


def _without_disk(experiment: Experiment) -> Iterator[Finding]:
    guest = experiment.guest
    if guest.connection is Connection.SSH:
        yield Finding(
            (("guest", "connection"), ("guest", "image")),
            f"{guest.image} has neither a network nor sshd",
            "write connection: agent, or name a disk image: image: /path/to/disk.qcow2",
        )
    for key in ("ssh", "prepare"):
        if getattr(guest, key) != type(guest).model_fields[key].default:
            yield Finding(
                (("guest", key), ("guest", "image")),
                f"it means nothing to the image {guest.image}",
                "remove it, or name a disk image: image: /path/to/disk.qcow2",
            )


def _image(experiment: Experiment) -> Iterator[Finding]:
    guest = experiment.guest
    if not guest.image.startswith("/"):
        yield Finding(
            (("guest", "image"),),
            f"{guest.image!r} is neither {MICRO} nor an absolute path",
            f"write image: {MICRO}, or the path of a qcow2 or raw disk image from /",
        )
    if guest.kernel is None and guest.cmdline:
        yield Finding(
            (("guest", "cmdline"), ("guest", "kernel")),
            "the image's own boot loader gives its kernel the command line",
            "give guest.kernel and guest.initrd too (cmdline then needs root=...), or remove cmdline",
        )
    if experiment.workload is not Workload.FIO_MATRIX:
        yield Finding(
            (("guest", "image"), ("workload",)),
            f"the workload {experiment.workload} boots no disk image",
            f"write image: {MICRO}, or workload: {Workload.FIO_MATRIX}",
        )


def _reached(experiment: Experiment) -> Iterator[Finding]:
    guest = experiment.guest
    if guest.ssh is not None and not guest.reached_by_ssh:
        yield Finding(
            (("guest", "ssh"), ("guest", "connection"), ("guest", "prepare")),
            "SSH is not used: the guest is reached by its agent and not prepared",
            "write connection: ssh or prepare: true, or remove ssh",
        )
