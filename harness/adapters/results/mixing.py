"""Were the measurements of a cell made alike? Two targets, or with and without O_DIRECT, are no repeats."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.analysis.ordering import cell_label
from harness.core.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from harness.core.model import FactorValue

_ABSENT = "not given"
_SHOWN = 3
_REMEDY = "compare them apart, or say that it does not matter: --accept-differences"

_STILL_A_RATE = frozenset({"runtime", "ramp_time", "time_based", "loops", "number_ios", "fio version"})

Cell = tuple["FactorValue", ...]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a measurement comes from.

    Attributes:
        file: its file.
        settings: as `fio_cells.Measurement`.
    """

    file: str
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Mixed:
    """In what the measurements of one cell differ.

    Attributes:
        problems: what makes them measurements of two things: another target, another engine's options.
        warnings: what leaves a rate a rate: how long it was measured, and with which fio.
    """

    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]


def mixed_cells(cells: Sequence[Cell], origins: Sequence[Origin], factors: Sequence[str]) -> Mixed:
    """Say in which settings measurements of one cell differ; for each setting once, naming two files.

    Args:
        cells: of each measurement, with every factor that is a column; one of each set-up is enough.
        origins: of each of them.
        factors: the further factors' names.
    """
    first: dict[Cell, Origin] = {}
    found: dict[str, list[tuple[Cell, Origin, Origin]]] = defaultdict(list)
    for cell, origin in zip(cells, origins, strict=True):
        known = first.setdefault(cell, origin)
        if known.settings != origin.settings:
            for name in differing(known.settings, origin.settings):
                found[name].append((cell, known, origin))
    problems, warnings = [], []
    for name, cases in found.items():
        _cell, known, other = cases[0]
        named = _named(list(dict.fromkeys(cell for cell, _known, _other in cases)), factors)
        here, there = _value(other, name), _value(known, name)
        message = f"{named} measured with {name} {here} here and {there} in {known.file}"
        if name in _STILL_A_RATE:
            warnings.append(f"{other.file}: {message}")
        else:
            problems.append(Problem(other.file, f"{message}: these are no repeats", _REMEDY))
    return Mixed(tuple(problems), tuple(warnings))


def differing(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """Return the names of the settings that two measurements do not share."""
    return [name for name in {**one, **other} if one.get(name) != other.get(name)]


def different_sides(
    old: Mapping[Cell, Origin], new: Mapping[Cell, Origin], *, ignored: frozenset[str] = frozenset()
) -> list[str]:
    """Return a warning for each setting in which OLD and NEW differ in cells that both have."""
    found: dict[tuple[str, str, str], list[tuple[Origin, Origin]]] = defaultdict(list)
    common = [cell for cell in old if cell in new]
    for cell in common:
        for name in differing(old[cell].settings, new[cell].settings):
            if name not in ignored:
                found[name, _value(old[cell], name), _value(new[cell], name)].append((old[cell], new[cell]))
    return [
        f"OLD and NEW differ in more than the build: {name} is {before} in {pairs[0][0].file} and {after} in "
        f"{pairs[0][1].file}" + (f", and so in {len(pairs)} cells" if len(pairs) > 1 else "")
        for (name, before, after), pairs in found.items()
    ]


def scattered_repeats(places: Iterable[tuple[Cell, str]]) -> list[str]:
    """Return a warning where repeats of one cell lie in several directories: is it one build's?

    Nothing in fio's output says which host or build it was measured on.

    Args:
        places: a cell, and a directory that it was measured in.
    """
    where: dict[Cell, dict[str, None]] = defaultdict(dict)
    for cell, directory in places:
        where[cell][directory] = None
    several = dict.fromkeys(name for names in where.values() if len(names) > 1 for name in names)
    if not several:
        return []
    shown = ", ".join(list(several)[:_SHOWN]) + (
        f" and {len(several) - _SHOWN} more" if len(several) > _SHOWN else ""
    )
    return [f"repeats of one cell come from several directories, taken for one build on one host: {shown}"]


def _value(origin: Origin, name: str) -> str:
    return origin.settings.get(name, _ABSENT)


def _named(cells: Sequence[Cell], factors: Sequence[str]) -> str:
    names = [cell_label(cell, factors) for cell in cells[:_SHOWN]]
    more = len(cells) - len(names)
    return ", ".join(names) + (
        f" and {more} more cells were" if more else " were" if len(names) > 1 else " was"
    )
