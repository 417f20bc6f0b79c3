"""Puts the adapters together: from a declared experiment to a finished run directory."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.adapters.ceiling import measure_ceiling
from harness.adapters.disk_guard import DiskGuard
from harness.adapters.disks import prepare_disks
from harness.adapters.files import make_directory
from harness.adapters.guest.disk_guest import disk_guest
from harness.adapters.host import accel as accel_probe
from harness.adapters.host.facts import environment
from harness.adapters.host.locks import IMPATIENT, Patience
from harness.adapters.lab import LibvirtLab, Timeouts
from harness.adapters.manifest import Manifest
from harness.adapters.waiting import Stop, SystemClock
from harness.core.errors import HarnessError
from harness.core.experiment import Experiment, load_experiment
from harness.core.model import Accel, BuildRecord, GuestImage, Workload
from harness.core.planning import PlannedSession
from harness.core.records import RunState
from harness.resources import resource_dir
from harness.shell.accepting import fio_judge, round_judge
from harness.shell.beginning import (
    RunOptions,
    check_requirements,
    check_unchanged,
    guest_image,
    new_run,
    new_run_id,
)
from harness.shell.campaign import Campaign, Outcome
from harness.shell.cleaning import clean_hypervisor
from harness.shell.preparing import Preparation, check_image_unchanged, check_networks
from harness.shell.quieting import host_for_run, watched
from harness.shell.stopping import stopping_rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.adapters.host.accel import AccelDecision
    from harness.adapters.hypervisor import Hypervisor
    from harness.adapters.playbook_events import TaskEvent
    from harness.adapters.results.store import RunDirectory
    from harness.adapters.workspace import Workspace
    from harness.shell.declare import Declared
    from harness.shell.events import Event


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs experiments on this host.

    Attributes:
        say: told, in a sentence, what takes time.
        emit: told what happens during a run.
        on_task: hears of the tasks of the playbook that prepares a guest.
        patience: how long to wait while somebody else measures here.
    """

    workspace: Workspace
    stop: Stop
    say: Callable[[str], None]
    emit: Callable[[Event], None]
    on_task: Callable[[TaskEvent], None] = lambda _event: None
    patience: Patience = IMPATIENT

    def start(
        self, declared: Declared, provisioned: Manifest, directory: Path, options: RunOptions
    ) -> tuple[RunDirectory, Outcome]:
        """Run an experiment into a new run directory.

        Raises:
            HarnessError: it could not begin, or could not go on; the directory keeps what was measured.
        """
        experiment = declared.experiment
        with (
            self._host(experiment, options.max_map_count) as hypervisor,
            contextlib.ExitStack() as stack,
        ):
            run_id = new_run_id(experiment)
            lab = self._guarded(self._lab(hypervisor, experiment, run_id, provisioned), declared.source)
            check_requirements(declared, lab)
            lab = self._on_disk(self._image_ready(lab, declared.source), stack)
            decision = self.decide_accel(experiment.accel, lab)
            if options.noise_floor is not None:
                from harness.shell.noise_floor import check_applies, open_floor, place_of

                place = place_of(environment(), decision.accel)
                check_applies(open_floor(options.noise_floor), experiment, place)
            run = new_run(
                declared,
                directory,
                builds=provisioned.builds,
                options=options,
                accel=decision.accel,
                accel_reason=decision.reason,
                image=lab.image,
                libvirt=str(hypervisor.version),
                run_id=run_id,
            )
            with run.writing():
                if options.ceiling:
                    self._ceilings(run, experiment, lab)
                return run, self._campaign(run, experiment, lab.under(decision.accel))

    def resume(self, run: RunDirectory) -> Outcome:
        """Go on with what is missing of a run.

        Raises:
            HarnessError: a build or the guest image is no longer what the run began with.
        """
        record = run.present
        experiment = load_experiment(run.experiment, f"{run.path}/experiment.yml")
        builds = {name: BuildRecord.read(build) for name, build in record.builds.items()}
        image = GuestImage(**record.guest_image)
        check_unchanged(builds)
        check_image_unchanged(image)
        with (
            self._host(experiment, record.max_map_count) as hypervisor,
            contextlib.ExitStack() as stack,
        ):
            lab = self._lab(hypervisor, experiment, record.run_id, Manifest(builds, image))
            lab = self._guarded(lab, f"{run.path}/experiment.yml")
            lab = self._on_disk(replace(lab, image=image), stack)
            with run.writing():
                run.keep_lost_time(record)
                for sentence in run.mend():
                    self.say(sentence)
                return self._campaign(run, experiment, lab.under(Accel(record.accel)))

    def prepare(self, declared: Declared, provisioned: Manifest) -> GuestImage:
        """Make the copy of the experiment's disk image that its sessions boot, unless it is there.

        Raises:
            HarnessError: it could not be made.
        """
        experiment = declared.experiment
        with self._host(experiment, None) as hypervisor:
            lab = self._lab(hypervisor, experiment, new_run_id(experiment), provisioned)
            check_requirements(declared, lab)
            return self._image_ready(lab, declared.source).image

    def _image_ready(self, lab: LibvirtLab, source: str) -> LibvirtLab:
        """Return the lab with the copy of the disk image that its guests boot, made if need be."""
        experiment = lab.experiment
        if experiment.guest.disk_image is None:
            return lab
        check_networks(experiment, lab.builds, source)
        # Whether KVM works is found out by booting a guest, and this one is the first.
        known = None if experiment.accel is Accel.TCG else accel_probe.remembered(self.workspace.accel_cache)
        preparation = Preparation(
            hypervisor=lab.hypervisor,
            workspace=self.workspace,
            experiment=experiment,
            builds=lab.builds,
            accel=known.accel if known else Accel.TCG,
            stop=self.stop,
            say=self.say,
            on_task=self.on_task,
        )
        return replace(lab, image=preparation.image())

    def _guarded(self, lab: LibvirtLab, source: str) -> LibvirtLab:
        """Return the lab with somebody who looks at its devices before each guest, and has looked now."""
        guard = DiskGuard(lab.experiment, source)
        for remark in guard.check():
            self.say(remark)
        return replace(lab, guard=guard)

    def _on_disk(self, lab: LibvirtLab, stack: contextlib.ExitStack) -> LibvirtLab:
        """Return the lab with what its guests boot from, until the stack is left."""
        guest = lab.experiment.guest
        if lab.image.disk is None:
            return lab
        booted = disk_guest(guest, Path(lab.image.disk), self.workspace.guest, connection=guest.connection)
        return replace(lab, disk_guest=stack.enter_context(booted))

    def decide_accel(self, wanted: Accel, lab: LibvirtLab) -> AccelDecision:
        """Return the accelerator to use, booting a guest under KVM when this host was never asked before."""
        return accel_probe.decide(
            wanted,
            cache=self.workspace.accel_cache,
            boots_under_kvm=functools.partial(self._boot_under_kvm, lab),
            say=self.say,
        )

    def _ceilings(self, run: RunDirectory, experiment: Experiment, lab: LibvirtLab) -> None:
        """Measure the host's ceilings; a failure ends the run, and the run says so."""
        try:
            self._measure_ceilings(run, experiment, lab)
        except HarnessError as error:
            run.set_state(RunState.FAILED, stopped=error.message, wall_seconds=0.0)
            raise

    def _measure_ceilings(self, run: RunDirectory, experiment: Experiment, lab: LibvirtLab) -> None:
        protocol = experiment.protocol
        found: list[dict[str, Any]] = []
        for cell in experiment.cells():
            target = lab.disks[cell.guest]
            if target is None or self.stop.is_set():
                break
            self.say(f"measuring the host's ceiling without a guest: {cell.label}")
            iops = measure_ceiling(cell, target, runtime=protocol.runtime, ramp=protocol.ramp)
            found.append({**cell.factors(), "iops": iops})
        run.write_ceilings(found)

    def _boot_under_kvm(self, lab: LibvirtLab) -> None:
        experiment = lab.experiment
        probe = PlannedSession(0, 0, experiment.baseline, experiment.guest_configs()[0], ())
        directory = make_directory(self.workspace.state / "probe")
        seconds = accel_probe.probe_seconds(disk_image=lab.disk_guest is not None)
        with lab.under(Accel.KVM, boot_seconds=seconds).session(probe, directory):
            pass

    @contextlib.contextmanager
    def _host(self, experiment: Experiment, mappings: int | None) -> Iterator[Hypervisor]:
        """Be alone on this host, with what a run that was killed left behind cleaned up.

        Args:
            experiment: names the libvirt, and what of the host may be changed.
            mappings: what vm.max_map_count is to be meanwhile; None leaves it.
        """
        with (
            host_for_run(self.workspace, experiment, mappings, self.say, self.patience),
            # Only a dead run can have left anything: the host's lock is ours.
            clean_hypervisor(experiment.libvirt, self.workspace, self.say) as hypervisor,
        ):
            yield hypervisor

    def _lab(
        self, hypervisor: Hypervisor, experiment: Experiment, run_id: str, provisioned: Manifest
    ) -> LibvirtLab:
        image = guest_image(experiment, provisioned)
        return LibvirtLab(
            hypervisor=hypervisor,
            experiment=experiment,
            run_id=run_id,
            accel=Accel.TCG,
            builds=provisioned.builds,
            image=image,
            template=resource_dir("templates") / "test.xml.j2",
            fio_script=resource_dir("fio") / "fio.sh",
            disks=prepare_disks(experiment, self.workspace.disks, self.say),
            timeouts=Timeouts(
                boot=experiment.timeouts.boot_seconds(
                    Accel.TCG, disk_image=experiment.guest.disk_image is not None
                ),
                agent=experiment.timeouts.agent,
                grace=experiment.timeouts.fio_grace,
                destroy=experiment.timeouts.destroy,
            ),
            stop=self.stop,
            meanwhile=_load_analysis,
        )

    def _campaign(self, run: RunDirectory, experiment: Experiment, lab: LibvirtLab) -> Outcome:
        pool_growth = experiment.workload is Workload.POOL_GROWTH
        with watched(lab, run.path, self.workspace) as watched_lab:
            return Campaign(
                plan=run.plan,
                store=run,
                lab=watched_lab,
                clock=SystemClock(),
                stop=self.stop,
                emit=self.emit,
                enough=stopping_rule(run, experiment),
                judge=round_judge if pool_growth else fio_judge,
                rounds=pool_growth,
                protocol=experiment.protocol,
            ).run()


def _load_analysis() -> None:
    """Import what the table takes, which is a third of a start."""
    import harness.analysis  # noqa: F401 - for those who import from it later
