"""From call graphs of two variants to one tree of calls: what icicle graphs are drawn from.

callgrind knows what each function called and what that cost, with everything below it, but not which of its
own callers a call came from. So the tree is an estimate: what a function called is shared out among its
callers in proportion to what each of them spent in it. With one caller, which is the rule, that is exact.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.analysis.explanation import NO_SYMBOL, function_key
from harness.core.counting.callgrind import Function

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from harness.core.counting.callgrind import Profile

Key = tuple[str, str]
"""A function: its name, or its address, and the binary it is in."""

MAX_DEPTH = 40
MIN_SHARE = 0.004
"""Calls that cost less than this part of a request, in both variants, are no boxes of their own."""


@dataclass(slots=True)
class CallGraph:
    """What a request costs one variant: in each function itself, and in each call with all below it.

    Attributes:
        own: instructions of each function itself.
        calls: of each caller, instructions by what it called.
    """

    own: dict[Key, float] = field(default_factory=lambda: defaultdict(float))
    calls: dict[Key, dict[Key, float]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(float))
    )

    @property
    def total(self) -> float:
        """Instructions of all functions."""
        return sum(self.own.values())

    def roots(self) -> dict[Key, float]:
        """Return what began by itself: what a function cost beyond what its callers account for."""
        called: dict[Key, float] = defaultdict(float)
        for callees in self.calls.values():
            for callee, cost in callees.items():
                called[callee] += cost
        begun = {key: self.inclusive(key) - called[key] for key in self.own.keys() | self.calls.keys()}
        # Less than an instruction is what is left of adding up.
        begun = {key: cost for key, cost in begun.items() if cost >= 1}
        known = sum(begun.values())
        # Functions that call one another in a circle count more than once: the whole is what it is.
        return {key: cost * self.total / known for key, cost in begun.items()} if known else {}

    def inclusive(self, key: Key) -> float:
        """Return the instructions of a function with everything that it called."""
        return self.own.get(key, 0.0) + sum(self.calls.get(key, {}).values())


def call_graph(few: Iterable[Profile], many: Iterable[Profile], apart: int) -> CallGraph:
    """Return the graph of what a request costs, from the profiles of two counts.

    Args:
        few: the counted threads' profiles of the count of the fewest requests.
        many: those of the most.
        apart: by how many requests they differ.
    """
    graph = CallGraph()
    for sign, profiles in ((-1, few), (1, many)):
        for profile in profiles:
            for function, cost in profile.own.items():
                graph.own[_key(function)] += sign * cost / apart
            for (caller, callee), cost in profile.calls.items():
                ends = _key(caller), _key(callee)
                if ends[0] != ends[1]:
                    graph.calls[ends[0]][ends[1]] += sign * cost / apart
    # What was done once, at the start, may have cost a little more in the shorter count.
    graph.own = {key: cost for key, cost in graph.own.items() if cost > 0}
    graph.calls = {
        caller: {callee: cost for callee, cost in callees.items() if cost > 0}
        for caller, callees in graph.calls.items()
    }
    return graph


def _key(function: Function) -> Key:
    """Return what names a function within one build: its address where it has no name."""
    name, binary = function_key(function)
    return (function.name if name == NO_SYMBOL else name), binary


def _shown(key: Key) -> Key:
    """Return what names a function in both builds: those without a name are told apart by their callers."""
    return function_key(Function(key[0], "", key[1]))


@dataclass(frozen=True, slots=True)
class Call:
    """A function as called along one way from a thread's entry.

    Attributes:
        name: of the function; of the whole, at the top.
        binary: what it is in.
        old: instructions a request in the baseline, with everything below.
        new: likewise in the contender.
        own_old: of the function itself, of calls too small to show and of recursion.
        own_new: likewise.
        calls: what it called, by name.
    """

    name: str
    binary: str
    old: float
    new: float
    own_old: float
    own_new: float
    calls: Sequence[Call] = ()

    @property
    def widest(self) -> float:
        """Room for both variants: what is only in one of them has a place beside what is in the other."""
        return max(self.own_old, self.own_new) + sum(call.widest for call in self.calls)

    def walk(self, depth: int = 0) -> Iterator[tuple[int, Call]]:
        """Yield it and everything below with its depth, each before what it called."""
        yield depth, self
        for call in self.calls:
            yield from call.walk(depth + 1)


def call_tree(old: CallGraph, new: CallGraph) -> Call:
    """Return the tree of both variants; its top stands for a whole request."""
    smallest = MIN_SHARE * max(old.total, new.total)
    walk = _Walk((old, new), smallest)
    calls = walk.below((), ("", ""), (old.roots(), new.roots()))
    return _call(("a request", ""), (old.total, new.total), calls)


Costs = dict[Key, float]


@dataclass(frozen=True, slots=True)
class _Walk:
    """A walk down both graphs at once; ``sides`` are always the baseline's and the contender's.

    A function stands in a place with all of its own build that are shown as the same there: those without
    names below one caller are one box, and one that calls another without a name is one with it.
    """

    graphs: tuple[CallGraph, CallGraph]
    smallest: float

    def below(self, path: tuple[Key, ...], shown: Key, sides: tuple[Costs, Costs]) -> list[Call]:
        if shown[0] == NO_SYMBOL:
            old, new = (
                self._through(graph, costs, path) for graph, costs in zip(self.graphs, sides, strict=True)
            )
        else:
            old, new = sides
        found: dict[Key, tuple[Costs, Costs]] = defaultdict(lambda: ({}, {}))
        for side, costs in enumerate((old, new)):
            for key, cost in costs.items():
                # Recursion stays where it began: else it would never end.
                if key not in path:
                    found[_shown(key)][side][key] = cost
        return [
            self._expand(path, name, costs)
            for name, costs in sorted(found.items())
            if max(sum(side.values()) for side in costs) >= self.smallest
        ]

    def _through(self, graph: CallGraph, costs: Costs, path: tuple[Key, ...]) -> Costs:
        """Return what is called in the end where functions without a name call one another."""
        named: Costs = defaultdict(float)
        waiting, seen = [costs], set(path)
        while waiting:
            for key, cost in waiting.pop().items():
                if _shown(key)[0] != NO_SYMBOL:
                    named[key] += cost
                elif key not in seen and cost >= 1:
                    seen.add(key)
                    waiting.append(_shared_out(graph, key, cost))
        return named

    def _expand(self, path: tuple[Key, ...], shown: Key, sides: tuple[Costs, Costs]) -> Call:
        old, new = (sum(costs.values()) for costs in sides)
        if len(path) >= MAX_DEPTH:
            return _call(shown, (old, new), [])
        parts: list[Costs] = []
        for graph, costs in zip(self.graphs, sides, strict=True):
            called: Costs = defaultdict(float)
            for key, cost in costs.items():
                for callee, part in _shared_out(graph, key, cost).items():
                    called[callee] += part
            parts.append(called)
        inside = (*path, *sides[0], *(key for key in sides[1] if key not in sides[0]))
        return _call(shown, (old, new), self.below(inside, shown, (parts[0], parts[1])))


def _shared_out(graph: CallGraph, key: Key, cost: float) -> Costs:
    """Return this part of a function's cost by what it called."""
    whole = graph.inclusive(key)
    return {callee: cost * part / whole for callee, part in graph.calls.get(key, {}).items()} if whole else {}


def _call(key: Key, costs: tuple[float, float], calls: list[Call]) -> Call:
    old, new = costs
    # Never less than nothing, whatever adding up left behind.
    own_old = max(0.0, old - sum(call.old for call in calls))
    own_new = max(0.0, new - sum(call.new for call in calls))
    return Call(key[0], key[1], old, new, own_old, own_new, calls)
