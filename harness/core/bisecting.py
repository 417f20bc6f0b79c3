"""The search for the commit that changed something: what is asked, what was found out, what follows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from harness.core.errors import InputError
from harness.core.model import FactorValue  # noqa: TC001 - pydantic reads these annotations

if TYPE_CHECKING:
    from collections.abc import Sequence

FORMAT_VERSION = 1
GOOD, BAD, HERE, OLD, NEW = "GOOD", "BAD", "HERE", "OLD", "NEW"
"""The variants: both ends, the commit that is tested, and at last the found commit's parent and itself."""


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


def verdict_of_interval(
    low: float, high: float, *, threshold: float, higher_is_better: bool, improvement: bool
) -> str:
    """Return what an interval says: on which side of the threshold it lies whole.

    The verdicts of a run do not: a small change is called as soon as it is sure, also within the margin.

    Args:
        low: the change's lower bound, a fraction; NaN where there is none.
        high: its upper bound.
        threshold: the change that matters, a fraction.
        higher_is_better: whether a rise is an improvement.
        improvement: whether improvements are searched for.
    """
    if higher_is_better:
        low, high = -high, -low
    # From here on a rise is a loss.
    worse, better = low > threshold, high < -threshold
    if worse or better:
        return "worse" if worse else "better"
    decided = low > -threshold if improvement else high < threshold
    return "same" if decided else "unclear"


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
