"""Measurements as columns: a hundred thousand of them are a few arrays, not so many objects."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    import numpy.typing as npt

    from harness.core.fio_cells import Measurement, Setup

    FloatArray = npt.NDArray[np.float64]
    IndexArray = npt.NDArray[np.int64]

_T = TypeVar("_T", bound=np.generic)


@dataclass(frozen=True)
class FioTable:
    """Measurements, N of them, in the order of their files.

    Attributes:
        setups: what was asked, each once, in the order it was first met.
        setup: of each measurement, the number of its set-up, shape (N,).
        file: the number of its file, shape (N,).
        identity: as `Measurement`, shape (N,), uint64.
        numbers: metric -> values, shape (N,); NaN where it was not measured.
        problems: number of a file, and why it, or a part of it, is left out; in the order of files.
    """

    setups: tuple[Setup, ...]
    setup: IndexArray
    file: IndexArray
    identity: npt.NDArray[np.uint64]
    numbers: Mapping[str, FloatArray]
    problems: tuple[tuple[int, str], ...]

    def __len__(self) -> int:
        return len(self.setup)

    def of(self, metrics: Collection[str] | None) -> FioTable:
        """Return the table with some metrics only; with all when None, or where one of them is missing."""
        if metrics is None or not all(_is_measured(self.numbers.get(name)) for name in metrics):
            return self
        return replace(self, numbers={name: self.numbers[name] for name in metrics})

    def take(self, rows: IndexArray) -> FioTable:
        """Return some of the measurements, in the order given; all problems stay."""
        numbers = {name: values[rows] for name, values in self.numbers.items()}
        return FioTable(
            self.setups, self.setup[rows], self.file[rows], self.identity[rows], numbers, self.problems
        )


def _is_measured(values: FloatArray | None) -> bool:
    return values is not None and not np.isnan(values).all()


def table_of(
    measured: Iterable[tuple[int, Sequence[Measurement]]], problems: Iterable[tuple[int, str]]
) -> FioTable:
    """Return measurements as columns.

    Args:
        measured: number of a file, and what it measured.
        problems: number of a file, and why it, or a part of it, is left out.
    """
    setups = _Setups()
    rows = [(file, one) for file, found in measured for one in found]
    codes = [setups.number(one.setup) for _file, one in rows]
    names = dict.fromkeys(name for _file, one in rows for name in one.numbers)
    return FioTable(
        setups=tuple(setups.every),
        setup=np.array(codes, dtype=np.int64),
        file=np.array([file for file, _one in rows], dtype=np.int64),
        identity=np.array([one.identity for _file, one in rows], dtype=np.uint64),
        numbers={
            name: np.array([one.numbers.get(name, np.nan) for _file, one in rows], dtype=np.float64)
            for name in names
        },
        problems=tuple(problems),
    )


class _Setups:
    """Numbers set-ups: equal ones have one number."""

    def __init__(self) -> None:
        self.every: list[Setup] = []
        self._numbered: dict[tuple[object, ...], int] = {}

    def number(self, setup: Setup) -> int:
        # What is equal for equal set-ups, and can be looked up.
        key = tuple(setup.factors.items()), tuple(sorted(setup.settings.items()))
        if key not in self._numbered:
            self._numbered[key] = len(self.every)
            self.every.append(setup)
        return self._numbered[key]


def join(tables: Sequence[tuple[int, FioTable]]) -> FioTable:
    """Put tables together; the measurements of each file stay together, files in their order.

    Args:
        tables: what to add to a table's numbers of files, and the table.
    """
    setups = _Setups()
    codes = [
        np.array([setups.number(setup) for setup in table.setups], dtype=np.int64)[table.setup]
        for _first, table in tables
    ]
    file = np.concatenate([first + table.file for first, table in tables] or [np.empty(0, np.int64)])
    order = np.argsort(file, kind="stable")
    names = dict.fromkeys(name for _first, table in tables for name in table.numbers)
    absent = [np.full(len(table), np.nan) for _first, table in tables]
    problems = [(first + number, why) for first, table in tables for number, why in table.problems]
    return FioTable(
        setups=tuple(setups.every),
        setup=_joined(codes, np.int64)[order],
        file=file[order],
        identity=_joined([table.identity for _first, table in tables], np.uint64)[order],
        numbers={
            name: _joined(
                [t.numbers.get(name, gap) for (_f, t), gap in zip(tables, absent, strict=True)], np.float64
            )[order]
            for name in names
        },
        problems=tuple(sorted(problems, key=lambda problem: problem[0])),
    )


def _joined(parts: Sequence[npt.NDArray[_T]], kind: type[_T]) -> npt.NDArray[_T]:
    return np.concatenate(parts) if parts else np.empty(0, dtype=kind)
