"""Rows as numbers: equal combinations of values have one number, in the order in which they are first met."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Iterable

    IntArray = npt.NDArray[np.intp]

_MOST = 2**62


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
            codes, values = pd.factorize(self._frame[name])
            size = len(values)
            if (codes < 0).any():
                empty = [n for n, value in enumerate(values) if isinstance(value, str) and not value]
                codes = np.where(codes < 0, empty[0] if empty else size, codes)
                size += not empty
            self._columns[name] = codes, size
        return self._columns[name]


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
        if size * values > _MOST:
            codes, distinct = pd.factorize(codes)
            size = len(distinct)
        codes, size = codes * values + found, size * values
    codes, distinct = pd.factorize(codes)
    first = np.empty(len(distinct), dtype=np.intp)
    # The last one to be written is the first row.
    first[codes[::-1]] = np.arange(rows - 1, -1, -1)
    return codes, first
