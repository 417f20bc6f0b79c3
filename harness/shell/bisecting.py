"""Searches for the commit that changed something: git chooses commits, the bench builds and measures them."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from harness.core.bisecting import (
    Answer,
    Asked,
    Ends,
    Found,
    Search,
    Step,
    answer_of,
    ends_of,
    skipped_in_a_row,
)
from harness.core.errors import BuildFailedError, HarnessError, Interrupted
from harness.core.units import format_duration
from harness.shell.bisect_bench import CannotBeMeasuredError

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.adapters.bisect_repository import Position
    from harness.core.bisecting import Commit, Measured
    from harness.core.protocols import StopSignal
    from harness.shell.bisect_bench import Built

_SHOWN_REASON = 3
"""Lines of why a commit was skipped that are shown while the search goes on."""


class Bench(Protocol):
    """Builds and measures commits."""

    def provide(self, commits: dict[str, str]) -> Built:
        """Build commits, each in its role."""

    def ends(self, asked: Asked) -> tuple[list[Measured], str]:
        """Measure the bad commit against the good one."""

    def tested(self, asked: Asked, ends: Ends, commit: str, name: str, built: Built) -> tuple[Measured, str]:
        """Measure a commit that is built."""

    def table(self, parent: str, commit: str, ends: Ends) -> str:
        """Measure a commit against its parent."""


class Repository(Protocol):
    """Chooses commits."""

    def start(self, asked: Asked) -> Position:
        """Begin."""

    def mark(self, commit: str, answer: Answer, *, improvement: bool) -> Position:
        """Take an answer; return the next commit, or the end."""

    def log(self) -> str:
        """Return what `git bisect replay` takes."""

    def describe(self, commit: str) -> Commit:
        """Return a commit for people."""

    def changes(self, commit: str) -> str:
        """Return what a commit changed."""

    def parent(self, commit: str) -> str:
        """Return a commit's first parent."""


class Store(Protocol):
    """Keeps what was found out."""

    @property
    def search(self) -> Search:
        """What was found out so far."""

    def save(self, search: Search) -> None:
        """Keep it."""

    def keep_log(self, log: str) -> None:
        """Keep git's own log."""


