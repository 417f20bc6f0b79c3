"""Columns of categories hold what plain ones would, also when two sides come together."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from harness.analysis.categories import chosen, is_categorical, one_below_the_other

VALUES = st.sampled_from(["", "4k", "none", 4, 1024, None])
SIDE = st.lists(VALUES, min_size=1, max_size=6).flatmap(
    lambda values: st.tuples(
        st.just(values), st.lists(st.integers(0, len(values) - 1), min_size=1, max_size=12)
    )
)


def frame_of(side: tuple[list[str | int | None], list[int]]) -> tuple[pd.DataFrame, list[object]]:
    values, numbers = side
    return pd.DataFrame({"bs": chosen(values, np.array(numbers))}), [values[number] for number in numbers]


@given(old=SIDE, new=SIDE)
def test_two_sides_keep_their_values(
    old: tuple[list[str | int | None], list[int]], new: tuple[list[str | int | None], list[int]]
) -> None:
    (before, wanted_before), (after, wanted_after) = frame_of(old), frame_of(new)
    both = one_below_the_other(before, after)["bs"]
    assert is_categorical(both)
    assert [None if pd.isna(value) else value for value in both] == wanted_before + wanted_after
    assert both.index.tolist() == list(range(len(both)))


def test_a_side_without_categories_is_joined_all_the_same() -> None:
    tree, _values = frame_of((["4k", 8], [0, 1]))
    table = pd.DataFrame({"bs": ["4k", "16k"], "iops": [1.0, 2.0]})
    both = one_below_the_other(tree, table)
    assert both["bs"].tolist() == ["4k", 8, "4k", "16k"]
    assert both["iops"].isna().tolist() == [True, True, False, False]
