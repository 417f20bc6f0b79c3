"""In which order rows stand, and whether sessions were interleaved at all."""

from __future__ import annotations

import re
from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

from harness.core.model import TABLE_FACTORS, FactorValue
from harness.core.units import parse_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

CellKey: TypeAlias = tuple[FactorValue, ...]
"""A cell's factor values: rw, bs, iodepth, then the further factors."""

_PATTERNS = ("read", "write", "rw", "randread", "randwrite", "randrw", "trim", "randtrim", "trimwrite")
# All baseline sessions first has a chance of 2 in 2^6 under a fair coin.
_TELLING_BLOCKS = 6


def cell_label(key: CellKey, factors: Sequence[str]) -> str:
    """Return a cell's name for messages: ``randread-4k-8``, further factors appended."""
    further = [f"{name}={value}" for name, value in zip(factors, key[len(TABLE_FACTORS) :], strict=True)]
    return "-".join([*(str(value) for value in key[: len(TABLE_FACTORS)]), *further])


def order_cells(keys: Iterable[CellKey], given: Sequence[CellKey] = ()) -> list[CellKey]:
    """Put cells in the matrix's order.

    Args:
        keys: the cells.
        given: the matrix, or the cells in the order they were read; cells not in it come last.

    Returns:
        The cells of `given` that are in `keys`, then the others: patterns as fio lists them, block sizes by
        size, numbers as numbers. Never dependent on the order of `keys`.
    """
    distinct = set(keys)
    first = [key for key in dict.fromkeys(given) if key in distinct]
    return first + sorted(distinct.difference(first), key=_sort_key)


def _sort_key(key: CellKey) -> list[tuple[int, float, str]]:
    rw, bs, *others = key
    known = _PATTERNS.index(str(rw)) if rw in _PATTERNS else len(_PATTERNS)
    return [(0, known, str(rw)), _size_key(bs), *(_value_key(value) for value in others)]


def _size_key(value: FactorValue) -> tuple[int, float, str]:
    try:
        return (0, parse_size(value), "")
    except ValueError:
        return (1, 0, str(value))


def _value_key(value: FactorValue) -> tuple[int, float, str]:
    if isinstance(value, int | float):
        return (0, value, "")
    if re.fullmatch(r"[0-9]+", value):
        return (0, int(value), value)
    return (1, 0, value)


def why_not_interleaved(sessions: Sequence[tuple[int, str]]) -> str | None:
    """Say why sessions, in the order they really ran, allow no verdict.

    Args:
        sessions: (block, variant) of every session that gave samples, in the order they ran.

    Returns:
        The reason in plain words; None when the sessions were interleaved.
    """
    if len({variant for _block, variant in sessions}) <= 1:
        return "only one variant was measured"
    changes = sum(a[0] != b[0] for a, b in pairwise(sessions))
    blocks = defaultdict(list)
    for block, variant in sessions:
        blocks[block].append(variant)
    if changes + 1 > len(blocks):
        return "the sessions of a block did not run next to each other"
    full = [order for order in blocks.values() if len(order) > 1]
    if not full:
        return "baseline and contender were not measured side by side"
    if len(full) >= _TELLING_BLOCKS and len({order[0] for order in full}) == 1:
        return f"{full[0][0]} ran first in every block: what comes with the order looks like a change"
    return None


def scattered_blocks(sessions: Sequence[tuple[int, str]]) -> list[int]:
    """Return the blocks whose sessions did not run next to each other, as after a repeated session.

    Args:
        sessions: (block, variant) in the order they really ran.
    """
    where = defaultdict(list)
    for position, (block, _variant) in enumerate(sessions):
        where[block].append(position)
    return [block for block, at in where.items() if at[-1] - at[0] + 1 != len(at)]
