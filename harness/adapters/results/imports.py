"""Results measured by others: a CSV, or a tree of fio JSON files, as samples.

Such results were not interleaved by this harness, so they allow estimates and no verdict. Factors come from
the JSON itself, never from file names. What cannot be read is named with the reason, and never guessed.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pandas as pd

from harness.adapters.results.store import is_run_directory
from harness.analysis.metrics import METRICS
from harness.core.errors import InputError, Problem
from harness.core.fio_output import FioJob, FioOutputError, FioResult, metrics, parse_fio
from harness.core.fio_result import block_size
from harness.core.model import TABLE_FACTORS
from harness.core.units import parse_size

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from harness.core.model import FactorValue

NOT_INTERLEAVED = "the two sides were not measured in interleaved sessions by this harness"
"""Why imported results get no verdict."""

_MOST_BYTES = 256 * 2**20
_JSON_FACTORS = (*TABLE_FACTORS, "numjobs", "ioengine")
# Columns that tell repeats apart rather than cells.
_BOOKKEEPING = frozenset({"run", "block", "session", "iteration", "repeat", "timestamp"})
_COLUMNS_REMEDY = "the first line names the columns: rw,bs,iodepth,iops, and any further factor"


@dataclass(frozen=True)
class Imported:
    """Results as samples.

    Attributes:
        samples: the tidy frame (docs/statistics.md); every repeat of a cell is a session of its own, and no
            block pairs it with anything.
        factors: further factors that have more than one value, in the order they were found.
        cells: (rw, bs, iodepth, *further) in the order they were found, for the table.
        warnings: what was left out, and why.
    """

    samples: pd.DataFrame
    factors: tuple[str, ...]
    warnings: tuple[str, ...] = ()


@dataclass
class _Rows:
    """What has been found so far: cells (every factor) and their values."""

    rows: list[dict[str, object]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def read_results(path: Path, variant: str) -> Imported:
    """Read a CSV file, a fio JSON file, or a tree of fio JSON files.

    Args:
        path: where the results are; names may end in ``.gz``.
        variant: the variant they were measured on.

    Raises:
        InputError: nothing there, nothing usable, or a damaged CSV; every problem with its file and line.
    """
    if is_run_directory(path):
        raise InputError.single(str(path), "is a run directory of the harness", "read it as one")
    if path.is_dir():
        return _samples(_read_tree(path), variant, _JSON_FACTORS)
    if not path.is_file():
        raise InputError.single(str(path), "does not exist", "name a run directory, a directory or a CSV")
    if path.name.removesuffix(".gz").lower().endswith(".csv"):
        return _read_csv(path, variant)
    found = _Rows()
    _add_file(found, path, path.name)
    return _usable(found, path, variant)


def together(old: Imported, new: Imported) -> Imported:
    """Put both sides into one frame, for `harness.analysis.result.build` with NOT_INTERLEAVED.

    A further factor that only one side knows is left out, with a warning, when it has one value there; when
    it varies, it cannot tell the other side's cells apart, and is refused.

    Raises:
        InputError: the sides do not have the same factors.
    """
    sides = (old.samples, new.samples)
    further = dict.fromkeys(name for side in sides for name in side.columns if name not in _NOT_FACTORS)
    unknown = [name for name in further if not all(_knows(side, name) for side in sides)]
    problems = [
        Problem(
            "compare", f"only one side has the factor {name}, and it varies", "give both sides that column"
        )
        for name in unknown
        if any(_varying(side, [name]) for side in sides if name in side.columns)
    ]
    if problems:
        raise InputError(problems)
    warnings = [f"only one side says what {name} was" for name in unknown]
    samples = pd.concat(sides, ignore_index=True).drop(columns=unknown)
    factors = _varying(samples, (name for name in further if name not in unknown))
    return Imported(samples, factors, (*old.warnings, *new.warnings, *warnings))


def _knows(side: pd.DataFrame, factor: str) -> bool:
    return factor in side.columns and bool(side[factor].notna().all())


def cells_as_found(imported: Imported) -> list[tuple[FactorValue, ...]]:
    """Return the cells in the order they were found, for the table's rows."""
    keys = imported.samples[[*TABLE_FACTORS, *imported.factors]].drop_duplicates()
    return list(keys.itertuples(index=False, name=None))


_NOT_FACTORS = frozenset({"variant", "block", "session", "iteration", *TABLE_FACTORS, *METRICS})


def _samples(found: _Rows, variant: str, factors: tuple[str, ...]) -> Imported:
    frame = pd.DataFrame(found.rows)
    further = tuple(name for name in factors if name not in TABLE_FACTORS)
    # Each row is a repeat of its cell: numbered, so that it counts as a session.
    repeat = frame.groupby(list(factors), sort=False, dropna=False).cumcount()
    frame.insert(0, "variant", variant)
    frame.insert(1, "block", math.nan)
    frame.insert(2, "session", repeat)
    frame.insert(3, "iteration", 0)
    return Imported(frame, _varying(frame, further), tuple(found.warnings))


def _varying(frame: pd.DataFrame, names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name in names if len(frame[name].unique()) > 1)


def _usable(found: _Rows, path: Path, variant: str) -> Imported:
    if not found.rows:
        problems = [Problem(str(path), warning) for warning in found.warnings]
        raise InputError(
            problems or [Problem(str(path), "holds no fio JSON", "run fio with --output-format=json")]
        )
    return _samples(found, variant, _JSON_FACTORS)


