"""One trial of a campaign: the run is started, disturbed, gone on with, and looked at."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import fault_audit as audit
from fault_inject import Started
from fault_plan import HARNESS_KINDS, Fault, Kind, Trial
from fault_watch import Watch, records_of
from fault_world import Disk, Pace, World, disk
from support import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from fault_audit import Kept, Surroundings

_PATIENCE = 10
"""Times as long as an undisturbed run takes: a harness that has not ended then hangs."""
_PATIENCE_SECONDS = 180
"""But no less."""
_MOST_STARTS = 6
_LATER_SHARE = 0.75
"""The first run in a new state directory also asks each QEMU what it can."""

_EXIT_CODES = {
    Kind.HARNESS_SIGINT: {0, 130, -2},
    Kind.HARNESS_SIGTERM: {0, 130, -15},
    Kind.HARNESS_SIGHUP: {0, 130, -1},
    Kind.HARNESS_SIGKILL: {0, -9},
    Kind.DISK_READ_ONLY: {0, 1, 2},
}
"""2 where nothing was begun yet; 0 where the signal came when all was done; the signal itself where it came
before the harness could listen to it."""
_STOPS_THE_RUN = HARNESS_KINDS | {Kind.DISK_FULL, Kind.DISK_READ_ONLY}


@dataclass(slots=True)
class Course:
    """One trial, as far as it came.

    Attributes:
        directory: for what the trial's processes leave.
        output: everything that the harness said.
        reached: the faults that came before the harness had ended.
        lost: samples that were done before a fault and are not there, or are doubled, or out of order.
        leaks: what is left behind.
        wrong: what else is not as it has to be.
        seconds: that the trial took.
    """

    trial: Trial
    world: World
    disk: Disk
    directory: Path
    output: list[str] = field(default_factory=list)
    reached: list[Fault] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0
    _done: list[Kept] = field(default_factory=list)

    @property
    def run(self) -> Path:
        """The run directory."""
        return self.disk.run

    @property
    def _patience(self) -> float:
        return max(_PATIENCE_SECONDS, _PATIENCE * self.world.pace.run_seconds)

    @property
    def complaints(self) -> list[str]:
        """Everything that is not as it has to be."""
        return [*self.lost, *self.leaks, *self.wrong]

    def told(self) -> str:
        """Return the trial in words: what was done, what is wrong, what the harness said."""
        lines = ["", *map(str, self.trial.faults), *self.complaints, *self.output]
        return "\n".join(
            [*lines, f"again: --faults-seed {self.trial.seed} --faults-only {self.trial.number}"]
        )

    def go(self) -> None:
        """Do everything."""
        began = time.monotonic()
        self.directory.mkdir()
        before = audit.look(self.world, self.directory, self.run)
        try:
            self._starts(before)
            self._judge(before)
            self._learn()
        finally:
            self.seconds = time.monotonic() - began
            shutil.rmtree(self.directory)

    def _learn(self) -> None:
        """Go by how fast the host is now: a moment reckoned by another pace comes too late, or too early."""
        pace, boots = self.world.pace, boot_seconds(self.run)
        if boots:
            boot = sum(boots) / len(boots)
            self.world.learn(Pace(pace.run_seconds * boot / pace.boot_seconds, boot))

    def _starts(self, before: Surroundings) -> None:
        for fault in self.trial.faults:
            self._disturbed(fault)
            if self.trial.clean:
                self._clean(before)
        for _start in range(_MOST_STARTS):
            if self._undisturbed() == 0:
                return
        self.wrong.append(f"the run did not finish in {_MOST_STARTS} further starts")

    def _arguments(self) -> list[str]:
        state = ["--state-dir", str(self.world.state)]
        if (self.run / "run.json").exists():
            return ["--resume", str(self.run), *state]
        limit = int(audit.MAP_COUNT.read_text()) + 1 + self.trial.number % 100
        own = ["--no-provision", "--seed", str(self.trial.number), "--max-map-count", str(limit)]
        return [str(self.world.experiment), *own, "--run-dir", str(self.run), *state]

    def _disturbed(self, fault: Fault) -> None:
        started = Started(self.world, self.disk, self.directory)
        watch = Watch(self.run, started.ended, self.world.pace)
        promised = audit.kept(self.run)
        arguments = self._arguments()
        started.start(*arguments, kinds={fault.kind})
        try:
            if watch.reaches(fault):
                promised = audit.kept(self.run)
                started.inject(fault.kind)
                self.reached.append(fault)
            code = self._end_of(started, arguments)
        finally:
            started.mend()
        self._judge_end(fault, code)
        # What the disk did not take any more was never reported as done.
        promised += [one for one in audit.kept(self.run) if one not in promised]
        self._promised(promised, fault)

    def _promised(self, promised: list[Kept], fault: Fault) -> None:
        self.lost += audit.lost(promised, self.run)
        # Where a session or an iteration failed, the run went on without it.
        if fault.kind in _STOPS_THE_RUN and not audit.any_failed(self.run):
            self.lost += audit.not_a_beginning(self.run, self._plan())
        self._done = promised

    def _judge_end(self, fault: Fault, code: int) -> None:
        allowed = _EXIT_CODES.get(fault.kind, {0, 1})
        if code not in allowed:
            self.wrong.append(f"after {fault} the harness ended with {code}")
        # One that comes while Python itself starts or ends is shown by Python.
        if "Traceback" in self.output[-1] and code >= 0:
            self.wrong.append(f"after {fault} the harness showed a traceback")

    def _undisturbed(self) -> int:
        started = Started(self.world, self.disk, self.directory)
        arguments = self._arguments()
        started.start(*arguments, kinds=set())
        return self._end_of(started, arguments)

    def _end_of(self, started: Started, arguments: list[str]) -> int:
        try:
            out, _err = started.process.communicate(timeout=self._patience)
        except subprocess.TimeoutExpired:
            started.process.kill()
            out, _err = started.process.communicate()
            self.wrong.append(f"the harness had not ended after {self._patience:.0f} s")
        code = started.process.returncode
        self.output += [f"--- harness run {' '.join(arguments)}: {code}", out]
        return code

    def _clean(self, before: Surroundings) -> None:
        # The fault may have come before there was a run directory; to name none is right then.
        runs = [str(self.run)] if self.run.exists() else []
        done = subprocess.run(
            [sys.executable, "-m", "harness", "clean", *runs, "--state-dir", str(self.world.state)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=self._patience,
        )
        self.output += [f"--- harness clean: {done.returncode}", done.stdout, done.stderr]
        if done.returncode:
            self.wrong.append(f"harness clean ended with {done.returncode}")
        self._cleaned(before)

    def _cleaned(self, before: Surroundings) -> None:
        self.leaks += [
            f"after harness clean: {what}"
            for what in audit.left(before, self.world, self.directory, self.run)
        ]

    def _plan(self) -> dict[str, Any]:
        return audit.planned_by_harness(self.world.experiment, self.trial.number)

    def _judge(self, before: Surroundings) -> None:
        self.leaks += audit.left(before, self.world, self.directory, self.run)
        self.lost += audit.lost(self._done, self.run)
        self.lost += audit.out_of_plan(self.run, self._plan())
        self.lost += audit.out_of_order(self.run, self._plan())
        self.lost += audit.measured_again(self.run)
        if not self.lost:
            self.wrong += audit.analysis_differs(self.run, self.directory / "again")


def boot_seconds(run: Path) -> list[float]:
    """Return how long those boots of a run took: of each session the last, if its guest came up."""
    boots = [json.loads(path.read_text())["boots"][-1] for path in records_of(run)]
    return [boot["ready_seconds"] for boot in boots if boot["ready_seconds"]]


def find_pace(world: World) -> None:
    """Run once to the end; from now on the world goes by the pace of this host."""
    place = world.place / "first"
    place.mkdir()
    with disk(place / "disk") as made:
        started = Started(world, made, place)
        own = ["--no-provision", "--max-map-count", str(int(audit.MAP_COUNT.read_text()) + 1)]
        where = ["--run-dir", str(made.run), "--state-dir", str(world.state)]
        began = time.monotonic()
        started.start(str(world.experiment), *own, *where, kinds=set())
        out, _err = started.process.communicate()
        assert started.process.returncode == 0, out
        took, boots = time.monotonic() - began, boot_seconds(made.run)
    shutil.rmtree(place)
    world.learn(Pace(took * _LATER_SHARE, sum(boots) / len(boots)))
