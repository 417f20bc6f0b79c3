"""A search for a commit as text: what was found, and every commit that was tested."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from harness.analysis.layout import Column, clean, layout
from harness.analysis.tables import percent
from harness.core.bisecting import Answer, Outcome
from harness.core.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.core.bisecting import Commit, Search, Step

_LONGEST_SUBJECT = 50
_SHOWN_REASON = 6
_ANSWERS = {
    False: {Answer.GOOD: "good", Answer.BAD: "bad", Answer.SKIP: "skipped"},
    True: {Answer.GOOD: "before", Answer.BAD: "after", Answer.SKIP: "skipped"},
}


def head_lines(search: Search) -> Iterator[str]:
    """Return what was found, or how far the search is."""
    asked, found = search.asked, search.found
    if found is None:
        yield f"Not finished: {len(search.steps)} of {search.commits} commits tested."
        return
    if search.outcome is Outcome.RANGE:
        yield f"One of these {len(found.commits)} commits; the others of them cannot be tested:"
        yield ""
        yield from (f"  {commit.short} {_date(commit)} {clean(commit.subject)}" for commit in found.commits)
        return
    (commit,) = found.commits
    what = "is the first commit that is better" if asked.improvement else "is the first bad commit"
    yield f"{commit.commit} {what}"
    yield f"Author: {clean(commit.author)}"
    yield f"Date:   {commit.date}"
    yield ""
    yield f"    {clean(commit.subject)}"
    if found.changes:
        yield ""
        yield from (clean(line) for line in found.changes.splitlines())


def _date(commit: Commit) -> str:
    return commit.date[:10]


def step_lines(search: Search) -> Iterator[str]:
    """Return a row for every commit tested, in their order, and why some were skipped."""
    if search.ends is None:
        return
    asked, ends, steps = search.asked, search.ends, search.steps
    answers = _ANSWERS[asked.improvement]
    yield (
        f"{clean(asked.good_ref)} (good) {_value(ends.measured.good)}, {clean(asked.bad_ref)} (bad) "
        f"{_value(ends.measured.value)}, {percent(ends.measured.change or 0.0, decimals=2)} in "
        f"{ends.measured.label}; threshold {percent(ends.threshold, decimals=2)}."
    )
    yield ""
    yield from layout(
        [
            Column("STEP", [str(number) for number, _step in enumerate(steps, 1)]),
            Column("COMMIT", [step.commit.short for step in steps], left=True),
            Column("BUILD", [f"{step.build_seconds:.1f} s" for step in steps]),
            Column("MEASURE", [f"{step.measure_seconds:.1f} s" if step.run else "-" for step in steps]),
            Column("VALUE", [_value(step.measured.value if step.measured else None) for step in steps]),
            Column("CHANGE", [_change(step) for step in steps], left=True),
            Column("ANSWER", [answers[step.answer] for step in steps], left=True),
            Column("BUILT", [_built(step) for step in steps], left=True),
            Column("SUBJECT", [_subject(step) for step in steps], left=True),
        ]
    )  # fmt: skip
    for step in steps:
        if step.reason:
            yield ""
            lines = step.reason.splitlines()
            yield f"{step.commit.short} was skipped: {clean(lines[0])}"
            yield from (clean(line) for line in lines[1 : _SHOWN_REASON + 1])
    yield ""
    yield _total(search)


def _total(search: Search) -> str:
    built = sum(step.build_seconds for step in search.steps)
    measured = sum(step.measure_seconds for step in search.steps)
    skipped = sum(step.answer is Answer.SKIP for step in search.steps)
    return (
        f"{len(search.steps)} of {search.commits} commits tested, {skipped} skipped; "
        f"{format_duration(built)} building, {format_duration(measured)} measuring."
    )


def _built(step: Step) -> str:
    return step.made or ("-" if step.run is None else "in the cache")


def _subject(step: Step) -> str:
    return textwrap.shorten(clean(step.commit.subject), _LONGEST_SUBJECT)


def _value(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _change(step: Step) -> str:
    if step.measured is None or step.measured.change is None:
        return "-"
    return percent(step.measured.change, decimals=2)
