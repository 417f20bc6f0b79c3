"""A whole comparison: every contender's frame with what a reader must know beside it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.analysis.comparison import compare_all
from harness.analysis.metrics import Metric, find_metric
from harness.analysis.ordering import CellKey, cell_label
from harness.analysis.samples import all_cells, of_variants, varying_factors
from harness.analysis.verdicts import Verdict
from harness.core.model import TABLE_FACTORS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd


CRASH_COLUMNS = ("crashed_baseline", "crashed_contender")
"""In how many of a cell's sessions QEMU died; in memory and in JSON."""


@dataclass(frozen=True)
class Comparison:
    """What every table format is made from.

    Attributes:
        metric: what is compared.
        baseline: the baseline's name.
        contenders: the contenders' names.
        factors: further factors, which get a column each.
        frames: by contender, as `compare` returns them; all have the same cells in the same order.
        margin: what counts as equal, a fraction.
        alpha: the chance of a false alarm.
        no_verdict: why there are no verdicts; None when there are.
        warnings: sentences, worst first.
        footer: the caller's lines: order, fio time, wall time, why it stopped, TCG.
        environment: host, builds and guest, for JSON.
        noise_floor: the change an A/A run of this host cannot tell from none, by cell; empty without one.
        absent: further contenders, which gave no numbers at all, and how often QEMU died of each.
    """

    metric: Metric
    baseline: str
    contenders: tuple[str, ...]
    factors: tuple[str, ...]
    frames: Mapping[str, pd.DataFrame]
    margin: float
    alpha: float
    no_verdict: str | None = None
    warnings: tuple[str, ...] = ()
    footer: tuple[str, ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    noise_floor: Mapping[CellKey, float] = field(default_factory=dict)
    absent: Mapping[str, int] = field(default_factory=dict)

    @property
    def key_columns(self) -> list[str]:
        """The columns that name a cell."""
        return [*TABLE_FACTORS, *self.factors]

    def resolution(self) -> dict[CellKey, float]:
        """Return, of an A/A run, the largest change its intervals cannot exclude: the noise floor by cell.

        A cell without an interval excludes nothing: infinite.
        """
        floor: dict[CellKey, float] = {}
        for frame in self.frames.values():
            keys = frame[self.key_columns].itertuples(index=False, name=None)
            for key, low, high in zip(keys, frame["ci_low"], frame["ci_high"], strict=True):
                bounds = [abs(value) if math.isfinite(value) else math.inf for value in (low, high)]
                floor[key] = max(floor.get(key, 0.0), *bounds)
        return floor

    def pooled(self, contender: str) -> dict[str, Any]:
        """Return the row for all cells together."""
        row: dict[str, Any] = self.frames[contender].attrs["pooled"]
        return row

    def verdicts(self) -> set[Verdict | None]:
        """Return every verdict that occurs; None for a cell, or a whole contender, that has none."""
        found = {
            Verdict(value) if isinstance(value, str) else None
            for frame in self.frames.values()
            for value in frame["verdict"]
        }
        return found | {None} if self.absent else found

    def device_bound(self) -> list[str]:
        """Return the cells in which the device is the limit, by label."""
        marked: dict[str, None] = {}
        for frame in self.frames.values():
            for key in frame.loc[frame["device_bound"], self.key_columns].itertuples(index=False, name=None):
                marked[cell_label(key, self.factors)] = None
        return list(marked)


def build(
    samples: pd.DataFrame,
    *,
    baseline: str,
    contenders: Sequence[str],
    margin: float = 0.02,
    alpha: float = 0.05,
    metric: str = "iops",
    factors: Sequence[str] | None = None,
    cells: Sequence[CellKey] = (),
    no_verdict: str | None = None,
    ceilings: Mapping[CellKey, float] | None = None,
    warnings: Sequence[str] = (),
    footer: Sequence[str] = (),
    environment: Mapping[str, Any] | None = None,
    noise_floor: Mapping[CellKey, float] | None = None,
    crashes: Sequence[tuple[str, CellKey]] = (),
) -> Comparison:
    """Compare, and put what a reader must know beside the result.

    Args:
        samples: as for `compare`.
        baseline: the baseline's name.
        contenders: the contenders' names, in the order of the table.
        margin: as for `compare`.
        alpha: as for `compare`.
        metric: as for `compare`.
        factors: further factors; the known ones that vary when None.
        cells: as for `compare`.
        no_verdict: as for `compare`.
        ceilings: as for `compare`.
        warnings: the caller's, shown before those of the analysis.
        footer: the caller's lines.
        environment: for JSON.
        noise_floor: what an A/A run of the same host resolves, as a fraction by cell.
        crashes: the variant and the cell of every iteration in which QEMU died.

    Raises:
        InputError: as `compare`.
    """
    used = samples
    if "variant" in samples.columns:
        used = of_variants(samples, [baseline, *contenders])
    chosen = varying_factors(used) if factors is None else tuple(factors)
    # A cell that only one contender has is a row of every table.
    every = all_cells(used, chosen, cells)
    frames = compare_all(
        used,
        baseline=baseline,
        contenders=contenders,
        margin=margin,
        alpha=alpha,
        metric=metric,
        factors=chosen,
        cells=every,
        no_verdict=no_verdict,
        ceilings=ceilings,
    )
    _count_crashes(frames, [*TABLE_FACTORS, *chosen], baseline, crashes)
    found = dict.fromkeys(warnings)
    for name, frame in frames.items():
        prefix = f"{name}: " if len(contenders) > 1 else ""
        found |= dict.fromkeys(
            warning if warning.startswith("no verdict") else prefix + warning
            for warning in frame.attrs["warnings"]
        )
    return Comparison(
        metric=find_metric(metric),
        baseline=baseline,
        contenders=tuple(contenders),
        factors=chosen,
        frames=frames,
        margin=margin,
        alpha=alpha,
        no_verdict=no_verdict,
        warnings=tuple(found),
        footer=tuple(footer),
        environment=dict(environment or {}),
        noise_floor=dict(noise_floor or {}),
    )


def absence(name: str, died: int) -> str:
    """Return what there is to say of a contender without any numbers, whose QEMU died so often."""
    often = f": QEMU died {died} time{'' if died == 1 else 's'}" if died else ""
    return f"{name} gave no numbers at all{often}"


def _count_crashes(
    frames: Mapping[str, pd.DataFrame],
    key_columns: Sequence[str],
    baseline: str,
    crashes: Sequence[tuple[str, CellKey]],
) -> None:
    """Add to each frame in how many sessions QEMU died in a cell: `CRASH_COLUMNS`."""
    counts = Counter(crashes)
    for contender, frame in frames.items():
        keys = list(frame[list(key_columns)].itertuples(index=False, name=None))
        for column, variant in zip(CRASH_COLUMNS, (baseline, contender), strict=True):
            frame[column] = [counts[variant, key] for key in keys]
