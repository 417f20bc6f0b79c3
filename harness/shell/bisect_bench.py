"""Builds and measures the commits of a search: instructions by themselves, guests beside the good commit."""

from __future__ import annotations

import math
import shutil
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from harness.adapters.guestless.store import CountDirectory
from harness.adapters.manifest import Manifest
from harness.adapters.playbook_events import TaskStatus
from harness.adapters.results.store import RunDirectory, is_run_directory
from harness.analysis.costs import CHEAPER, COSTLIER, NOT_COUNTED, judge
from harness.core.bisect_experiments import experiment_of
from harness.core.bisecting import BAD, GOOD, HERE, NEW, OLD, Measured, verdict_of_interval
from harness.core.errors import HarnessError, Interrupted
from harness.core.experiment import load_experiment
from harness.core.model import Workload
from harness.core.records import RunState
from harness.shell.beginning import RunOptions
from harness.shell.counted import read_counted
from harness.shell.counting import CountRunner
from harness.shell.declare import Declared
from harness.shell.provisioning import provision_for
from harness.shell.runner import Runner

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from harness.adapters.bisect_store import BisectDirectory
    from harness.adapters.playbook_events import TaskEvent
    from harness.adapters.waiting import Stop
    from harness.adapters.workspace import Workspace
    from harness.core.bisecting import Asked, Ends
    from harness.core.experiment import Experiment
    from harness.core.model import BuildRecord, FactorValue
    from harness.shell.campaign import Outcome
    from harness.shell.events import Event

_WORSE_OR_BETTER = {COSTLIER: "worse", CHEAPER: "better"}
_MORE_REPEATS = 3
"""How many times as often counts are repeated where their first repeats did not settle it."""


class CannotBeMeasuredError(HarnessError):
    """A commit builds, but what it makes cannot be measured."""


@dataclass(frozen=True, slots=True)
class Built:
    """What was provisioned.

    Attributes:
        made: how the build was made; empty where it was there.
        seconds: it took, Ansible's own included.
    """

    manifest: Manifest
    made: str
    seconds: float


@dataclass(slots=True)
class _Watch:
    """Hears what a provision does: how the build was made, and what changed on this host besides."""

    on_task: Callable[[TaskEvent], None]
    made: str = ""

    def __call__(self, event: TaskEvent) -> None:
        self.made = event.made or self.made
        if event.status is TaskStatus.CHANGED and event.role and not event.role.startswith("qemu_"):
            self.on_task(event)


