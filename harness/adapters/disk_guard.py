"""Stands between a run and somebody's data: no device is written that is in use, or is not the named one."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.adapters.host.block_devices import BlockDevices
from harness.core.device_use import BY_ID, problems_of_taking, problems_of_writing, remarks_on_reading
from harness.core.errors import InputError, Problem
from harness.core.experiment.write_checks import writes
from harness.core.model import Backend

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.core.experiment import Experiment
    from harness.core.experiment.machine import Disk

_PATIENCE_SECONDS = 10.0
"""For the host's driver and udev to have a device back that a guest had."""

_LOOK_SECONDS = 0.2


@dataclass(slots=True)
class DiskGuard:
    """Checks the devices of an experiment, and checks them again before each guest.

    Attributes:
        experiment: whose disks.
        source: what to call its file.
        processes: whether processes that hold a device open count; not while this run's own do.
        devices: the host's.
    """

    experiment: Experiment
    source: str
    processes: bool = True
    devices: BlockDevices = field(default_factory=BlockDevices)
    _known: dict[str, tuple[str | None, ...]] = field(default_factory=dict)

    def check(self, *, privileged: bool = True) -> list[str]:
        """Look at every device of the experiment.

        Args:
            privileged: fail where this user may not look; otherwise leave that out, as before a run.

        Returns:
            What will disturb reads, in sentences.

        Raises:
            InputError: with everything that speaks against using a device.
            HarnessError: a device cannot be looked at.
        """
        problems: list[Problem] = []
        remarks: list[str] = []
        for disk in self._disks():
            look = self._block if disk.backend is Backend.BLOCK else self._nvme
            for found in look(disk, privileged=privileged):
                if isinstance(found, Problem):
                    problems.append(found)
                else:
                    remarks.append(found)
        if problems:
            raise InputError(list(dict.fromkeys(problems)))
        return list(dict.fromkeys(remarks))

    def check_again(self) -> None:
        """Look again, right before a guest starts: it has to be the same device, still unused.

        Raises:
            InputError: likewise.
            HarnessError: likewise.
        """
        # udev needs a moment to look at what was just closed, and at a device that the host has got back.
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                self.check()
            except InputError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_LOOK_SECONDS)
            else:
                return

    def _disks(self) -> Iterator[Disk]:
        for config in self.experiment.guest_configs():
            disk = self.experiment.for_guest(config).disk
            if disk.path is not None and disk.backend in {Backend.BLOCK, Backend.NVME}:
                yield disk

    @property
    def _where(self) -> str:
        return f"{self.source}: disk.path"

    def _block(self, disk: Disk, *, privileged: bool) -> Iterator[Problem | str]:
        path = disk.path or ""
        try:
            name = self.devices.name_of(Path(path))
        except OSError as error:
            yield Problem(self._where, f"{path}: {error.strerror}", "check the path")
            return
        known = self._known.setdefault(path, self.devices.identity(name))
        if known != self.devices.identity(name):
            yield Problem(
                self._where,
                f"{path} is another device than at the start of the run",
                "start a new run, if this one may be used",
            )
        uses = self.devices.uses(name, processes=self.processes, privileged=privileged)
        if writes(self.experiment):
            yield from problems_of_writing(path, uses, self._where)
        else:
            yield from remarks_on_reading(path, uses)

    def _nvme(self, disk: Disk, *, privileged: bool) -> Iterator[Problem | str]:
        address = disk.path or ""
        if not (self.devices.root / "sys/bus/pci/devices" / address).exists():
            yield Problem(
                self._where, f"there is no PCI device {address}", "write path: as lspci -D shows it"
            )
            return
        names = self.devices.namespaces(address)
        writing = writes(self.experiment)
        if writing:
            yield from self._named(disk, names)
        judge = problems_of_writing if writing else problems_of_taking
        # QEMU takes the whole device, whichever of its namespaces the guest sees.
        for name in names:
            uses = self.devices.uses(name, processes=self.processes, privileged=privileged)
            yield from judge(f"{address} ({name})", uses, self._where)

    def _named(self, disk: Disk, names: list[str]) -> Iterator[Problem]:
        where, named = f"{self.source}: disk.destroy_data", disk.destroy_data or ""
        try:
            name = self.devices.name_of(Path(named))
        except OSError as error:
            if names:
                yield Problem(where, f"{named}: {error.strerror}", f"check the path: ls -l {BY_ID}")
            else:
                yield Problem(
                    where,
                    f"{named}: {error.strerror}; the host's nvme driver does not have {disk.path}",
                    "give it back to that driver (virsh nodedev-reattach), so that its name can be checked",
                )
            return
        if name not in names:
            there = ", ".join(names) or "nothing that the host's driver has"
            message = f"{named} is {name}, and at {disk.path} is {there}"
            yield Problem(where, message, "name the same device twice")
