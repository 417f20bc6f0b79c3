"""What a reader must be told beside the numbers."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from harness.analysis.verdicts import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pandas as pd

    from harness.analysis.rows import Rule
    from harness.analysis.samples import Sessions

TOO_NOISY = 0.1
"""A detectable change from which on a warning says that the measurement tells little."""
_MANY_STRAY = 3

SKIPPED = "skipped "
"""How a warning of a file that was left out begins."""

_MOST_SKIPPED = 10


def shortened(warnings: Sequence[str]) -> list[str]:
    """Return warnings for people: of those about skipped files the first few, and how many more there are."""
    skipped = worst_first(warning for warning in warnings if warning.startswith(SKIPPED))
    if len(skipped) <= _MOST_SKIPPED + 1:
        return list(warnings)
    more = f"{SKIPPED}{len(skipped) - _MOST_SKIPPED} more files: --json lists them all"
    others = [warning for warning in warnings if not warning.startswith(SKIPPED)]
    return [*others, *skipped[:_MOST_SKIPPED], more]


def worst_first(reasons: Iterable[str]) -> list[str]:
    """Return why files were left out: damaged reports first, then empty files, last what is no report."""
    return sorted(reasons, key=lambda reason: ("empty" in reason) + 2 * ("no fio JSON" in reason))


def find_warnings(sessions: Sessions, frame: pd.DataFrame, rule: Rule) -> list[str]:
    """Return what a reader must be told: what is missing, too little, or odd; a sentence each."""
    found = [f"no verdict: {rule.no_verdict}; the estimates may be noise"] if rule.no_verdict else []
    for name, variant in sessions.variants.items():
        missing = [sessions.label(int(cell)) for cell in np.flatnonzero(~variant.present.any(axis=1))]
        if missing:
            found.append(f"not measured on {name}: {', '.join(missing)}")
    if rule.no_verdict:
        return found
    found += _incomplete(sessions)
    found += [str(reason) for reason in dict.fromkeys(frame["reason"]) if "too few" in str(reason)]
    noisy = float(frame["mde"][frame["verdict"] == Verdict.UNCLEAR.value].max())
    if noisy > TOO_NOISY:
        found.append(f"very noisy: in some cells no change below {noisy:.0%} would be found")
    pairs = zip(frame["stray_baseline"], frame["stray_contender"], strict=True)
    found += [
        f"{sessions.label(cell)}: {new} stray sessions of the contender against {old} of the baseline; "
        "the estimate speaks of the typical session only"
        for cell, (old, new) in enumerate(pairs)
        if new - old >= _MANY_STRAY
    ]
    return found


def _incomplete(sessions: Sessions) -> list[str]:
    """Name the blocks that were left out because a session is missing."""
    old, new = sessions.variants.values()
    left_out: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for cell in range(len(sessions.cells)):
        halves = old.present[cell] ^ new.present[cell]
        if halves.any() and old.present[cell].any() and new.present[cell].any():
            left_out[tuple(sessions.blocks[block] for block in np.flatnonzero(halves))].append(cell)
    return [
        f"left out for a missing session: block {', '.join(blocks)} of "
        + (f"{len(cells)} cells" if len(cells) > 1 else sessions.label(cells[0]))
        for blocks, cells in left_out.items()
    ]
