"""What a run begins with: its directory, and what has to be so before anything boots."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from harness import __version__
from harness.adapters.files import sha256_of
from harness.adapters.host.facts import environment
from harness.adapters.results.store import RunDirectory
from harness.core.capabilities import qemu_version, requirements, unmet
from harness.core.errors import HarnessError, InputError, Problem
from harness.core.model import Accel, BuildRecord, GuestImage
from harness.core.planning import PlannedSession
from harness.core.records import FORMAT_VERSION, RunRecord, RunState
from harness.core.run_ids import run_id_of
from harness.shell.declare import Declared, plan_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.adapters.lab import LibvirtLab
    from harness.adapters.manifest import Manifest
    from harness.core.experiment import Experiment


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What a run does beside the experiment.

    Attributes:
        ceiling: first measure the disk on the host without a guest.
        noise_floor: an A/A run of this host, to be shown beside the results.
        max_map_count: what vm.max_map_count is set to for the run; None leaves the host's.
    """

    ceiling: bool = False
    noise_floor: Path | None = None
    max_map_count: int | None = None


def new_run_id(experiment: Experiment) -> str:
    """Return the id of a run that begins now on this host; those of a fleet begin together."""
    return run_id_of(experiment.name, datetime.now(UTC), platform.node())


def new_run(
    declared: Declared,
    directory: Path,
    *,
    builds: Mapping[str, BuildRecord],
    options: RunOptions,
    accel: Accel,
    accel_reason: str,
    run_id: str | None = None,
    image: GuestImage | None = None,
    libvirt: str | None = None,
) -> RunDirectory:
    """Make the directory of a run that begins now.

    Args:
        declared: the experiment.
        directory: the new directory.
        builds: provisioned, by variant.
        options: of the run.
        accel: as decided.
        accel_reason: why.
        run_id: its id; a new one if absent.
        image: the guest image; None where there is no guest.
        libvirt: the version that starts guests; None likewise.

    Raises:
        InputError: the directory cannot become a run directory.
    """
    experiment = declared.experiment
    record = RunRecord(
        format_version=FORMAT_VERSION,
        run_id=run_id or new_run_id(experiment),
        name=experiment.name,
        state=RunState.RUNNING,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        harness_version=__version__,
        accel=accel,
        accel_reason=accel_reason,
        builds={name: asdict(build) for name, build in builds.items()},
        guest_image=asdict(image) if image else {},
        noise_floor=str(options.noise_floor.absolute()) if options.noise_floor else None,
        max_map_count=options.max_map_count,
    )
    return RunDirectory.create(
        directory,
        record=record,
        experiment=declared.text,
        plan=plan_of(experiment),
        environment={**environment(), "libvirt": libvirt, "harness": __version__},
    )


def check_requirements(declared: Declared, lab: LibvirtLab) -> None:
    """Refuse, before anything boots, what this libvirt or one of the builds cannot do.

    Raises:
        InputError: with every such setting and the version it needs.
    """
    problems: list[Problem] = []
    for config in declared.experiment.guest_configs():
        for name, build in lab.builds.items():
            spec = lab.domain_spec(PlannedSession(0, 0, name, config, ()), Path("/dev/null"))
            version = qemu_version(build.version) or (0, 0, 0)
            problems += unmet(requirements(spec), lab.hypervisor.version.parts, version, build=name)
    if problems:
        found = [replace(problem, where=f"{declared.source}: {problem.where}") for problem in problems]
        raise InputError(list(dict.fromkeys(found)))


def check_unchanged(builds: dict[str, BuildRecord]) -> None:
    """Refuse to go on with a build that is not the one the run began with.

    Raises:
        HarnessError: a binary is gone or differs.
    """
    for build in builds.values():
        try:
            found = sha256_of(build.binary)
        except OSError as error:
            raise HarnessError(
                f"{build.name}: {build.binary}: {error.strerror}", remedy="run `harness provision` again"
            ) from error
        if found != build.sha256:
            raise HarnessError(
                f"{build.name}: {build.binary} changed since the run began: "
                f"{build.sha256[:12]}, now {found[:12]}",
                remedy="start a new run: one run measures one binary a variant",
            )


def guest_image(experiment: Experiment, provisioned: Manifest) -> GuestImage:
    """Return the guest image: the user's own kernel and initramfs, or the provisioned one.

    Of a disk image there is nothing to say before its copy is made.

    Raises:
        InputError: there is none.
    """
    guest = experiment.guest
    if guest.disk_image:
        return GuestImage("", "", "", "unknown", "unknown", source=guest.disk_image)
    if guest.kernel and guest.initrd:
        return GuestImage(guest.kernel, guest.initrd, "", "unknown", "unknown")
    if provisioned.guest_image is None:
        raise InputError.single("guest.image", "was not provisioned", "run `harness provision EXPERIMENT`")
    return provisioned.guest_image
