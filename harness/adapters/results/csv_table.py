"""Results in a CSV: a row a measurement, a column a factor or a metric; every bad line is named."""

from __future__ import annotations

import csv
import io
import lzma
import math
import zlib
from typing import TYPE_CHECKING

from harness.adapters.results.fio_files import first_line, read_text
from harness.analysis.metrics import METRICS
from harness.core.errors import InputError, Problem
from harness.core.fio_document import FioOutputError
from harness.core.fio_options import block_size, pattern
from harness.core.model import TABLE_FACTORS
from harness.core.units import parse_size

if TYPE_CHECKING:
    from pathlib import Path

BOOKKEEPING = frozenset({"run", "block", "session", "iteration", "repeat", "timestamp"})
"""Columns that tell repeats apart rather than cells."""

NOT_FACTORS = frozenset({"variant", "block", "session", "iteration", *TABLE_FACTORS, *METRICS})
"""Columns of the samples that are no further factors."""

_REMEDY = "the first line names the columns: rw,bs,iodepth,iops, and any further factor"
_MOST_DIGITS = 18
_PACKED = (".gz", ".zst", ".xz", ".bz2")


def is_csv(path: Path) -> bool:
    """Return whether a file is a table: by its name, or by a first line that names columns."""
    name = path.name.lower()
    for suffix in _PACKED:
        name = name.removesuffix(suffix)
    if name.endswith(".csv"):
        return True
    try:
        columns = {column.strip() for column in first_line(read_text(path)).split(",")}
    except (FioOutputError, OSError, EOFError, zlib.error, lzma.LZMAError, UnicodeDecodeError):
        return False
    return {"rw", "iops"} <= columns


def read_csv(path: Path) -> tuple[list[dict[str, object]], tuple[str, ...]]:
    """Return a row a measurement, and the factors, rw, bs and iodepth first.

    Raises:
        InputError: every problem with its line and column.
    """
    try:
        text = read_text(path)
    except (FioOutputError, OSError, EOFError, zlib.error, lzma.LZMAError, UnicodeDecodeError) as error:
        raise InputError.single(str(path), f"cannot be read: {error}", "is it CSV text?") from error
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        lines = [(reader.line_num, [value.strip() for value in row]) for row in reader if any(row)]
    except csv.Error as error:
        raise InputError.single(f"{path}: line {reader.line_num}", str(error), "is it CSV text?") from error
    header = lines[0][1] if lines else []
    factors = _header(path, header)
    problems: list[Problem] = []
    rows = [_row(f"{path}: line {number}", header, row, problems) for number, row in lines[1:]]
    if problems:
        raise InputError(problems)
    if not rows:
        raise InputError.single(str(path), "has no rows", "a row a cell after the first line")
    return rows, factors


def _header(path: Path, header: list[str]) -> tuple[str, ...]:
    """Check the first line; return the factors in it."""
    where = f"{path}: line 1"
    problems = [
        Problem(where, f"the column {name} is missing", _REMEDY)
        for name in (*TABLE_FACTORS, "iops")
        if name not in header
    ]
    problems += [
        Problem(where, f"the column {name or '(without a name)'} is there twice", _REMEDY)
        for name in dict.fromkeys(header)
        if header.count(name) > 1
    ]
    if "" in header:
        problems.append(Problem(where, "a column has no name", _REMEDY))
    if "variant" in header:
        problems.append(Problem(where, "the column variant is taken", "one file for each variant"))
    if problems:
        raise InputError(problems)
    return (*TABLE_FACTORS, *(name for name in header if name not in BOOKKEEPING | NOT_FACTORS))


def _row(where: str, header: list[str], row: list[str], problems: list[Problem]) -> dict[str, object]:
    if len(row) != len(header):
        problems.append(
            Problem(where, f"has {len(row)} fields, the first line {len(header)}", "a field for each column")
        )
        return {}
    values: dict[str, object] = {}
    for name, text in zip(header, row, strict=True):
        if name in BOOKKEEPING:
            continue
        try:
            values[name] = _value(name, text)
        except ValueError as error:
            problems.append(Problem(f"{where}, column {name}", str(error), _remedy(name)))
    return values


def _remedy(name: str) -> str:
    return "a plain number, such as 113725" if name in METRICS else "a value for every cell"


def _value(name: str, text: str) -> object:
    if name in METRICS:
        try:
            # Python also reads 1_000 and the digits of every script: in a table they are a mistake.
            value = float(text if text.isascii() and "_" not in text else "")
        except ValueError:
            raise ValueError(f"{text!r} is not a number") from None
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{text!r} is no measurement: it must be above 0")
        return value
    if not text:
        raise ValueError("is empty")
    if name == "rw":
        return pattern(text)
    if name == "bs":
        parse_size(text)
        return block_size(text)
    if text.isascii() and text.isdigit():
        if len(text) > _MOST_DIGITS:
            raise ValueError(f"{text[:_MOST_DIGITS]}... is a number of {len(text)} digits")
        return int(text)
    if name == "iodepth":
        raise ValueError(f"{text!r} is not a whole number")
    return text
