"""What each variant gave in each cell, by itself: the number that is followed from night to night."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from harness.analysis.ordering import CellKey

_MAD_TO_SD = 1.4826


@dataclass(frozen=True, slots=True)
class Level:
    """One variant in one cell.

    Attributes:
        value: the median of the sessions, in the metric's unit.
        sessions: how many gave a number.
        spread: their robust standard deviation as a fraction (1.4826 MAD of the logarithms); None of one.
    """

    value: float
    sessions: int
    spread: float | None


def levels(samples: pd.DataFrame, metric: str, columns: Sequence[str]) -> dict[tuple[str, CellKey], Level]:
    """Return the level of every variant in every cell that was measured.

    Args:
        samples: as for `compare`; a session is represented by the median of its samples.
        metric: a column, above zero; NaN is an iteration that failed.
        columns: those that name a cell.
    """
    sessions = samples.groupby(["variant", *columns, "session"], sort=False)[metric].median().dropna()
    found: dict[tuple[str, CellKey], list[float]] = {}
    for names, value in zip(sessions.index.tolist(), sessions.tolist(), strict=True):
        variant, *key, _session = names
        found.setdefault((variant, tuple(key)), []).append(value)
    return {key: _level(np.asarray(values, dtype=np.float64)) for key, values in found.items()}


def _level(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Level:
    log = np.log(values)
    spread = _MAD_TO_SD * float(np.median(np.abs(log - np.median(log))))
    return Level(float(np.median(values)), len(values), spread if len(values) > 1 else None)
