"""The numbers of each cell, before they become a frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.analysis.statistics import (
    BoolArray,
    FloatArray,
    IntArray,
    SignedRank,
    blocks_needed,
    holm,
    minimum_detectable_effect,
    pooled_differences,
    signed_rank,
    stray,
)
from harness.analysis.verdicts import classify
from harness.core.errors import InputError
from harness.core.model import MOST_RISK

if TYPE_CHECKING:
    from harness.analysis.metrics import Metric
    from harness.analysis.samples import Sessions, Variant


@dataclass(frozen=True, slots=True)
class Rule:
    """How verdicts are made.

    Raises:
        InputError: margin or alpha is out of range.
    """

    metric: Metric
    margin: float
    alpha: float
    no_verdict: str | None

    def __post_init__(self) -> None:
        if not 0 < self.margin < 1:
            raise InputError.single(
                "margin", f"{self.margin:g} is not between 0 and 1", "give a fraction: 0.02 is 2 %"
            )
        if not 0 < self.alpha < MOST_RISK:
            raise InputError.single(
                "alpha", f"{self.alpha:g} is not between 0 and {MOST_RISK:g}", "give a fraction: 0.05 is 5 %"
            )


def _sides(sessions: Sessions) -> tuple[Variant, Variant]:
    old, new = sessions.variants.values()
    return old, new


def _median(values: FloatArray) -> float:
    return float(np.median(values)) if values.size else np.nan


def unpaired_rows(sessions: Sessions, rule: Rule) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return medians and their ratio, and why there is no more; in the shape of `paired_rows`."""
    old, new = _sides(sessions)
    cells = range(len(sessions.cells))
    before = np.array([_median(old.medians[cell][old.present[cell]]) for cell in cells])
    after = np.array([_median(new.medians[cell][new.present[cell]]) for cell in cells])
    change = (after - before) / before
    rows = _empty_rows(len(sessions.cells)) | {
        "baseline": before,
        "contender": after,
        "change": change,
        "n_baseline": old.present.sum(axis=1),
        "n_contender": new.present.sum(axis=1),
        "reason": [rule.no_verdict] * len(change),
    }
    known = change[~np.isnan(change)]
    pooled = _plain_row(_empty_rows(1), 0) | {
        "change": float(np.expm1(np.mean(np.log1p(known)))) if known.size else np.nan,
        "reason": rule.no_verdict,
        "n_cells": int(known.size),
    }
    return rows, pooled


def _empty_rows(cells: int) -> dict[str, Any]:
    unknown = ("baseline", "contender", "change", "ci_low", "ci_high", "p_value", "p_adjusted", "mde", "se")
    counts = ("n_blocks", "stray", "stray_baseline", "stray_contender", "n_baseline", "n_contender")
    return (
        {name: np.full(cells, np.nan) for name in unknown}
        | {name: np.zeros(cells, dtype=int) for name in counts}
        | {name: np.full(cells, None, dtype=object) for name in ("verdict", "reason")}
        | {"small": np.zeros(cells, dtype=bool)}
    )


def _plain_row(rows: dict[str, Any], cell: int) -> dict[str, Any]:
    """Return one row as plain Python values, fit for ``.attrs`` and JSON; the counts of sessions left out."""
    plain = {
        name: values[cell].item() if isinstance(values[cell], np.generic) else values[cell]
        for name, values in rows.items()
    }
    for name in ("baseline", "contender", "p_adjusted", "n_baseline", "n_contender"):
        del plain[name]
    return plain


