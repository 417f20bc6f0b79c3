"""The history's tables, and what their rows say: held against what is ever filed."""

from __future__ import annotations

import math
from datetime import MAXYEAR, MINYEAR, UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from harness.core.history import FiledBuild, FiledNumber, FiledRun
from harness.core.type_adapters import adapter_of

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHOWN = 100

SCHEMA = """
CREATE TABLE format (version INTEGER NOT NULL);
CREATE TABLE runs (
    number INTEGER PRIMARY KEY, run_id VARCHAR NOT NULL, content VARCHAR NOT NULL, path VARCHAR NOT NULL,
    host_id VARCHAR NOT NULL, host_name VARCHAR NOT NULL, experiment VARCHAR NOT NULL,
    comparable VARCHAR NOT NULL, workload VARCHAR NOT NULL, accel VARCHAR NOT NULL,
    started TIMESTAMP NOT NULL, baseline VARCHAR NOT NULL, margin DOUBLE NOT NULL,
    harness_version VARCHAR NOT NULL, conditions VARCHAR NOT NULL, UNIQUE (host_id, run_id));
CREATE TABLE builds (
    number INTEGER NOT NULL, place INTEGER NOT NULL, variant VARCHAR NOT NULL, sha256 VARCHAR NOT NULL,
    version VARCHAR NOT NULL, package_version VARCHAR, "commit" VARCHAR);
CREATE TABLE numbers (
    number INTEGER NOT NULL, place INTEGER NOT NULL, cell VARCHAR NOT NULL, variant VARCHAR NOT NULL,
    metric VARCHAR NOT NULL, value DOUBLE NOT NULL, sessions INTEGER NOT NULL, spread DOUBLE, change DOUBLE,
    ci_low DOUBLE, ci_high DOUBLE, verdict VARCHAR);
"""
RUN = (
    "run_id", "content", "path", "host_id", "host_name", "experiment", "comparable", "workload", "accel",
    "started", "baseline", "margin", "harness_version",
)  # fmt: skip
BUILD = ("variant", "sha256", "version", "package_version", "commit")
NUMBER = (
    "cell", "variant", "metric", "value", "sessions", "spread", "change", "ci_low", "ci_high", "verdict",
)  # fmt: skip
COLUMNS = {
    "runs": ("number", *RUN, "conditions"),
    "builds": ("number", "place", *BUILD),
    "numbers": ("number", "place", *NUMBER),
}


class RowError(Exception):
    """A row says what no row says; names it."""


def run_of(row: Sequence[Any], builds: Sequence[FiledBuild]) -> FiledRun:
    """Return the run of a row of the table ``runs``, without its numbers.

    Raises:
        RowError: it cannot have been filed.
    """
    named = dict(zip(COLUMNS["runs"], row, strict=True))
    del named["number"]
    run_id = str(named["run_id"])
    started = named["started"]
    # DuckDB gives a text for what is beyond Python's calendar, and its last day for the end of time.
    if not isinstance(started, datetime) or started.year in {MINYEAR, MAXYEAR}:
        raise _error(run_id, "started", started)
    if not math.isfinite(named["margin"]) or named["margin"] < 0:
        raise _error(run_id, "margin", named["margin"])
    try:
        named["conditions"] = adapter_of(dict[str, str]).validate_json(named["conditions"], strict=True)
    except ValidationError as error:
        raise _error(run_id, "conditions", named["conditions"]) from error
    return FiledRun(**(named | {"started": started.replace(tzinfo=UTC)}), builds=tuple(builds))


def number_of(row: Sequence[Any], run_id: str) -> FiledNumber:
    """Return the number of a row of the table ``numbers``.

    Args:
        row: its values.
        run_id: of the run that it belongs to.

    Raises:
        RowError: it cannot have been filed.
    """
    found = FiledNumber(*row)
    for name in ("value", "spread", "change", "ci_low", "ci_high"):
        value = getattr(found, name)
        if value is not None and not math.isfinite(value):
            raise _error(run_id, f"{name} of {found.cell:.{_SHOWN}}", value)
    if found.sessions < 1:
        raise _error(run_id, f"sessions of {found.cell:.{_SHOWN}}", found.sessions)
    return found


def _error(run_id: str, what: str, value: object) -> RowError:
    return RowError(f"run {run_id:.{_SHOWN}} has the {what} {value!s:.{_SHOWN}}")
