"""What a plain report was asked for, by its options: read with care, and once for all that have the same."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import orjson

from harness.core.fio_cells import asked_ms_of, setup_of
from harness.core.fio_checks import block_limits, fio_release, in_flight
from harness.core.fio_document import FioOutputError
from harness.core.fio_options import PERFORMS
from harness.core.fio_result import read_document

if TYPE_CHECKING:
    from harness.core.fio_cells import Setup
    from harness.core.fio_document import Document

    Limits = tuple[float, float, float, float, float]
    Options = tuple[str, str, bytes, bytes]

_SINCE = (3, 2)
_MOST_MET = 1000
_met: dict[Options, tuple[Setup, Limits]] = {}


def asked_by(key: Options, data: bytes) -> tuple[Setup, Limits] | None:
    """Return what options say; None where they are not plain.

    Args:
        key: the direction in which data was moved, fio's version, the global options, the job's.
        data: a report that has them.

    Returns:
        The set-up; and its smallest and largest block, requests in flight, jobs, milliseconds; NaN for none.

    Raises:
        orjson.JSONDecodeError: that report is none.
    """
    if (found := _met.get(key)) is None and (found := _look(key[0], orjson.loads(data))):
        if len(_met) >= _MOST_MET:
            _met.clear()
        _met[key] = found
    return found


def _look(direction: str, document: Document) -> tuple[Setup, Limits] | None:
    """Read the options of a report as the careful way does; None where they are not plain."""
    try:
        if not _is_plain(document.get("global options", {}), document["jobs"][0]["job options"]):
            return None
        result = read_document(document)
        setup = setup_of(result, result.jobs)
    except FioOutputError:
        return None
    (job,) = result.jobs
    release, limits, asked_ms = fio_release(result.fio_version), block_limits(job), asked_ms_of(job)
    allowed = PERFORMS.get(job.rw or "")
    if release is None or release < _SINCE or "latency_target" in job.options:
        return None
    if job.numjobs is None or (allowed and direction not in allowed):
        return None
    smallest, largest = limits or (math.nan, math.nan)
    return setup, (smallest, largest, in_flight(job), job.numjobs, math.nan if asked_ms is None else asked_ms)


def _is_plain(*options: object) -> bool:
    """Return whether options are texts by name, as fio prints them."""
    return all(
        isinstance(part, dict) and all(isinstance(value, str) for value in part.values()) for part in options
    )