@dataclass(slots=True)
class Bisecting:
    """Goes on with a search to its end.

    Attributes:
        say: told, in a sentence, what happens.
    """

    store: Store
    repository: Repository
    bench: Bench
    stop: StopSignal
    say: Callable[[str], None]

    def run(self) -> Search:
        """Test commits until the one is found; what was tested before is not tested again.

        Raises:
            InputError: the ends do not differ.
            Interrupted: the user stopped it.
            HarnessError: it cannot go on.
        """
        search = self.store.search
        if search.found is not None:
            return search
        if search.ends is None:
            search = replace(search, ends=self._ends(search.asked))
            self.store.save(search)
        earlier = {step.commit.commit: step for step in search.steps}
        position, begun_with = self.repository.start(search.asked), len(search.steps)
        while position.commit is not None:
            step = earlier.get(position.commit)
            if step is None:
                step = self._step(search, position)
                search = search.with_step(step)
                self.store.save(search)
                self._told(step, search)
            position = self.repository.mark(
                step.commit.commit, step.answer, improvement=search.asked.improvement
            )
            self.store.keep_log(self.repository.log())
            self._check_skips(search, begun_with, position)
        search = replace(search, found=self._found(search, position))
        self.store.save(search)
        return search

    def _ends(self, asked: Asked) -> Ends:
        self.say(f"first the ends: {asked.bad_ref} against {asked.good_ref}")
        cells, run = self.bench.ends(asked)
        measured, threshold = ends_of(asked, cells)
        self.say(
            f"{asked.bad_ref} against {asked.good_ref}: {measured.change:+.2%} in {measured.label}; "
            f"a commit is {'past it' if asked.improvement else 'bad'} beyond {threshold:.2%}"
        )
        return Ends(measured, threshold, run)

    def _step(self, search: Search, position: Position) -> Step:
        if self.stop.is_set():
            raise Interrupted("interrupted")
        assert position.commit is not None  # noqa: S101 - the loop saw to it
        assert search.ends is not None  # noqa: S101 - likewise
        commit = self.repository.describe(position.commit)
        self.say(f"step {len(search.steps) + 1}{_left(search, position)}: {commit.short} {commit.subject}")
        name = f"{len(search.steps) + 1:03d}-{commit.short}"
        began = time.monotonic()
        try:
            built = self.bench.provide({"HERE": commit.commit})
        except BuildFailedError as error:
            seconds = time.monotonic() - began
            reason = error.cause.removeprefix("build HERE: ")
            return Step(commit, Answer.SKIP, reason=reason, build_seconds=round(seconds, 1))
        step = Step(commit, Answer.SKIP, made=built.made, build_seconds=round(built.seconds, 1), run=name)
        began = time.monotonic()
        try:
            measured, run = self.bench.tested(search.asked, search.ends, commit.commit, name, built)
        except CannotBeMeasuredError as error:
            seconds = time.monotonic() - began
            return replace(step, reason=error.message, measure_seconds=round(seconds, 1))
        return replace(
            step,
            answer=answer_of(measured.verdict, improvement=search.asked.improvement),
            measured=measured,
            reason=f"unclear: {measured.reason}" if measured.verdict == "unclear" else None,
            measure_seconds=round(time.monotonic() - began, 1),
            run=run,
        )

    def _told(self, step: Step, search: Search) -> None:
        took = (
            f"built in {step.build_seconds:.1f} s"
            if step.made
            else f"build there in {step.build_seconds:.1f} s"
        )
        if step.measured is None or step.measured.change is None:
            why = "\n".join(str(step.reason).splitlines()[:_SHOWN_REASON])
            self.say(f"{step.commit.short} is skipped: {why}")
            return
        answer = (
            {Answer.GOOD: "before the change", Answer.BAD: "after the change"}
            if search.asked.improvement
            else {}
        )
        self.say(
            f"{step.commit.short} {took}{f' ({step.made})' if step.made else ''}, measured in "
            f"{step.measure_seconds:.1f} s: {step.measured.value:,.0f}, {step.measured.change:+.2%}: "
            f"{answer.get(step.answer, step.answer)}{f' ({step.reason})' if step.reason else ''}"
        )

    def _check_skips(self, search: Search, begun_with: int, position: Position) -> None:
        in_a_row = min(skipped_in_a_row(search.steps), len(search.steps) - begun_with)
        if position.commit is not None and in_a_row >= search.asked.max_skips:
            raise HarnessError(
                f"{in_a_row} commits in a row could not be tested; the last: {search.steps[-1].reason}",
                remedy="if this host is to blame, put it right; --resume tests as many again (--max-skips)",
            )

    def _found(self, search: Search, position: Position) -> Found:
        commits = tuple(self.repository.describe(commit) for commit in position.found)
        if len(commits) > 1:
            return Found(commits)
        assert search.ends is not None  # noqa: S101 - measured first
        (commit,) = commits
        parent = self.repository.parent(commit.commit)
        self.say(f"found: {commit.short} {commit.subject}; measuring it against its parent")
        changes = self.repository.changes(commit.commit)
        try:
            run = self.bench.table(parent, commit.commit, search.ends)
        except (BuildFailedError, CannotBeMeasuredError) as error:
            return Found(commits, changes, parent, reason=error.message)
        return Found(commits, changes, parent, run)


def _left(search: Search, position: Position) -> str:
    """Return how much is left for people, from what steps took so far."""
    if position.steps_left is None:
        return ""
    left = position.steps_left + 1
    took = [step.build_seconds + step.measure_seconds for step in search.steps]
    each = f", {format_duration(sum(took) / len(took))} each" if took else ""
    return f" (about {left} left{each})"
