"""The run directory of counts, and what is made of it."""

from __future__ import annotations

import functools
import json
import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import counted_run

from fuzz.edits import SIGN, Files, edits_of, lay_out, mutator, written
from fuzz.target import READ, Target, outcome_of, require
from harness.adapters.guestless.store import CountDirectory
from harness.adapters.results.run_layout import holds_counts
from harness.core.errors import HarnessError
from harness.shell.costing import compare_counts
from harness.shell.counted import read_counted
from harness.shell.summary import summarise_counts

if TYPE_CHECKING:
    from harness.core.counting.planning import PlannedCount


@functools.cache
def sound() -> Files:
    """Return the files of a run of counts as it is left."""

    def steady(planned: PlannedCount) -> int:
        return 400_000 + planned.requests * (7000 if planned.variant == "OLD" else 7100)

    # One cell, counted twice: every file there is, and few of them.
    text = counted_run.EXPERIMENT.replace("[1, 64]", "1") + "instructions: {repeats: 2}\n"
    with tempfile.TemporaryDirectory() as scratch:
        path = counted_run.make(Path(scratch) / "run", steady, text)
        return {
            file.relative_to(path).as_posix(): file.read_bytes()
            for file in sorted(path.rglob("*"))
            if file.is_file() and not file.name.startswith(".")
        }


def check(data: bytes, directory: Path) -> str:
    """Read a run directory of counts that something happened to."""
    edits = edits_of(data)
    touched = lay_out(sound(), edits, directory)
    try:
        holds_counts(directory)
        summarise_counts(CountDirectory.open(directory))
        CountDirectory.open(directory)
        counts = read_counted(directory).counts
        wanted = _simple_counts(directory)
        if wanted is not None:
            found = [(count.variant, count.requests, count.repeat, count.instructions) for count in counts]
            require(found == wanted, f"counts {found}, where a simple reading gives {wanted}")
        comparison = compare_counts(directory)
    except HarnessError as error:
        require(str(directory) in str(error), f"an error that names no file: {error}")
        return outcome_of(error)
    signed = any(edit[0] == SIGN for edit in edits)
    require(signed or not touched, f"{touched} changed, and nobody noticed")
    for rows in comparison.contenders.values():
        for row in rows:
            require(not math.isinf(row.change), f"a change of {row.change}")
    return READ


def _simple_counts(directory: Path) -> list[tuple[Any, ...]] | None:
    """Return what was counted, from the totals of callgrind's files; None where something is odd."""
    found: list[tuple[Any, ...]] = []
    try:
        plan = json.loads((directory / "plan.json").read_bytes())
        sessions = {entry["number"]: entry for entry in plan["sessions"]}
        for entry in plan["iterations"]:
            variant = sessions[entry["session"]]["variant"]
            place = directory / "counts" / f"{entry['number']:03d}-{variant}"
            if not (place / "count.json").exists():
                continue
            record = json.loads((place / "count.json").read_bytes())
            if record["state"] != "ok":
                continue
            total = sum(_total(place / t["file"]) for t in record["threads"] if t["counted"])
            found.append((variant, entry["requests"], entry["repeat"], total))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return found


def _total(path: Path) -> int:
    text = path.read_text(errors="replace")
    return int(next(line for line in text.splitlines() if line.startswith("totals:")).partition(":")[2])


def seeds() -> list[bytes]:
    """Return the sound run, and the simplest things that happen to one."""
    return [written([]), *(written([["flip", name, 0, 0]]) for name in sound()), written([[SIGN, ""]])]


TARGET = Target("counts", "run directory of counts, then compare", check, seeds, mutator(sound))