def _read_tree(path: Path) -> _Rows:
    found = _Rows()
    for file in sorted(path.rglob("*")):
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts):
            _add_file(found, file, str(file.relative_to(path)))
    if not found.rows:
        _usable(found, path, "")
    return found


def _add_file(found: _Rows, file: Path, name: str) -> None:
    """Add what a file holds, or say why it holds nothing."""
    try:
        result = parse_fio(_read(file))
    except (FioOutputError, OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        reason = error.message if isinstance(error, FioOutputError) else str(error)
        found.warnings.append(f"skipped {name}: {reason}")
        return
    for group in dict.fromkeys(job.group for job in result.jobs):
        jobs = tuple(job for job in result.jobs if job.group == group)
        try:
            found.rows.append(_row(result, jobs))
        except FioOutputError as error:
            found.warnings.append(f"skipped {name}, job {jobs[0].name!r}: {error.message}")


def _read(file: Path) -> str:
    with file.open("rb") as raw:
        # Not Path.read_bytes: a small .gz can be endless.
        data = (gzip.GzipFile(fileobj=raw) if file.suffix == ".gz" else raw).read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise FioOutputError("larger than any fio JSON")
    return data.decode("utf-8-sig")


def _row(result: FioResult, jobs: tuple[FioJob, ...]) -> dict[str, object]:
    """Return one measurement of a file: jobs that ran at the same time.

    Raises:
        FioOutputError: it is not one cell's, or fio failed.
    """
    failed = [job.error for job in jobs if job.error]
    if failed:
        raise FioOutputError(f"fio reports error {failed[0]}")
    if any(job.total_ios == 0 for job in jobs):
        raise FioOutputError("fio did no I/O")
    asked = {(job.rw, job.bs, job.iodepth, job.numjobs, job.ioengine) for job in jobs}
    if len(asked) > 1 or len({job.name for job in jobs}) > 1:
        raise FioOutputError("different jobs ran at the same time: they are no cell of a matrix")
    job = jobs[0]
    numjobs = job.numjobs or 1
    if len(jobs) not in {1, numjobs} and not result.client:
        raise FioOutputError(f"{len(jobs)} jobs are there, but numjobs is {numjobs}")
    factors: dict[str, object] = {
        "rw": job.rw, "bs": job.bs, "iodepth": job.iodepth, "numjobs": numjobs,
        "ioengine": job.ioengine or "default",
    }  # fmt: skip
    unknown = [name for name, value in factors.items() if value is None]
    if unknown:
        raise FioOutputError(f"the JSON does not tell {', '.join(unknown)}")
    return factors | metrics(FioResult(result.fio_version, result.timestamp, jobs, result.client))


def _read_csv(path: Path, variant: str) -> Imported:
    try:
        text = _read(path)
    except (FioOutputError, OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError.single(str(path), f"cannot be read: {error}", "is it CSV text?") from error
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        lines = [(reader.line_num, [value.strip() for value in row]) for row in reader if any(row)]
    except csv.Error as error:
        raise InputError.single(f"{path}: line {reader.line_num}", str(error), "is it CSV text?") from error
    header = lines[0][1] if lines else []
    factors = _header(path, header)
    problems: list[Problem] = []
    found = _Rows()
    for number, row in lines[1:]:
        found.rows.append(_csv_row(f"{path}: line {number}", header, row, problems))
    if problems:
        raise InputError(problems)
    if not found.rows:
        raise InputError.single(str(path), "has no rows", "a row a cell after the first line")
    return _samples(found, variant, factors)


def _header(path: Path, header: list[str]) -> tuple[str, ...]:
    """Check a CSV's first line; return the factors in it, rw, bs and iodepth first."""
    where = f"{path}: line 1"
    problems = [
        Problem(where, f"the column {name} is missing", _COLUMNS_REMEDY)
        for name in (*TABLE_FACTORS, "iops")
        if name not in header
    ]
    problems += [
        Problem(where, f"the column {name or '(without a name)'} is there twice", _COLUMNS_REMEDY)
        for name in dict.fromkeys(header)
        if header.count(name) > 1
    ]
    if "" in header:
        problems.append(Problem(where, "a column has no name", _COLUMNS_REMEDY))
    if "variant" in header:
        problems.append(Problem(where, "the column variant is taken", "one file for each variant"))
    if problems:
        raise InputError(problems)
    return (*TABLE_FACTORS, *(n for n in header if n not in _BOOKKEEPING | _NOT_FACTORS))


def _csv_row(where: str, header: list[str], row: list[str], problems: list[Problem]) -> dict[str, object]:
    if len(row) != len(header):
        problems.append(
            Problem(where, f"has {len(row)} fields, the first line {len(header)}", "a field for each column")
        )
        return {}
    values: dict[str, object] = {}
    for name, text in zip(header, row, strict=True):
        if name in _BOOKKEEPING:
            continue
        try:
            values[name] = _csv_value(name, text)
        except ValueError as error:
            problems.append(Problem(f"{where}, column {name}", str(error), _remedy(name)))
    return values


def _remedy(name: str) -> str:
    return "a plain number, such as 113725" if name in METRICS else "a value for every cell"


def _csv_value(name: str, text: str) -> object:
    if name in METRICS:
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"{text!r} is not a number") from None
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{text!r} is no measurement: it must be above 0")
        return value
    if not text:
        raise ValueError("is empty")
    if name == "bs":
        parse_size(text)
        return block_size(text)
    if text.isascii() and text.isdigit():
        return int(text)
    if name == "iodepth":
        raise ValueError(f"{text!r} is not a whole number")
    return text
