"""Where the instructions went: the difference a request, by function and by source file, largest first."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, TypeVar

from harness.analysis.layout import Column, clean, layout
from harness.core.counting.callgrind import UNKNOWN, Function

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from harness.core.counting.callgrind import Profile

_K = TypeVar("_K")
SHOWN = 15
_LIBRARY_VERSION = re.compile(r"\.so[0-9.]*$|-[0-9.]+\.so$")
_RECURSION = re.compile(r"'\d+$")
_REPEATED = re.compile(r"mem(set|cpy|move|pcpy)|bzero")
_DOMINANT = 0.25
_VARIANT = re.compile(r"\.(constprop|isra|part|cold)\.\d+$|@@?[A-Z_0-9.]+$")
NO_SYMBOL = "(no symbol)"


@dataclass(frozen=True, slots=True)
class Spending:
    """What a request costs one variant in one cell, by where.

    Attributes:
        functions: instructions of each (function, binary) itself.
        callers: for each of them, instructions by the name of its caller, everything that it called included.
        files: instructions by source file; ``???`` where that is not known.
        total: all of them.
    """

    functions: Mapping[tuple[str, str], float]
    callers: Mapping[tuple[str, str], Mapping[str, float]]
    files: Mapping[str, float]
    total: float

    @property
    def nameless(self) -> float:
        """The fraction that was spent in functions without a symbol."""
        lost = sum(cost for (name, _object), cost in self.functions.items() if name == NO_SYMBOL)
        return lost / self.total if self.total else 0.0


@dataclass(slots=True)
class _Sums:
    functions: dict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))
    callers: dict[tuple[str, str], dict[str, float]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(float))
    )
    files: dict[str, float] = field(default_factory=lambda: defaultdict(float))


def spending(few: Iterable[Profile], many: Iterable[Profile], apart: int) -> Spending:
    """Return what a request costs, by where, from the profiles of two counts.

    Args:
        few: the counted threads' profiles of the count of the fewest requests.
        many: those of the most.
        apart: by how many requests they differ.
    """
    sums = _Sums()
    for sign, profiles in ((-1, few), (1, many)):
        for profile in profiles:
            _add(sums, profile, sign / apart)
    return Spending(sums.functions, sums.callers, sums.files, sum(sums.functions.values()))


def _add(sums: _Sums, profile: Profile, weight: float) -> None:
    for function, cost in profile.own.items():
        sums.functions[function_key(function)] += weight * cost
    for (caller, callee), cost in profile.calls.items():
        if function_key(caller) != function_key(callee):
            sums.callers[function_key(callee)][function_key(caller)[0]] += weight * cost
    for file, cost in profile.lines.items():
        sums.files[_file(file)] += weight * cost


def function_key(function: Function) -> tuple[str, str]:
    """Return what makes a function the same in two builds: not its address, nor its library's version."""
    name = _VARIANT.sub("", _RECURSION.sub("", function.name)) if function.has_symbol else NO_SYMBOL
    binary = _LIBRARY_VERSION.sub("", PurePosixPath(function.object).name)
    return name, binary


def _file(path: str) -> str:
    """Return a source file without the directory that it was built in."""
    parts = [part for part in PurePosixPath(path).parts if part not in {".", "..", "/"}]
    return "/".join(parts[-2:]) if path != UNKNOWN else UNKNOWN


@dataclass(frozen=True, slots=True)
class Explanation:
    """One cell explained.

    Attributes:
        title: which cell, which variants.
        baseline: where OLD's instructions went.
        contender: where NEW's went.
        names: of both variants.
        threads: instructions a request of each thread, both variants'.
        debug_packages: what gives each variant's binary its names, in words.
    """

    title: str
    baseline: Spending
    contender: Spending
    names: tuple[str, str]
    threads: Sequence[tuple[str, float, float]] = ()
    debug_packages: Sequence[str] = ()