@dataclass(frozen=True, slots=True)
class BisectBench:
    """Builds and measures commits.

    Attributes:
        experiment: the user's.
        source: its file.
        build: of which only the commit varies, as an experiment has it.
        mark: tells this search from others.
        say: told, in a sentence, what takes time.
        on_task: hears what provisioning changes on this host.
        emit: told what happens during a run in guests.
    """

    experiment: Experiment
    source: Path
    build: Mapping[str, Any]
    mark: str
    store: BisectDirectory
    workspace: Workspace
    stop: Stop
    say: Callable[[str], None]
    on_task: Callable[[TaskEvent], None] = lambda _event: None
    emit: Callable[[Event], None] = field(default=lambda _event: None)

    @property
    def counts(self) -> bool:
        """Whether instructions are counted."""
        return self.experiment.workload is Workload.INSTRUCTIONS

    # Building

    def provide(self, commits: Mapping[str, str], *, whole_host: bool = False) -> Built:
        """Build commits, each in its role, on top of one another.

        Args:
            commits: by variant.
            whole_host: make the host ready, too; for runs in guests that is done anyway.

        Raises:
            BuildFailedError: one does not build.
            ProvisionError: something else is wrong.
        """
        text = self._text(commits)
        if len(commits) == 1:
            # Whoever builds asks for no more than the builds; an experiment has two.
            (variant,) = commits
            declared = self._declared(self._text({**commits, f"{variant}-again": commits[variant]}))
            declared = replace(declared, text=text)
        else:
            declared = self._declared(text)
        began, watch = time.monotonic(), _Watch(self.on_task)
        result = provision_for(
            declared,
            self.workspace,
            on_task=watch,
            stop=self.stop,
            incremental=True,
            only_builds=self.counts and not whole_host,
        )
        manifest = Manifest(result.builds, result.guest_image)
        return Built(manifest, watch.made, time.monotonic() - began)

    def _text(
        self,
        commits: Mapping[str, str],
        *,
        margin: float | None = None,
        cell: Mapping[str, FactorValue] | None = None,
        more_repeats: int = 1,
    ) -> str:
        builds = {variant: {**self.build, "ref": commit} for variant, commit in commits.items()}
        return experiment_of(
            self.experiment,
            builds,
            directory=self.source.absolute().parent,
            mark=self.mark,
            margin=margin,
            cell=cell,
            more_repeats=more_repeats,
        )

    def _declared(self, text: str) -> Declared:
        return Declared(load_experiment(text, str(self.source)), str(self.source), text)

    # Measuring

    def ends(self, asked: Asked) -> tuple[list[Measured], str]:
        """Measure the bad commit against the good one; return it in every cell, and the run's name.

        Raises:
            HarnessError: one does not build, or cannot be measured.
        """
        commits, name = {GOOD: asked.good, BAD: asked.bad}, "000-ends"
        built = self.provide(commits, whole_host=True)
        path = self._run(name, self._declared(self._text(commits, margin=asked.threshold)), built.manifest)
        margin = asked.threshold
        if margin is None:
            of_counts = self.experiment.instructions.margin
            margin = of_counts if self.counts else self.experiment.protocol.margin
        if self.counts:
            return self._counted(path, path, BAD, margin), name
        return self._sampled(path, BAD, margin, asked), name

    def tested(self, asked: Asked, ends: Ends, commit: str, name: str, built: Built) -> tuple[Measured, str]:
        """Measure a commit that is built, once more where that does not settle it.

        Returns:
            What it is against the good commit, and the run's name.

        Raises:
            CannotBeMeasuredError: it cannot be measured.
            HarnessError: nothing can.
        """
        cell = ends.measured.cell
        if not self.counts:
            commits = {GOOD: asked.good, HERE: commit}
            both = self.provide(commits)
            declared = self._declared(self._text(commits, margin=ends.threshold, cell=cell))
            path = self._run(name, declared, both.manifest)
            return self._sampled(path, HERE, ends.threshold, asked)[0], name
        good = self.store.path / "runs" / ends.run
        for suffix, more in (("", 1), ("-again", _MORE_REPEATS)):
            commits = {GOOD: asked.good, HERE: commit}
            text = self._text(commits, margin=ends.threshold, cell=cell, more_repeats=more)
            path = self._run(f"{name}{suffix}", self._declared(text), built.manifest, only=(HERE,))
            measured = self._counted(good, path, HERE, ends.threshold)[0]
            if measured.verdict != "unclear":
                break
        return measured, f"{name}{suffix}"

    def table(self, parent: str, commit: str, ends: Ends) -> str:
        """Measure the commit that was found against its parent; return the run's name.

        Instructions in all of the experiment's cells; guests in the one that decided, as that takes its time.

        Raises:
            BuildFailedError: the parent does not build.
            CannotBeMeasuredError: it cannot be measured.
        """
        commits, name = {OLD: parent, NEW: commit}, "table"
        built = self.provide(commits)
        cell = None if self.counts else ends.measured.cell
        self._run(name, self._declared(self._text(commits, cell=cell)), built.manifest)
        return name

    # Runs

    def _run(
        self, name: str, declared: Declared, manifest: Manifest, only: tuple[str, ...] | None = None
    ) -> Path:
        """Make a run, or go on with the one of that name that was interrupted; return its directory."""
        path = self.store.run(name)
        if is_run_directory(path) and not _same_builds(path, manifest.builds):
            # Built anew meanwhile: another binary of the same source.
            shutil.rmtree(path)
        if self.counts:
            outcome = self._count(path, declared, manifest, only)
        else:
            outcome = self._boot(path, declared, manifest)
        if outcome is None or outcome.state is RunState.FINISHED:
            return path
        if outcome.state is RunState.INTERRUPTED:
            raise Interrupted("interrupted")
        raise CannotBeMeasuredError(outcome.failures[0] if outcome.failures else outcome.stopped)

    def _count(
        self, path: Path, declared: Declared, manifest: Manifest, only: tuple[str, ...] | None
    ) -> Outcome | None:
        runner = CountRunner(self.workspace, self.stop, lambda _progress: None)
        if not is_run_directory(path):
            return runner.start(declared, manifest, path, only=only)[1]
        store = CountDirectory.open(path)
        return None if store.record.state is RunState.FINISHED else runner.resume(store)

    def _boot(self, path: Path, declared: Declared, manifest: Manifest) -> Outcome | None:
        runner = Runner(self.workspace, self.stop, self.say, self.emit, on_task=self.on_task)
        if not is_run_directory(path):
            return runner.start(declared, manifest, path, RunOptions())[1]
        run = RunDirectory.open(path)
        return None if run.record.state is RunState.FINISHED else runner.resume(run)

    # What came of them

    def _counted(self, good: Path, path: Path, variant: str, margin: float) -> list[Measured]:
        """Return a variant's counts against those of the good commit, which may be another run's."""
        reference, here = read_counted(good), read_counted(path)
        found = []
        for key in here.keys:
            before = reference.costs.get((GOOD, key), NOT_COUNTED)
            after = here.costs.get((variant, key), NOT_COUNTED)
            cost = judge(key, before, after, margin)
            found.append(
                self._measured(
                    dict(zip(here.experiment.varied_factors(), key, strict=True)),
                    before.per_request,
                    after.per_request,
                    cost.change,
                    cost.resolution,
                    verdict=_WORSE_OR_BETTER.get(cost.verdict, cost.verdict),
                    reason=cost.reason,
                )
            )
        return found

    def _sampled(self, path: Path, variant: str, threshold: float, asked: Asked) -> list[Measured]:
        """Return a variant's samples against those of the good commit in the same run, a cell each."""
        from harness.shell.comparing import compare_run
        from harness.shell.judging import Judgement

        comparison = compare_run(path, Judgement(asked.metric, margin=threshold))
        found = []
        for row in comparison.frames[variant].to_dict("records"):
            low, high = float(row["ci_low"]), float(row["ci_high"])
            verdict = verdict_of_interval(
                low,
                high,
                threshold=threshold,
                higher_is_better=comparison.metric.higher_is_better,
                improvement=asked.improvement,
            )
            if comparison.no_verdict:
                verdict = "unclear"
            found.append(
                self._measured(
                    {name: _plain(row[name]) for name in comparison.key_columns},
                    float(row["baseline"]),
                    float(row["contender"]),
                    float(row["change"]),
                    (high - low) / 2,
                    verdict=verdict,
                    reason=_why(comparison.no_verdict) if verdict == "unclear" else None,
                )
            )
        return found

    def _measured(
        self,
        cell: dict[str, FactorValue],
        *numbers: float,
        verdict: str,
        reason: str | None,
    ) -> Measured:
        good, value, change, inexactness = (_finite(number) for number in numbers)
        labels = {
            tuple(str(known.factors()[name]) for name in cell): known.label
            for known in self.experiment.cells()
        }
        label = labels[tuple(map(str, cell.values()))]
        return Measured(cell, label, good, value, change, inexactness, verdict, reason)


def _same_builds(path: Path, builds: Mapping[str, BuildRecord]) -> bool:
    from harness.adapters.files import read_json

    began_with = {name: build["sha256"] for name, build in read_json(path / "run.json")["builds"].items()}
    return began_with == {name: build.sha256 for name, build in builds.items()}


def _plain(value: Any) -> FactorValue:
    return value if isinstance(value, str) else int(value)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _why(no_verdict: str | None) -> str:
    return no_verdict or "the interval holds the threshold"
