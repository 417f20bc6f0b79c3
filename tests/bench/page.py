"""The table of a run of the benchmarks, for the terminal and for docs/performance.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.figures import Who
from marked_page import write_between

if TYPE_CHECKING:
    from pathlib import Path

    from bench.figures import Curve, Suite, Target, Work

BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"
_HEAD = ("work", "unit", *Who, "target", "found")


def table(suite: Suite) -> str:
    """Return what was found as a Markdown table."""
    rows = [_HEAD, ("---", "---", *("---:" for _ in Who), "---", "---"), *map(_row, suite.works)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def curves(suite: Suite) -> str:
    """Return how things grew, each as a Markdown table of its own."""
    return "\n\n".join(map(_curve, suite.curves))


def _curve(curve: Curve) -> str:
    rows = [curve.columns, ["---:"] * len(curve.columns)]
    rows += [
        [f"{value:,}" if isinstance(value, int) else _number(value) for value in row] for row in curve.rows
    ]
    lines = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"**{curve.name}** (slope {curve.slope:.2f}): {curve.note}\n\n{lines}"


def write(path: Path, suite: Suite) -> None:
    """Put the table between its two marks in a page.

    Raises:
        SystemExit: the page has no such marks.
    """
    machine = "; ".join(f"{name}: {value}" for name, value in suite.machine.items())
    notes = "\n".join(f"- **{work.name}**: {work.note}" for work in suite.works if work.note)
    parts = [f"{machine}.", table(suite), notes, *([curves(suite)] if suite.curves else [])]
    write_between(path, BEGIN, END, "\n\n".join(parts))


def _row(work: Work) -> tuple[str, ...]:
    took = (_number(work.took[who]) if who in work.took else "" for who in Who)
    targets = "; ".join(_asked(target) for target in work.targets)
    found = "; ".join(_found(work, target) for target in work.targets)
    return (work.name, work.unit, *took, targets, found)


def _asked(target: Target) -> str:
    return f"≤ {target.most:g}" + (f" x {target.of}" if target.of else "")


def _found(work: Work, target: Target) -> str:
    met = work.met(target)
    if met is None:
        return "not measured"
    ratio = work.ratio(target.of) if target.of else None
    value = f"{ratio:.2f} x" if ratio is not None else _number(work.took[Who.HARNESS])
    return f"{value}{'' if met else ', missed'}"


def _number(value: float) -> str:
    """Return three digits that count."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"