def explain(explanation: Explanation, *, shown: int = SHOWN) -> str:
    """Write one cell's explanation; text that ends with a newline."""
    old, new = explanation.baseline, explanation.contender
    lines = [clean(explanation.title), ""]
    lines += _functions(explanation, shown)
    if known := _files(explanation, shown):
        lines += ["", *known]
    if explanation.threads:
        lines += ["", *_threads(explanation)]
    lines += ["", f"All functions: {old.total:.0f}, {new.total:.0f}, {new.total - old.total:+.0f} a request."]
    lines += _remarks(explanation)
    return "\n".join(lines) + "\n"


def _largest(old: Mapping[_K, float], new: Mapping[_K, float], shown: int) -> list[_K]:
    keys = sorted(
        old.keys() | new.keys(), key=lambda key: (-abs(new.get(key, 0) - old.get(key, 0)), str(key))
    )
    return [key for key in keys if round(new.get(key, 0) - old.get(key, 0))][:shown]


def _numbers(old: Sequence[float], new: Sequence[float], names: tuple[str, str]) -> list[Column]:
    return [
        Column(clean(names[0]), [f"{value:.0f}" for value in old]),
        Column(clean(names[1]), [f"{value:.0f}" for value in new]),
        Column("DIFF", [f"{b - a:+.0f}" for a, b in zip(old, new, strict=True)]),
    ]


def _functions(explanation: Explanation, shown: int) -> list[str]:
    old, new = explanation.baseline, explanation.contender
    keys = _largest(old.functions, new.functions, shown)
    numbers = _numbers(
        [old.functions.get(key, 0) for key in keys],
        [new.functions.get(key, 0) for key in keys],
        explanation.names,
    )
    return layout(
        [
            *numbers,
            Column("FUNCTION", [clean(key[0]) for key in keys], left=True),
            Column("IN", [clean(key[1]) for key in keys], left=True),
            Column("MOSTLY CALLED BY", [_caller(explanation, key) for key in keys], left=True),
        ]
    )


def _caller(explanation: Explanation, key: tuple[str, str]) -> str:
    """Return who is behind most of the difference."""
    old, new = explanation.baseline.callers.get(key, {}), explanation.contender.callers.get(key, {})
    largest = _largest(old, new, 1)
    return clean(largest[0]) if largest else ""


def _files(explanation: Explanation, shown: int) -> list[str]:
    old, new = explanation.baseline.files, explanation.contender.files
    keys = _largest(old, new, shown)
    if not any(key != UNKNOWN for key in keys):
        return []
    numbers = _numbers(
        [old.get(key, 0) for key in keys], [new.get(key, 0) for key in keys], explanation.names
    )
    files = ["(no debug information)" if key == UNKNOWN else clean(key) for key in keys]
    return layout([*numbers, Column("SOURCE FILE", files, left=True)])


def _threads(explanation: Explanation) -> list[str]:
    rows = [row for row in explanation.threads if round(row[1]) or round(row[2])]
    numbers = _numbers([row[1] for row in rows], [row[2] for row in rows], explanation.names)
    return layout([*numbers, Column("THREAD", [clean(row[0]) for row in rows], left=True)])


def _remarks(explanation: Explanation) -> list[str]:
    old, new = explanation.baseline, explanation.contender
    lines = []
    if max(old.nameless, new.nameless) > 0.05:  # noqa: PLR2004 - what is less explains nothing
        lost = " and ".join(
            f"{side.nameless:.0%} of {clean(name)}'s"
            for name, side in zip(explanation.names, (old, new), strict=True)
        )
        lines.append(
            f"Without a name: {lost} instructions: the binaries have no symbols of static functions."
        )
        lines += [f"  {clean(line)}" for line in explanation.debug_packages]
    repeated = sum(
        new.functions.get(key, 0) - old.functions.get(key, 0)
        for key in old.functions.keys() | new.functions.keys()
        if _REPEATED.search(key[0])
    )
    if abs(repeated) > _DOMINANT * abs(new.total - old.total) > 0:
        lines.append(
            f"{repeated:+.0f} of it is memset and the like: callgrind counts each round of `rep stos` or "
            "`rep movs` as an instruction, of which a processor does many in a cycle. It costs time, less "
            "than the count says."
        )
    return lines
