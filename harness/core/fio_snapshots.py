"""Which documents of one output are ends of runs, and which only say how far fio had come.

``--status-interval`` prints the same run again and again; a shell's ``>>`` puts runs one after the other.
The first must not be counted as repeats, nor the second be taken for one run.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from harness.core.fio_document import (
    DIRECTIONS,
    FioOutputError,
    documents,
    entries_of,
    non_negative,
    subsection,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.core.fio_document import Document

UNKNOWN_ETA = 2**31 - 1
"""fio's INT_MAX: too early to tell; it stands in the finished reports of short runs too."""

_MOSTLY = 0.95
_REMEDY = "was fio killed? Take the file out or measure again"


def final_documents(text: str) -> list[tuple[Document, bool]]:
    """Return the last report of every run in fio's output, and whether others of the run stood before it.

    Raises:
        FioOutputError: as `documents`; or a run's end is missing, or it cannot be told whether two documents
            are of one run.
    """
    every = documents(text)
    going_on = [_continues(a, b) for a, b in pairwise(every)]
    found = [
        (document, before)
        for document, before, goes_on in zip(every, [False, *going_on], [*going_on, False], strict=True)
        if not goes_on
    ]
    for document, _before in found:
        left = next((eta for entry in _entries(document) if (eta := _eta(entry))), 0)
        if left:
            raise FioOutputError(f"the last report is an interim one: fio had {left} s to go", remedy=_REMEDY)
    return found


def _continues(earlier: Document, later: Document) -> bool:
    """Return whether two documents, one after the other, are of one run."""
    before, after = _state(earlier), _state(later)
    grown = before.keys() == after.keys() and all(
        was <= now for key in before for was, now in zip(before[key], after[key], strict=True)
    )
    if not grown:
        return False
    if any(_eta(entry) for entry in _entries(earlier)):
        return True
    if not any(map(any, before.values())):
        return True  # nothing had been measured: nothing is lost
    passed_ms = _passed_ms(earlier, later)
    if passed_ms is None:
        raise FioOutputError(
            "several documents without a time: they may be one run's interim reports, or several runs",
            remedy="one file for each run",
        )
    # Had the later one begun after the earlier was printed, this much time would have passed at least.
    return passed_ms < _MOSTLY * _measured_ms(later)


def _entries(document: Document) -> Iterator[Document]:
    for entry in entries_of(document):
        if isinstance(entry, dict):
            yield entry


def _eta(entry: Document) -> int:
    value = entry.get("eta")
    return value if isinstance(value, int) and 0 < value < UNKNOWN_ETA else 0


def _state(document: Document) -> dict[tuple[object, ...], tuple[float, ...]]:
    """Return the counters of every entry by what it is."""
    return {
        (number, *(str(entry.get(key)) for key in ("jobname", "groupid", "job options"))): tuple(
            non_negative(subsection(entry, name, "job"), key, name) or 0.0
            for name in (*DIRECTIONS, "mixed")
            for key in ("total_ios", "runtime")
        )
        for number, entry in enumerate(_entries(document))
    }


def _measured_ms(document: Document) -> float:
    """Return how long all groups measured, one after the other."""
    longest: dict[str, float] = {}
    for entry in _entries(document):
        times = [
            non_negative(subsection(entry, name, "job"), "runtime", name) or 0.0
            for name in (*DIRECTIONS, "mixed")
        ]
        group = str(entry.get("groupid"))
        longest[group] = max(longest.get(group, 0.0), *times)
    return sum(longest.values())


def _passed_ms(earlier: Document, later: Document) -> float | None:
    for key, unit in (("timestamp_ms", 1.0), ("timestamp", 1000.0)):
        times = [non_negative(document, key, "fio") for document in (earlier, later)]
        if times[0] is not None and times[1] is not None:
            return (times[1] - times[0]) * unit
    return None