def paired_rows(sessions: Sessions, rule: Rule) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return everything that can be said of interleaved sessions.

    Returns:
        Column name -> values, shape (C,); and the row for all cells together as plain values.
    """
    old, new = _sides(sessions)
    differences = new.log - old.log
    rows = _empty_rows(len(sessions.cells))
    _describe(rows, old, new, ~np.isnan(differences))
    _judge(rows, differences, rule)
    _attribute_stray(rows, differences, old, new)
    counted = rows["n_blocks"] > 0
    return rows, _pooled(differences[counted], rule, old.log[counted], new.log[counted])


def _describe(rows: dict[str, Any], old: Variant, new: Variant, complete: BoolArray) -> None:
    """Fill in medians, over the complete blocks where there are any, and the counts of sessions."""
    rows["n_blocks"] = complete.sum(axis=1)
    for name, variant in (("baseline", old), ("contender", new)):
        rows[f"n_{name}"] = variant.present.sum(axis=1)
        for cell, blocks in enumerate(complete):
            use = blocks if blocks.any() else variant.present[cell]
            rows[name][cell] = _median(variant.medians[cell][use])


def _judge(rows: dict[str, Any], differences: FloatArray, rule: Rule) -> None:
    """Fill in estimates, verdicts and detectable effects of the cells that have a complete block."""
    counted = np.flatnonzero(rows["n_blocks"] > 0)
    rows["reason"][rows["n_blocks"] == 0] = "no complete block"
    if not counted.size:
        return
    blocks = rows["n_blocks"][counted]
    found = _estimates(differences[counted], blocks, rule.alpha)
    p_adjusted = holm(found.p_value)
    needed = blocks_needed(len(counted), rule.alpha)
    verdict, small = classify(
        found,
        p_adjusted,
        enough=blocks >= needed,
        margin=rule.margin,
        alpha=rule.alpha,
        higher_is_better=rule.metric.higher_is_better,
    )
    rows["change"][counted] = np.expm1(found.estimate)
    rows["ci_low"][counted], rows["ci_high"][counted] = _bounds(found)
    rows["p_value"][counted], rows["p_adjusted"][counted] = found.p_value, p_adjusted
    rows["verdict"][counted], rows["small"][counted] = verdict.astype(object), small
    rows["se"][counted] = found.standard_error
    for count in np.unique(blocks):
        same = blocks == count
        rows["mde"][counted[same]] = minimum_detectable_effect(
            found.half_width[same], blocks=int(count), cells=len(counted), alpha=rule.alpha
        )
    for cell, count in zip(counted, blocks, strict=True):
        if count < needed:
            rows["reason"][cell] = f"too few blocks: {count}, and {needed} are needed"


def _bounds(found: SignedRank) -> tuple[FloatArray, FloatArray]:
    """Return an interval's bounds as fractions; infinite ones stay infinite on both sides."""
    return np.where(np.isinf(found.low), -np.inf, np.expm1(found.low)), np.expm1(found.high)


def _estimates(differences: FloatArray, blocks: IntArray, alpha: float) -> SignedRank:
    """Return the estimates of cells that differ in their number of blocks, shape (C,)."""
    fields = {name: np.empty(len(differences)) for name in SignedRank.__dataclass_fields__}
    for count in np.unique(blocks):
        same = blocks == count
        chosen = differences[same]
        found = signed_rank(chosen[~np.isnan(chosen)].reshape(len(chosen), count), alpha=alpha)
        for name, values in fields.items():
            values[same] = getattr(found, name)
    return SignedRank(**fields)


def _attribute_stray(rows: dict[str, Any], differences: FloatArray, old: Variant, new: Variant) -> None:
    """Count stray blocks, and charge each to the variant whose session lies further from its own median."""
    for cell in np.flatnonzero(rows["n_blocks"] > 0):
        complete = ~np.isnan(differences[cell])
        center = np.asarray(np.log1p(rows["change"][cell]))
        counts = _count_stray(
            differences[cell][complete], center, old.log[cell][complete], new.log[cell][complete]
        )
        rows["stray"][cell], rows["stray_baseline"][cell], rows["stray_contender"][cell] = counts


def stray_sides(
    differences: FloatArray, center: FloatArray, old: FloatArray, new: FloatArray
) -> tuple[BoolArray, BoolArray]:
    """Return which blocks are stray by the baseline's session, and which by the contender's: shape (n,) each.

    Args:
        differences: of the blocks, log units, shape (n,).
        center: the estimate that they are far from, log units.
        old: the baseline's values, shape (n,).
        new: the contender's.
    """
    marked = stray(differences, center)
    new_is_further = np.abs(new - np.median(new)) > np.abs(old - np.median(old))
    return marked & ~new_is_further, marked & new_is_further


def _count_stray(
    differences: FloatArray, center: FloatArray, old: FloatArray, new: FloatArray
) -> tuple[int, int, int]:
    baseline, contender = map(np.count_nonzero, stray_sides(differences, center, old, new))
    return int(baseline + contender), int(baseline), int(contender)


def _pooled(differences: FloatArray, rule: Rule, old: FloatArray, new: FloatArray) -> dict[str, Any]:
    """Return the row for all cells together; one question, so no correction for many."""
    rows = _empty_rows(1)
    present = np.count_nonzero(~np.isnan(differences), axis=0)
    used = present * 2 >= present.max(initial=1)  # a block with few cells tells little about all of them
    if len(differences) and used.any():
        usable = differences[(~np.isnan(differences[:, used])).any(axis=1)][:, used]
        together = pooled_differences(usable)
        rows["n_blocks"][0] = together.size
        _judge(rows, together[np.newaxis, :], rule)
        counts = _count_stray(
            together,
            np.log1p(rows["change"][0]),
            np.nanmedian(old[:, used] - np.nanmedian(old, axis=1, keepdims=True), axis=0),
            np.nanmedian(new[:, used] - np.nanmedian(new, axis=1, keepdims=True), axis=0),
        )
        rows["stray"][0], rows["stray_baseline"][0], rows["stray_contender"][0] = counts
    else:
        rows["reason"][0] = "no complete block"
    return _plain_row(rows, 0) | {"n_cells": len(differences)}
