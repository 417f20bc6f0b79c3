"""Rows get numbers: the same for the same values, in the order in which they are met."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.analysis import coding
from harness.analysis.coding import Coded

VALUES = st.sampled_from(["", "4k", "16k", None, 8, 1024, 0.5, float("nan")])
ROWS = st.lists(st.tuples(VALUES, VALUES, st.integers(-2, 2)), max_size=12)
COLUMNS = ["bs", "aio", "session"]


@pytest.mark.parametrize("most", [2**62, 4])
@pytest.mark.parametrize("dense", [0, 4, 1000])
@given(rows=ROWS, names=st.permutations(COLUMNS).map(lambda names: names[:2]), as_categories=st.booleans())
def test_equal_rows_have_one_number_by_the_first_of_them(
    dense: int, most: int, rows: list[tuple[object, ...]], names: list[str], *, as_categories: bool
) -> None:
    frame = pd.DataFrame(rows, columns=COLUMNS, dtype=object)
    if as_categories:
        frame = frame.astype("category")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coding, "_MOST", most)
        patch.setattr(coding, "_DENSE", dense)
        codes, first = Coded(frame).numbers(names)
    met: dict[tuple[object, ...], int] = {}
    wanted = []
    for row in frame[names].itertuples(index=False, name=None):
        key = tuple("" if pd.isna(value) else value for value in row)
        wanted.append(met.setdefault(key, len(met)))
    assert codes.tolist() == wanted
    assert first.tolist() == [wanted.index(number) for number in range(len(met))]


def test_more_combinations_than_a_number_can_tell() -> None:
    wide = pd.DataFrame({name: np.arange(2000) for name in "abcdef"})  # 2000 ** 6 is more than 2 ** 63
    codes, first = Coded(wide).numbers(list("abcdef"))
    assert codes.tolist() == first.tolist() == list(range(2000))
