"""The answer in one sentence, and what its colour is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from harness.analysis.tables import interval, percent, records
from harness.analysis.verdicts import Verdict
from harness.report.page import Tone

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from harness.analysis.costs import CellCost, CostComparison
    from harness.analysis.result import Comparison

TONES = {
    "faster": Tone.BETTER, "slower": Tone.WORSE, "same": Tone.SAME, "unclear": Tone.UNCLEAR,
    "cheaper": Tone.BETTER, "costlier": Tone.WORSE,
}  # fmt: skip
"""The colour of each verdict, of times and of counts."""

_WHETHER = "whether "
_NAMED = 3
_NAMED_CONTENDERS = 3


def cell_name(row: dict[str, Any], keys: Sequence[str]) -> str:
    """Return a cell's name for people: ``randread 4k, iodepth 8``, further factors appended."""
    rw, bs, depth, *further = (str(row[key]) for key in keys)
    named = [f"{name} {value}" for name, value in zip(keys[3:], further, strict=True)]
    return ", ".join([f"{rw} {bs}, iodepth {depth}", *named])


def cell_label(row: dict[str, Any], keys: Sequence[str]) -> str:
    """Return the same where room is scarce: ``randread 4k 8``."""
    further = [f"{name}={row[name]}" for name in keys[3:]]
    return " ".join([*(str(row[name]) for name in keys[:3]), *further])


def place(environment: dict[str, Any]) -> str:
    """Return where it was measured: ``on HOST under TCG (emulation)``; empty when nobody knows."""
    host = (environment.get("host") or {}).get("name")
    accel = environment.get("accel")
    under = {"tcg": "under TCG (emulation)", "kvm": "under KVM"}.get(str(accel), "")
    return " ".join(part for part in (f"on {host}" if host else "", under) if part)


def answer(comparison: Comparison) -> tuple[str, Tone]:
    """Return what a comparison says, in one sentence, and its tone."""
    where = place(dict(comparison.environment))
    measured = f", measured {where}" if where else ""
    what = "" if comparison.metric.name == "iops" else f" by {comparison.metric.label}"
    if comparison.no_verdict is not None:
        return f"{_withheld(comparison)}{what}{measured}: {comparison.no_verdict}.", Tone.UNCLEAR
    tone = _tone(comparison)
    if is_aa(comparison):
        return f"{_aa(comparison)}{what}{measured}.", tone
    named = len(comparison.contenders) <= _NAMED_CONTENDERS
    said = "; ".join(_contender(comparison, name, named=named) for name in comparison.contenders)
    # A name keeps its case; a clause that has no name in front begins the sentence.
    begun = f"W{said[1:]}" if said.startswith(_WHETHER) else said
    return f"{begun}{what}{measured}.", tone


def is_aa(comparison: Comparison) -> bool:
    """Return whether every variant is the same build."""
    builds = comparison.environment.get("builds") or {}
    return len({build.get("sha256") for build in builds.values()}) == 1


def _tone(comparison: Comparison) -> Tone:
    found = comparison.verdicts()
    for verdict in (Verdict.SLOWER, Verdict.FASTER, Verdict.UNCLEAR, None):
        if verdict in found:
            return TONES[verdict or Verdict.UNCLEAR]
    return Tone.SAME


def _withheld(comparison: Comparison) -> str:
    changes = [
        change for frame in comparison.frames.values() for change in frame["change"] if math.isfinite(change)
    ]
    names = " and ".join(comparison.contenders)
    estimates = _range(changes)
    return f"No verdict on {names} against {comparison.baseline}" + (
        f", only estimates {estimates}" if estimates else ""
    )


def _range(values: Sequence[float]) -> str:
    if not values:
        return ""
    low, high = percent(min(values)), percent(max(values))
    return f"of {low}" if low == high else f"between {low} and {high}"


def _aa(comparison: Comparison) -> str:
    floor = [value for value in comparison.resolution().values() if math.isfinite(value)]
    resolved = (
        f"cannot tell changes below {percent(max(floor), sign=False)} from none in every cell"
        if floor
        else "has too few blocks to tell anything"
    )
    wrong = {Verdict.FASTER, Verdict.SLOWER} & comparison.verdicts()
    odd = ", and yet calls a cell changed" if wrong else ""
    return f"The same build against itself: this run {resolved}{odd}"


