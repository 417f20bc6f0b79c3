"""What agrees with what in a report of fio's: of one number, or elementwise of arrays of them.

`fio_checks` holds them against one entry and says what is wrong; `fio_plain` against thousands at once.
"""

from __future__ import annotations

from typing import Any, TypeAlias

# Any: a float, or an array of them; and bool, or an array.
Number: TypeAlias = Any
Verdict: TypeAlias = Any

LEAST_SHARE = 0.01
"""Percent; fio prints this for any share of a distribution below it."""
LEAST_WHOLE = 50.0
"""Percent of the requests that a distribution must tell of to say anything."""

_EXACT = 0.001
# Bytes are counted when a request is done and requests when fio looks: a few in flight lie between.
_BYTES_AN_IO = 0.02
# A bucket of fio's distribution is up to 2.5 times as wide as its lower edge.
_BUCKETS = 2.0
_PERCENTILE = 0.05
_TIME_BETWEEN = 10.0  # far from 1000, the step between units
_RUNTIME_NOISE_MS = 50.0
_SHORT, _SHORT_MS = 0.01, 50.0  # fio ends with its last requests
# fio prints counts and rates of one measurement: they may differ by rounding only.
_CONSISTENCY = 0.02


def agrees(value: Number, expected: Number, slack: Number) -> Verdict:
    """Return whether a number is what those beside it make, but for what was cut off."""
    return abs(value - expected) <= _EXACT * expected + slack


def agrees_roughly(value: Number, expected: Number, slack: Number) -> Verdict:
    """Return the same of numbers that were rounded."""
    return abs(value - expected) <= _CONSISTENCY * expected + slack


def moved_blocks(mean: Number, smallest: Number, largest: Number, ahead: Number, unit: Number) -> Verdict:
    """Return whether the bytes a request lie between the block sizes.

    Args:
        mean: bytes a request.
        smallest: block.
        largest: block.
        ahead: requests in flight over those done.
        unit: bytes that were cut off.
    """
    slack = _BYTES_AN_IO + ahead
    return (smallest * (1 - slack) - unit <= mean) & (mean <= largest * (1 + slack) + unit)


def stands_behind(job_runtime: Number, jobs: Number, longest: Number) -> Verdict:
    """Return whether as many jobs as asked for, and no more, can have run for so many ms in all."""
    return job_runtime <= (jobs + 0.5) * longest + _RUNTIME_NOISE_MS


def lies_between(value: Number, low: Number, high: Number) -> Verdict:
    """Return whether a mean or percentile is between the least and the most."""
    return (low * (1 - _PERCENTILE) - 1 <= value) & (value <= high * (1 + _PERCENTILE) + 1)


def is_mean_of(mean: Number, low: Number, high: Number) -> Verdict:
    """Return whether a distribution whose mean is between low and high can have this one."""
    return (low / _BUCKETS <= mean) & (mean <= high * _BUCKETS)


def is_whole(lat: Number, slat: Number, clat: Number) -> Verdict:
    """Return whether a latency is that of submission and completion, and some time between."""
    most = _TIME_BETWEEN * (clat + slat) + _TIME_BETWEEN
    return (clat * (1 - _PERCENTILE) - 1 <= lat) & (lat <= most)


def lasted(measured_ms: Number, asked_ms: Number) -> Verdict:
    """Return whether a job ran for the time it was asked for."""
    return measured_ms >= asked_ms * (1 - _SHORT) - _SHORT_MS
