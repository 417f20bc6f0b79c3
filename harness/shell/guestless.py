"""Runs pool-growth without a guest: nothing of libvirt, no image, seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.adapters.guestless.pool_rig import PoolRigLab
from harness.adapters.host.locks import IMPATIENT, Patience
from harness.adapters.scratch import sweep
from harness.adapters.waiting import Stop, SystemClock
from harness.core.experiment import load_experiment
from harness.core.model import Accel, BuildRecord
from harness.shell.accepting import mappings_judge
from harness.shell.beginning import check_unchanged, new_run
from harness.shell.campaign import Campaign, Outcome
from harness.shell.quieting import host_for_run, watched

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from harness.adapters.manifest import Manifest
    from harness.adapters.results.store import RunDirectory
    from harness.adapters.workspace import Workspace
    from harness.core.experiment import Experiment
    from harness.shell.beginning import RunOptions
    from harness.shell.declare import Declared
    from harness.shell.events import Event

NO_GUEST = "there is no guest: the machine's processor halts at once"


@dataclass(frozen=True, slots=True)
class GuestlessRunner:
    """Runs rounds of a driver outside on this host.

    Attributes:
        say: told, in a sentence, what takes time.
        emit: told what happens during a run.
        patience: how long to wait while somebody else measures here.
    """

    workspace: Workspace
    stop: Stop
    say: Callable[[str], None]
    emit: Callable[[Event], None]
    patience: Patience = IMPATIENT

    def start(
        self, declared: Declared, provisioned: Manifest, directory: Path, options: RunOptions
    ) -> tuple[RunDirectory, Outcome]:
        """Run an experiment into a new run directory.

        Raises:
            HarnessError: it could not begin, or could not go on; the directory keeps what was seen.
        """
        mappings = options.max_map_count
        with host_for_run(self.workspace, declared.experiment, mappings, self.say, self.patience):
            run = new_run(
                declared,
                directory,
                builds=provisioned.builds,
                options=options,
                accel=Accel.TCG,
                accel_reason=NO_GUEST,
            )
            with run.writing():
                return run, self._campaign(run, declared.experiment, provisioned.builds)

    def resume(self, run: RunDirectory) -> Outcome:
        """Go on with what is missing of a run.

        Raises:
            HarnessError: a build is no longer what the run began with.
        """
        experiment = load_experiment(run.experiment, f"{run.path}/experiment.yml")
        builds = {name: BuildRecord.read(build) for name, build in run.record.builds.items()}
        check_unchanged(builds)
        present = run.present
        mappings = run.record.max_map_count
        with (
            host_for_run(self.workspace, experiment, mappings, self.say, self.patience),
            run.writing(),
        ):
            run.keep_lost_time(present)
            for sentence in run.mend():
                self.say(sentence)
            return self._campaign(run, experiment, builds)

    def _campaign(
        self, run: RunDirectory, experiment: Experiment, builds: Mapping[str, BuildRecord]
    ) -> Outcome:
        sweep()
        lab = PoolRigLab(experiment.pool, experiment.guest.machine, builds, self.stop)
        with watched(lab, run.path, self.workspace) as watched_lab:
            return Campaign(
                plan=run.plan,
                store=run,
                lab=watched_lab,
                clock=SystemClock(),
                stop=self.stop,
                emit=self.emit,
                judge=mappings_judge,
                rounds=True,
                protocol=experiment.protocol,
            ).run()
