"""The table of what came out, for the terminal and for docs/fuzzing.md."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fuzz.target import READ
from marked_page import write_between

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fuzz.driver import Result

BEGIN, END = "<!-- fuzz table: written by make fuzz -->", "<!-- end of the fuzz table -->"
_HEAD = ("target", "inputs", "read", "refused, by error", "slowest input", "edges reached", "violations")


def table(results: Sequence[Result]) -> str:
    """Return the results as a Markdown table."""
    rows = [_HEAD, tuple("---" for _ in _HEAD), *map(_row, results)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(result: Result) -> tuple[str, ...]:
    read = result.outcomes.get(READ, 0)
    refused = ", ".join(f"{name} {count:,}" for name, count in result.outcomes.items() if name != READ)
    return (
        f"`{result.target}`: {result.title}",
        f"{result.inputs:,}",
        f"{read:,}",
        refused or "-",
        f"{result.slowest * 1000:.0f} ms",
        f"{result.coverage:,}" if result.coverage else "-",
        str(len(result.violations)),
    )


def write(path: Path, results: Sequence[Result]) -> None:
    """Put the table between its two marks in a page."""
    engines = ", ".join(sorted({result.engine for result in results}))
    seconds = sum(result.cpu_seconds for result in results)
    when = datetime.now(UTC).date().isoformat()
    python = platform.python_version()
    note = f"Of {when}, Python {python}, engine {engines}, {seconds / 60:.0f} minutes of CPU time."
    write_between(path, BEGIN, END, f"{table(results)}\n\n{note}")
