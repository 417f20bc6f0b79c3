"""Results in a CSV."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

from fuzz.mutation import mutate_bytes, mutate_lines
from fuzz.target import READ, Target, outcome_of, require
from harness.adapters.results.imports import read_results
from harness.core.errors import HarnessError

if TYPE_CHECKING:
    from random import Random

_DATA = Path(__file__).parents[1] / "data" / "seed"


def check(data: bytes, directory: Path) -> str:
    """Read a table; its numbers have to be those of a plain reading."""
    path = directory / "out.csv"
    path.write_bytes(data)
    try:
        frame = read_results(path, "OLD").samples
    except HarnessError as error:
        return outcome_of(error)
    text = io.StringIO(data.decode("utf-8-sig"), newline="")
    rows = [[value.strip() for value in row] for row in csv.reader(text) if any(row)]
    header, *body = rows
    require(len(frame) == len(body), f"{len(frame)} rows of {len(body)} lines")
    for name in ("iops", "iodepth"):
        at = header.index(name)
        wanted = [float(row[at]) for row in body]
        require([float(value) for value in frame[name]] == wanted, f"other values of {name}")
    return READ


def seeds() -> list[bytes]:
    """Return the seed's tables, one with further factors, one as spreadsheets write it."""
    more = (
        b"rw,bs,iodepth,iops,numjobs,cache,session\nrandread,4k,1,1000.5,1,none,0\nread,1m,8,2e3,4,none,1\n"
    )
    quoted = b'\xef\xbb\xbf"rw","bs","iodepth","iops"\r\n"randread","4 KiB","1","113725"\r\n'
    return [*(path.read_bytes() for path in sorted(_DATA.glob("*.csv"))), more, quoted]


_CELLS = (
    b"",
    b"0",
    b"-1",
    b"nan",
    b"inf",
    b"1e999",
    b"1_000",
    b"9" * 400,
    b"9" * 5000,
    b'"',
    b"\xd9\xa1",
    b"4 K",
    b"1,5",
    b"0x10",
    b" 1 ",
)


def mutate(data: bytes, random: Random) -> bytes:
    """Change a cell, a line or bytes."""
    if random.random() < 0.4:
        lines = data.split(b"\n")
        at = random.randrange(len(lines))
        cells = lines[at].split(b",")
        cells[random.randrange(len(cells))] = random.choice((*_CELLS, *cells))
        lines[at] = b",".join(cells)
        return b"\n".join(lines)
    return mutate_lines(data, random) if random.random() < 0.5 else mutate_bytes(data, random)


TARGET = Target("csv", "CSV tables", check, seeds, mutate)
