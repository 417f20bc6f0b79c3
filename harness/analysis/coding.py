"""Rows as numbers: equal combinations of values have one number, in the order in which they are first met."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.analysis.categories import is_categorical

if TYPE_CHECKING:
    from collections.abc import Iterable

    IntArray = npt.NDArray[np.intp]

_MOST = 2**62
_DENSE = 4
"""Up to so many possible numbers a row, a table of all of them is sooner filled than a hash table."""


class Coded:
    """A frame, each column of which is numbered when it is first asked for, and once.

    Args:
        frame: N rows.
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame
        self._columns: dict[str, tuple[IntArray, int]] = {}

    def numbers(self, columns: Iterable[str]) -> tuple[IntArray, IntArray]:
        """Number the combinations of some columns, of which a missing value is an empty text.

        Returns:
            Each row's number, shape (N,); and for each number the first row that has it.
        """
        return numbered([self._column(name) for name in columns], len(self._frame))

    def _column(self, name: str) -> tuple[IntArray, int]:
        if name not in self._columns:
            self._columns[name] = _with_gaps_as_text(*_codes(self._frame[name]))
        return self._columns[name]


def _codes(column: pd.Series) -> tuple[IntArray, pd.Index]:
    """Return each row's number, -1 where there is no value, and what the numbers mean."""
    if is_categorical(column):
        return column.cat.codes.to_numpy().astype(np.intp), column.cat.categories
    codes, values = pd.factorize(column)
    return codes.astype(np.intp, copy=False), values


def _with_gaps_as_text(codes: IntArray, values: pd.Index) -> tuple[IntArray, int]:
    size = len(values)
    if (codes < 0).any():
        empty = [n for n, value in enumerate(values) if isinstance(value, str) and not value]
        codes = np.where(codes < 0, empty[0] if empty else size, codes)
        size += not empty
    return codes, size


def numbered(parts: Iterable[tuple[IntArray, int]], rows: int) -> tuple[IntArray, IntArray]:
    """Number the combinations of what is numbered.

    Args:
        parts: numbers of each row, shape (N,), and how many there are: from 0, this one excluded.
        rows: N.

    Returns:
        As `Coded.numbers`.
    """
    # A tuple a row is ten times as slow.
    codes, size = np.zeros(rows, dtype=np.intp), 1
    for found, values in parts:
        if values == 1:
            continue
        if size * values > _MOST:
            codes, first = _in_order(codes, size)
            size = len(first)
        codes, size = codes * values + found, size * values
    return _in_order(codes, size)


def _in_order(codes: IntArray, size: int) -> tuple[IntArray, IntArray]:
    """Number anew what has numbers below ``size``: in the order in which they are met, without gaps."""
    rows = len(codes)
    if size > _DENSE * rows:
        codes, distinct = pd.factorize(codes)
        return codes, _first_rows(codes, len(distinct))
    first_of = _first_rows(codes, size)
    is_first = np.zeros(rows, dtype=bool)
    is_first[first_of[first_of >= 0]] = True
    # What no row has gets a number, too, for which nobody asks.
    return (np.cumsum(is_first) - 1)[first_of][codes], np.flatnonzero(is_first)


def _first_rows(codes: IntArray, size: int) -> IntArray:
    """Return the first row of each number; -1 for one that no row has."""
    first = np.full(size, -1, dtype=np.intp)
    # The last one to be written is the first row.
    first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
    return first