def _contender(comparison: Comparison, contender: str, *, named: bool) -> str:
    frame = comparison.frames[contender]
    total = len(frame)
    groups = {verdict: frame[frame["verdict"] == verdict.value] for verdict in Verdict}
    against = comparison.baseline
    parts = []
    for verdict in (Verdict.SLOWER, Verdict.FASTER):
        if len(groups[verdict]):
            cells = f" ({_cells(comparison, groups[verdict])})" if named else ""
            parts.append(f"{verdict.value} than {against} in {_share(len(groups[verdict]), total)}{cells}")
    same = len(groups[Verdict.SAME])
    if same:
        within = f"within {comparison.margin * 100:g}%"
        parts.append(f"the same as {against} in {_share(same, total)} ({within})")
    unclear = total - sum(len(groups[v]) for v in (Verdict.SLOWER, Verdict.FASTER, Verdict.SAME))
    if unclear and not parts:
        return f"{_WHETHER}{contender} is slower than {against} is unclear in {_all(total)}{_blind(frame)}"
    if unclear:
        parts.append(f"unclear in {_share(unclear, total)}{_blind(frame)}")
    return f"{contender} is {_listed(parts)}"


def _blind(frame: pd.DataFrame) -> str:
    """Return how large a change the unclear cells may hide."""
    hidden = frame.loc[frame["verdict"] == Verdict.UNCLEAR.value, "mde"].dropna()
    return (
        ""
        if hidden.empty
        else f" (blind to changes below {percent(float(hidden.max()), decimals=0, sign=False)})"
    )


def _cells(comparison: Comparison, frame: pd.DataFrame) -> str:
    """Return the cells of a verdict with change and interval, the largest change first."""
    order = frame["change"].abs().sort_values(ascending=False, kind="stable").index
    rows = records(frame.loc[order])
    said = [
        f"{cell_name(row, comparison.key_columns)}: {percent(row['change'])} "
        f"{interval(row['ci_low'], row['ci_high'])}"
        for row in rows[:_NAMED]
    ]
    more = [f"and {len(rows) - _NAMED} more"] if len(rows) > _NAMED else []
    level = f"{(1 - comparison.alpha) * 100:g}% interval{'' if len(rows) == 1 else 's'}"
    return "; ".join([*said, *more, level])


def _share(count: int, total: int) -> str:
    return _all(total) if count == total else f"{count} of {_plural(total)}"


def _all(total: int) -> str:
    return {1: "the only cell", 2: "both cells"}.get(total, f"all {total} cells")


def _plural(total: int) -> str:
    return f"{total} cell{'' if total == 1 else 's'}"


def _listed(parts: Sequence[str]) -> str:
    return ", ".join(parts[:-1]) + (" and " if parts[:-1] else "") + parts[-1]


def cost_answer(comparison: CostComparison) -> tuple[str, Tone]:
    """Return what a comparison of instruction counts says, in one sentence, and its tone."""
    said = [_costs(comparison, name, cells) for name, cells in comparison.contenders.items()]
    where = (comparison.environment.get("host") or {}).get("name")
    at = f", counted on {where}; no time was measured" if where else "; no time was measured"
    verdicts = comparison.verdicts()
    tone = next(
        (TONES[verdict] for verdict in ("costlier", "cheaper", "unclear") if verdict in verdicts), Tone.SAME
    )
    return f"{'; '.join(said)}{at}.", tone


def _costs(comparison: CostComparison, contender: str, cells: Sequence[CellCost]) -> str:
    parts = []
    words = {
        "costlier": f"takes more instructions a request than {comparison.baseline}",
        "cheaper": f"takes fewer instructions a request than {comparison.baseline}",
        "same": f"takes as many instructions a request as {comparison.baseline}",
        "unclear": f"cannot be told from {comparison.baseline}",
    }
    for verdict, text in words.items():
        found = [cell for cell in cells if cell.verdict == verdict]
        if found:
            changes = _range([cell.change for cell in found if math.isfinite(cell.change)])
            by = f" ({changes.removeprefix('of ')})" if changes else ""
            parts.append(f"{text} in {_share(len(found), len(cells))}{by}")
    return f"{contender} {_listed(parts)}"
