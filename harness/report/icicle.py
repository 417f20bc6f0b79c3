"""Icicle graphs of a call tree: a request on top, below each function what it called, as wide as its cost.

They are SVG without any script: text that can be searched, positions in percent so that they fit every
screen, a tooltip (`<title>`) a box, colours that are the page's variables.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.analysis.call_tree import Call

ROW_PX = 19
_LABELLED = 1.5
_THINNEST = 0.1
_STEPS = 5
_BINARIES = 6
_NO_DIFFERENCE = 0.001
_FULL_COLOUR = 0.05
"""Parts of a request: what is less is grey, and what is more may have the strongest colour."""


class Shown(StrEnum):
    """What an icicle graph is as wide as."""

    OLD = "old"
    NEW = "new"
    DIFFERENCE = "difference"


@dataclass(frozen=True, slots=True)
class Box:
    """One function along one way.

    Attributes:
        x: left edge, percent of the graph's width.
        y: upper edge, pixels.
        width: percent.
        label: the function's name; empty where there is no room for any of it.
        title: name and numbers, for the tooltip.
        tone: its style class.
    """

    x: float
    y: int
    width: float
    label: str
    title: str
    tone: str


@dataclass(frozen=True, slots=True)
class Icicle:
    """One graph.

    Attributes:
        caption: what it shows.
        summary: the same in a sentence, for who cannot see it.
        boxes: each before those below it.
        note: how to read it.
    """

    kind: ClassVar[str] = "icicle"
    caption: str
    summary: str
    boxes: Sequence[Box]
    note: str = ""

    @property
    def height(self) -> int:
        """Its height, pixels."""
        return max((box.y for box in self.boxes), default=0) + ROW_PX


def icicle(tree: Call, names: tuple[str, str], shown: Shown) -> Icicle:
    """Return the graph of one variant, or of the difference.

    Graphs of both variants have the same scale: what is as wide costs as much.

    Args:
        tree: of both variants.
        names: theirs.
        shown: which graph.
    """
    drawing = _Drawing(tree, names, shown)
    boxes = list(drawing.boxes(tree, 0.0, 0))
    name = {Shown.OLD: names[0], Shown.NEW: names[1]}.get(shown)
    total = {Shown.OLD: tree.old, Shown.NEW: tree.new}.get(shown, tree.new - tree.old)
    if name is not None:
        return Icicle(
            f"{name}: {total:,.0f} instructions a request",
            f"Icicle graph of {name}: {_largest(tree, shown)}",
            boxes,
            "As wide as it cost, with what it called below it; a colour a binary.",
        )
    return Icicle(
        f"{names[1]} against {names[0]}: {total:+,.0f} instructions a request",
        f"Icicle graph of the difference: {_largest(tree, shown)}",
        boxes,
        f"Red (+): {names[1]} spends more there; blue (-): less; grey: the same. As wide as the larger of "
        "both, so that what only one of them calls is seen too.",
    )


def _largest(tree: Call, shown: Shown) -> str:
    """Return the functions that cost most themselves, or differ most."""
    costs: dict[str, float] = {}
    for _depth, call in tree.walk():
        own = {Shown.OLD: call.own_old, Shown.NEW: call.own_new}.get(shown, call.own_new - call.own_old)
        costs[call.name] = costs.get(call.name, 0.0) + own
    largest = sorted(costs.items(), key=lambda item: -abs(item[1]))[:3]
    sign = "+" if shown is Shown.DIFFERENCE else ""
    return "; ".join(f"{name} {cost:{sign},.0f}" for name, cost in largest)


class _Drawing:
    def __init__(self, tree: Call, names: tuple[str, str], shown: Shown) -> None:
        self._names = names
        self._shown = shown
        self._whole = tree.widest if shown is Shown.DIFFERENCE else max(tree.old, tree.new)
        self._total = max(tree.old, tree.new)
        self._most = max((abs(c.new - c.old) for _depth, c in tree.walk()), default=0.0)
        binaries = dict.fromkeys(call.binary for _depth, call in tree.walk())
        self._binaries = {name: number % _BINARIES for number, name in enumerate(binaries)}

    def boxes(self, call: Call, x: float, depth: int) -> Iterator[Box]:
        width = self._percent(call)
        # Thinner ones would be lines on top of one another.
        if width < _THINNEST:
            return
        label = call.name if width >= _LABELLED else ""
        yield Box(round(x, 3), depth * ROW_PX, round(width, 3), label, self._title(call), self._tone(call))
        for below in sorted(call.calls, key=lambda c: (-c.widest, c.name)):
            yield from self.boxes(below, x, depth + 1)
            x += self._percent(below)

    def _percent(self, call: Call) -> float:
        wide = {Shown.OLD: call.old, Shown.NEW: call.new}.get(self._shown, call.widest)
        return 100 * wide / self._whole if self._whole else 0.0

    def _title(self, call: Call) -> str:
        where = f" ({call.binary})" if call.binary else ""
        sides = ", ".join(
            f"{name} {cost:,.0f}" + (f" (itself {own:,.0f})" if call.calls else "")
            for name, cost, own in zip(
                self._names, (call.old, call.new), (call.own_old, call.own_new), strict=True
            )
        )
        share = f"{100 * max(call.old, call.new) / self._total:.1f}%" if self._total else ""
        return f"{call.name}{where}: {sides}, {call.new - call.old:+,.0f}; {share} of a request"

    def _tone(self, call: Call) -> str:
        if self._shown is not Shown.DIFFERENCE:
            return f"of-{self._binaries[call.binary]}"
        change = call.new - call.old
        if abs(change) < max(1, _NO_DIFFERENCE * self._total):
            return "equal"
        # A small difference stays pale, even the largest one.
        step = max(1, round(_STEPS * abs(change) / max(self._most, _FULL_COLOUR * self._total)))
        return f"{'more' if change > 0 else 'less'}-{step}"
