"""The part of a report that shows calls: icicle graphs of OLD, NEW and difference, and the same as tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.analysis.call_tree import MIN_SHARE
from harness.report.icicle import Shown, icicle
from harness.report.page import Cell, Folded, Heading, Points, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.analysis.call_tree import Call
    from harness.report.page import Block

_ROWS = 80
_INDENT = "\N{MIDDLE DOT} "
_HOW = (
    "From left to right stands what cost most; nothing is in the order of time. Pointing at a box tells its "
    "numbers, and the browser's search finds names. The tables hold the same."
)
_ESTIMATE = (
    "callgrind knows what each function called and at what cost, not which of its own callers that call "
    "came from: where a function has several callers, what it called is shared out among them in proportion "
    "to what each spent in it. A function that is called again below itself is counted where it stands "
    f"first; calls of less than {100 * MIN_SHARE:g}% of a request are part of their caller."
)


@dataclass(frozen=True, slots=True)
class CellTree:
    """One cell's calls.

    Attributes:
        title: which cell, which variants.
        names: of both variants.
        tree: their calls.
    """

    title: str
    names: tuple[str, str]
    tree: Call


def call_graphs(trees: Sequence[CellTree]) -> list[Block]:
    """Return the graphs of every cell; of several cells, those of the first are unfolded."""
    blocks: list[Block] = [Points([_HOW, _ESTIMATE])]
    for number, cell in enumerate(trees):
        difference = icicle(cell.tree, cell.names, Shown.DIFFERENCE)
        both: list[Block] = [icicle(cell.tree, cell.names, shown) for shown in (Shown.OLD, Shown.NEW)]
        more = Folded(f"{cell.names[0]} and {cell.names[1]} by themselves: {cell.title}", both)
        table = Folded(f"As a table: {cell.title}", [_table(cell, f"calls-{number}")])
        graphs: list[Block] = [difference, more, table]
        blocks += graphs if number == 0 else [Folded(cell.title, graphs)]
    return blocks


def _table(cell: CellTree, name: str) -> Table:
    """Return the tree as rows, indented; of a large one, what costs or differs most."""
    rows = list(cell.tree.walk())
    kept = sorted(range(len(rows)), key=lambda n: -max(rows[n][1].old, rows[n][1].new))[:_ROWS]
    headings = [
        Heading("FUNCTION", "function", left=True, names_row=True),
        Heading("IN", "binary", left=True),
        Heading(cell.names[0], "baseline", "instructions a request, with what it called"),
        Heading(cell.names[1], "contender", "instructions a request, with what it called"),
        Heading("DIFF", "difference"),
        Heading("ITSELF", "own", "of the difference, in the function itself"),
    ]
    return Table(
        f"Calls, {cell.title}: instructions a request",
        headings,
        [_row(*rows[number]) for number in sorted(kept)],
        name=name,
    )


def _row(depth: int, call: Call) -> list[Cell]:
    own = call.own_new - call.own_old
    return [
        Cell(_INDENT * depth + call.name),
        Cell(call.binary),
        Cell(f"{call.old:.0f}", call.old),
        Cell(f"{call.new:.0f}", call.new),
        Cell(f"{call.new - call.old:+.0f}", call.new - call.old),
        Cell(f"{own:+.0f}", own),
    ]
