"""The search for the commit that changed something: what is asked, what was found out, what follows."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import yaml

from harness.core.documents import document_of
from harness.core.errors import InputError, Problem
from harness.core.experiment import GitBuild
from harness.core.model import FactorValue, Workload

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import PurePath

    from harness.core.experiment import Experiment

FORMAT_VERSION = 1
GOOD, BAD, HERE, OLD, NEW = "GOOD", "BAD", "HERE", "OLD", "NEW"
"""The variants: both ends, the commit that is tested, and at last the found commit's parent and itself."""

_LONGEST_NAME = 20
_LEAST_REPEATS = 2
_LARGEST_MARGIN = 0.5
"""Of an experiment file: what is larger is judged all the same, by whoever reads the run."""


class Answer(StrEnum):
    """What git is told of a commit: before the change, after it, or that it cannot be tested."""

    GOOD = "good"
    BAD = "bad"
    SKIP = "skip"


class Outcome(StrEnum):
    """How far a search is.

    ``range``: only commits are left that cannot be tested.
    """

    RUNNING = "running"
    FOUND = "found"
    RANGE = "range"


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit, for people.

    Attributes:
        commit: its whole hash.
        date: the author's, ISO 8601.
    """

    commit: str
    author: str
    date: str
    subject: str

    @property
    def short(self) -> str:
        """As it is called in tables."""
        return self.commit[:12]


@dataclass(frozen=True, slots=True)
class Asked:
    """What is searched for; fixed at the start.

    Attributes:
        good: a commit before the change.
        bad: a commit after it.
        git: the repository as builds name it.
        location: the same without credentials, for people.
        threshold: the change from the good commit at which a commit is bad, a fraction; None: half of that
            between the ends.
        improvement: search for the commit that made it better.
        first_parent: follow only the first parent of merges.
        paths: only commits that touch one of them; empty: all.
        metric: of runs in guests.
        cell: the label of the cell to go by; None: the one that shows most.
        max_skips: so many commits in a row that cannot be tested end the search for now.
    """

    good: str
    bad: str
    good_ref: str
    bad_ref: str
    git: str
    location: str
    threshold: float | None = None
    improvement: bool = False
    first_parent: bool = False
    paths: tuple[str, ...] = ()
    metric: str = "iops"
    cell: str | None = None
    max_skips: int = 10


@dataclass(frozen=True, slots=True)
class Measured:
    """What a commit was measured to be, against the good one, in one cell.

    Attributes:
        cell: the cell's factors.
        label: the cell's label.
        good: the good commit's value; None where it has none.
        value: its own.
        change: of the value, as a fraction.
        inexactness: how far the change may be off, as a fraction; None where nobody knows.
        verdict: ``worse``, ``better``, ``same`` or ``unclear``.
        reason: why it is unclear; None otherwise.
    """

    cell: dict[str, FactorValue]
    label: str
    good: float | None
    value: float | None
    change: float | None
    inexactness: float | None
    verdict: str
    reason: str | None = None

    @property
    def size(self) -> float:
        """How large the change is, whatever its sign; a fraction."""
        return abs(self.change or 0.0)


@dataclass(frozen=True, slots=True)
class Ends:
    """Both ends, measured first.

    Attributes:
        measured: the bad one, in the cell that decides.
        threshold: the change at which a commit is bad, a fraction.
        run: the run's directory, below that of the search.
    """

    measured: Measured
    threshold: float
    run: str


@dataclass(frozen=True, slots=True)
class Step:
    """One commit that was tested.

    Attributes:
        answer: what git was told.
        measured: None of one that could not be measured.
        reason: why it was skipped; None otherwise.
        made: how it was built: ``from nothing``, ``on top of ...``; empty where the build was in the cache.
        build_seconds: until it was built, or was not.
        measure_seconds: likewise.
        run: the run's directory, below that of the search; None where there is none.
    """

    commit: Commit
    answer: Answer
    measured: Measured | None = None
    reason: str | None = None
    made: str = ""
    build_seconds: float = 0.0
    measure_seconds: float = 0.0
    run: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """The end of a search.

    Attributes:
        commits: the commit; or, where some cannot be tested, all that it may be, the oldest first.
        changes: what the one commit changed, as ``git show --stat`` has it.
        parent: of the one commit.
        run: the run that compares it with its parent; None where there is none.
        reason: why there is none.
    """

    commits: tuple[Commit, ...]
    changes: str = ""
    parent: str | None = None
    run: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Search:
    """A whole search, as it is kept (``bisect.json``).

    Attributes:
        name: the experiment's.
        commits: how many lie between the ends, the bad one included.
        build: what every commit is built with, as an experiment has it, without the commit.
    """

    format_version: int
    name: str
    asked: Asked
    created: str
    harness_version: str
    commits: int
    build: dict[str, Any]
    ends: Ends | None = None
    steps: tuple[Step, ...] = field(default=())
    found: Found | None = None

    @property
    def outcome(self) -> Outcome:
        """How far it is."""
        if self.found is None:
            return Outcome.RUNNING
        return Outcome.FOUND if len(self.found.commits) == 1 else Outcome.RANGE

    def with_step(self, step: Step) -> Search:
        """Return the search with one more commit tested."""
        return replace(self, steps=(*self.steps, step))


def answer_of(verdict: str, *, improvement: bool) -> Answer:
    """Return what git is told of a commit with a verdict against the good one."""
    if verdict == "unclear":
        return Answer.SKIP
    return Answer.BAD if verdict == ("better" if improvement else "worse") else Answer.GOOD


def skipped_in_a_row(steps: Sequence[Step]) -> int:
    """Return how many of the last commits could not be tested."""
    tested = [number for number, step in enumerate(steps, 1) if step.answer is not Answer.SKIP]
    return len(steps) - (tested[-1] if tested else 0)


def ends_of(asked: Asked, cells: Sequence[Measured]) -> tuple[Measured, float]:
    """Return the cell to go by, and the threshold.

    Args:
        asked: what is searched for.
        cells: the bad commit in every cell.

    Raises:
        InputError: the ends do not differ in what is searched for.
    """
    looked_at = [m for m in cells if asked.cell in {None, m.label}]
    wanted = "better" if asked.improvement else "worse"
    fitting = [m for m in looked_at if m.verdict == wanted]
    if fitting:
        most = max(fitting, key=lambda m: m.size)
        return most, most.size / 2 if asked.threshold is None else asked.threshold
    raise InputError.single(f"{asked.good_ref}..{asked.bad_ref}", *_nothing_to_find(asked, looked_at))


def _nothing_to_find(asked: Asked, cells: Sequence[Measured]) -> tuple[str, str]:
    most = max(cells, key=lambda m: m.size)
    changed = "not measured" if most.change is None else f"{most.change:+.2%}"
    what = f"{asked.bad_ref} against {asked.good_ref}: {changed} ({most.label})"
    if any(m.verdict == ("worse" if asked.improvement else "better") for m in cells):
        if asked.improvement:
            return f"{what}: it is worse, not better", "leave --improvement out to find what made it worse"
        return f"{what}: it is better, not worse", "find what made it better with --improvement"
    unclear = next((m.reason or "too close to call" for m in cells if m.verdict == "unclear"), None)
    if unclear:
        return (
            f"{what}, which is unclear: {unclear}",
            "measure more exactly (instructions.repeats, protocol.until), or name another --threshold",
        )
    return (
        f"{what}: they do not differ by more than the threshold, so there is nothing to find",
        "name ends that differ, or a smaller --threshold",
    )


# -- experiments ---------------------------------------------------------------------------------------------


def build_to_vary(
    experiment: Experiment, source: str, *, git: str | None, name: str | None
) -> dict[str, Any]:
    """Return the build of which the commit is varied, as an experiment has it, without a commit.

    Args:
        experiment: the user's.
        source: its file, for messages.
        git: the repository the user named instead; None takes the build's.
        name: the build the user named; None: the baseline, or the first that comes from git.

    Raises:
        InputError: there is no such build, or the workload gives no verdict; every problem.
    """
    problems = []
    if experiment.workload is Workload.POOL_GROWTH:
        message = "is pool-growth, which is judged by its rounds and gives no verdict on a commit"
        remedy = "use the workload instructions or fio-matrix"
        problems.append(Problem(f"{source}: workload", message, remedy))
    if name is not None and name not in experiment.builds:
        problems.append(
            Problem("--build", f"{name} is no build of {source}", f"one of {', '.join(experiment.builds)}")
        )
        raise InputError(problems)
    names = [name] if name is not None else list(experiment.variants)
    found = next((n for n in names if isinstance(experiment.builds[n], GitBuild)), None)
    if found is None and (git is None or name is not None):
        which = f"builds.{name}" if name else "builds"
        message = "does not come from git" if name else "none of them comes from git"
        problems.append(Problem(f"{source}: {which}", message, "name the repository: --git PATH|URL"))
    if problems:
        raise InputError(problems)
    build = dict(document_of(experiment)["builds"][found]) if found else {}
    build.pop("ref", None)
    return {**build, "git": git} if git else build


def experiment_of(
    experiment: Experiment,
    builds: Mapping[str, Mapping[str, Any]],
    *,
    directory: PurePath,
    mark: str,
    margin: float | None,
    cell: Mapping[str, FactorValue] | None = None,
    more_repeats: int = 1,
) -> str:
    """Return, as YAML, the user's experiment with other builds; the first of them is the baseline.

    Args:
        experiment: the user's.
        builds: by variant.
        directory: where the user's file is: what it names relative to that is named whole.
        mark: tells this search from others in names.
        margin: what counts as equal, a fraction; None leaves it.
        cell: the only one to measure; None: all.
        more_repeats: how many times as often counts are repeated.
    """
    document = {**document_of(experiment), "builds": deepcopy(dict(builds)), "baseline": next(iter(builds))}
    document = document_of(document, directory)
    document["name"] = f"{experiment.name[:_LONGEST_NAME]}-{mark}"
    counts = experiment.workload is Workload.INSTRUCTIONS
    judged = document["instructions" if counts else "protocol"]
    if margin is not None:
        judged["margin"] = min(margin, _LARGEST_MARGIN)
    if counts:
        judged["repeats"] = max(judged["repeats"], _LEAST_REPEATS) * more_repeats
    elif margin is not None and "until" not in judged:
        # Until the interval is so narrow that it cannot lie on both sides of the threshold for long.
        judged["until"] = min(margin, _LARGEST_MARGIN) / 2
    if cell is not None:
        document["matrix"] |= cell
    return str(yaml.safe_dump(document, sort_keys=False))
