"""The fio JSON reader: as a run reads it, and as results of others are imported."""

from __future__ import annotations

import gzip
import json
import lzma
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zstandard

import fio_writer
from fuzz.mutation import mutate_bytes, mutate_json, parsed
from fuzz.target import READ, Target, Violation, outcome_of, require, same_number
from harness.adapters.results.fio_files import read_some, read_text
from harness.adapters.results.imports import read_results
from harness.core.errors import HarnessError
from harness.core.fio_cells import read_measurements
from harness.core.fio_output import accept, metrics, parse_fio, why_rejected
from harness.core.model import Cell

if TYPE_CHECKING:
    from random import Random

_DATA = Path(__file__).parents[1] / "data"
_CELL = Cell("randread", "4k", 8)
_DIRECTIONS = ("read", "write", "trim")
_IRRELEVANT = {"zz_new": {"a": [1, None]}, "disk_util": [{"name": "vdb", "util": 99.0}], "zz": -1}


def check(data: bytes, directory: Path) -> str:
    """Read one output in every way there is."""
    text = data.decode(errors="replace")
    outcome = _as_a_run_reads_it(text)
    path = directory / "out.json"
    path.write_bytes(data)
    table = read_some([str(path)])
    numbers = list(table.numbers.get("iops", ()))
    found = [float(value) for value in numbers]
    require(all(value > 0 for value in found), f"a measurement without IOPS: {found}")
    _compare_with_careful_reading(path, found)
    if not found:
        require(table.problems, "nothing was read, and no reason given")
        return outcome
    simple = simple_iops(data)
    if simple is not None:
        require(
            all(any(same_number(number, wanted) for wanted in simple) for number in found),
            f"IOPS {found}, where a simple reading gives {simple}",
        )
        _irrelevant_fields_change_nothing(data, path, found)
    try:
        frame = read_results(path, "OLD").samples
    except HarnessError as error:
        return outcome_of(error)
    # The same measurement twice is one.
    known = table.identity[table.identity != 0]
    copies = len(known) - len(set(known.tolist()))
    require(len(frame) == len(found) - copies, "not a row a measurement")
    return READ


def _compare_with_careful_reading(path: Path, found: list[float]) -> None:
    """Hold many files' quick reading against the one that looks at everything."""
    try:
        careful, _problems = read_measurements(read_text(path))
    except (HarnessError, OSError, EOFError, zlib.error, lzma.LZMAError, UnicodeDecodeError):
        careful = []
    wanted = [one.numbers["iops"] for one in careful]
    require(wanted == found, f"IOPS {found}, where the careful reading gives {wanted}")


def _as_a_run_reads_it(text: str) -> str:
    try:
        result = parse_fio(text)
        numbers = metrics(result)
    except HarnessError as error:
        return outcome_of(error)
    reason = accept(result, exit_code=0, cell=_CELL, runtime=5.0)
    require(
        reason == why_rejected(text, "", exit_code=0, cell=_CELL, runtime=5.0), "two opinions on one output"
    )
    if reason is None:
        require(numbers["iops"] > 0, "accepted without a number")
    simple = _simple_document(text)
    if simple is not None and numbers:
        wanted = sum(_iops_of(job) for job in simple["jobs"])
        require(
            same_number(numbers["iops"], wanted), f"IOPS {numbers['iops']}, a simple reading gives {wanted}"
        )
    return READ


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("equal keys")
    return found


def _simple_document(text: str) -> dict[str, Any] | None:
    """Return the one document of a text that is nothing else; None where there is room for opinions."""
    try:
        document = json.loads(text, object_pairs_hook=_unique, parse_constant=lambda _name: None)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or not isinstance(document.get("jobs"), list):
        return None
    return document


def _iops_of(job: dict[str, Any]) -> float:
    names = ("mixed",) if "mixed" in job else _DIRECTIONS
    return float(sum((job.get(name) or {}).get("iops") or 0.0 for name in names))


def simple_iops(data: bytes) -> list[float] | None:
    """Return the IOPS of every group of an output's jobs, read in the simplest way; None where that fails."""
    try:
        document = _simple_document(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return None
    if document is None:
        return None
    groups: dict[object, float] = {}
    for job in document["jobs"]:
        group = job.get("groupid") or 0  # one that names none is of the first
        groups[group] = groups.get(group, 0.0) + _iops_of(job)
    return list(groups.values())


def _irrelevant_fields_change_nothing(data: bytes, path: Path, found: list[float]) -> None:
    """Add keys that nobody knows everywhere; they may change nothing."""
    document = json.loads(data.decode("utf-8-sig"), parse_constant=lambda _name: None)
    for job in document["jobs"]:
        for name in _DIRECTIONS:
            if isinstance(job.get(name), dict):
                job[name] |= {"zz_new": 5, "drop_ios": 3}
        job.update(_IRRELEVANT)
    path.write_bytes(json.dumps(document | _IRRELEVANT).encode("utf-8", "surrogatepass"))
    again = [float(value) for value in read_some([str(path)]).numbers.get("iops", [])]
    path.write_bytes(data)
    if again != found:
        raise Violation(f"fields that mean nothing changed IOPS {found}: {again}")


def seeds() -> list[bytes]:
    """Return recorded outputs of every kind, and some of versions that cannot be run here."""
    recorded = [path.read_bytes() for path in sorted((_DATA / "fio").glob("*.json"))]
    made = [
        fio_writer.text(version=version, iops=iops, rw=rw, numjobs=jobs, grouped=jobs > 2).encode()
        for version, iops, rw, jobs in (
            ("2.1", 500.0, "randread", 1), ("2.14", 1e4, "randwrite", 1), ("3.1", 1000.0, "randrw", 2),
            ("3.33", 1000.0, "randread", 1), ("3.36", 2e6, "randread", 4),
        )
    ]  # fmt: skip
    one = made[3]
    noisy = b"note: both iodepth >= 1 and synchronous I/O engine are selected\n" + one
    twice = one + fio_writer.text(iops=900.0, moment=1_795_000_100).encode()
    return [*made, noisy, twice, gzip.compress(one, mtime=0), zstandard.compress(one), *recorded]


def mutate(data: bytes, random: Random) -> bytes:
    """Change a document, or what stands around it."""
    if random.random() < 0.15:
        return mutate_bytes(data, random)
    if random.random() < 0.1 and parsed(data) is not None:
        return random.choice((b"note {\n", b"{" * 200, b'{"a":', b"fio: x\n")) + mutate_json(data, random)
    return mutate_json(data, random)


TARGET = Target("fio", "fio JSON reader and import", check, seeds, mutate)
