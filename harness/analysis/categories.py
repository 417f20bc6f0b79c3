"""Columns that hold few values many times, as categories: a small number a row, and no object."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

    from harness.core.model import FactorValue

    Numbers = npt.NDArray[np.integer]


def chosen(values: Sequence[FactorValue | None], numbers: Numbers) -> pd.Series:
    """Return a column in which row n has the value ``values[numbers[n]]``; nothing where that is None.

    Args:
        values: V of them, some perhaps equal.
        numbers: below V, shape (N,).
    """
    places: dict[FactorValue, int] = {}
    codes = [-1 if value is None else places.setdefault(value, len(places)) for value in values]
    small = np.array(codes, dtype=np.min_scalar_type(-1 - len(values)))
    return pd.Series(pd.Categorical.from_codes(small[numbers], dtype=_dtype(places)))


def one_below_the_other(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Return two frames as one; a column of categories in both stays one, with those of both."""
    common = {
        name: _dtype([*first[name].cat.categories, *second[name].cat.categories])
        for name in first.columns.intersection(second.columns)
        if is_categorical(first[name]) and is_categorical(second[name])
    }
    return pd.concat([first.astype(common), second.astype(common)], ignore_index=True)


def is_categorical(column: pd.Series) -> bool:
    """Return whether a column holds categories."""
    return isinstance(column.dtype, pd.CategoricalDtype)


def _dtype(values: Iterable[FactorValue]) -> pd.CategoricalDtype:
    # As objects, since a factor may have numbers and texts.
    return pd.CategoricalDtype(pd.Index(list(dict.fromkeys(values)), dtype=object))
