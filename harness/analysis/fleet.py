"""Several hosts, one answer: each host's comparison, and the pooled one made from them.

The host is a block level above the block (`fleet_statistics`). A host's own table is what it would be alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from harness.analysis.comparison import EXTRA_COLUMNS, RESULT_COLUMNS
from harness.analysis.fleet_statistics import (
    FEWEST_BLOCKS,
    FEWEST_HOSTS,
    HostEstimates,
    detectable,
    odd_hosts,
    pool_hosts,
)
from harness.analysis.ordering import cell_label
from harness.analysis.result import CRASH_COLUMNS
from harness.analysis.statistics import SignedRank, holm
from harness.analysis.verdicts import Verdict, classify

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.analysis.result import Comparison
    from harness.analysis.statistics import BoolArray, FloatArray, IntArray

FLEET_COLUMNS = ("n_hosts", "across_low", "across_high", "p_agree", "disagreeing")
"""Columns that only the pooled rows of a fleet have, in memory and in JSON.

``across_low, across_high``: interval of the mean over all hosts such as these; ``p_agree``: that the hosts
agree, adjusted for the cells; ``disagreeing``: names of those that do not, a tuple.
"""

HOSTS_DISAGREE = "hosts disagree"
_MANY = 3
_ESTIMATED = (
    "change", "ci_low", "ci_high", "p_value", "p_adjusted", "mde", "se", "across_low", "across_high",
    "p_agree",
)  # fmt: skip
_NOT_OF_ALL_CELLS = (
    "baseline", "contender", "p_adjusted", "n_baseline", "n_contender", "device_bound", *CRASH_COLUMNS,
)  # fmt: skip
_SUMS = ("n_blocks", "stray", "stray_baseline", "stray_contender", "n_baseline", "n_contender")


@dataclass(frozen=True)
class FleetComparison:
    """What every table of a fleet is made from.

    Attributes:
        pooled: one row a cell for all hosts together; its values are geometric means over the hosts.
        hosts: each host's own comparison, by name.
        left_out: hosts that are not in the pooled answer, and why.
        facts: of each host: ``cpu``, ``kernel`` and such, for people.
    """

    pooled: Comparison
    hosts: Mapping[str, Comparison]
    left_out: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The hosts that are in the pooled answer, in order."""
        return tuple(name for name in self.hosts if name not in self.left_out)

    def verdicts(self) -> set[Verdict | None]:
        """Return every verdict that counts: the pooled ones, and those of hosts that disagree."""
        found = self.pooled.verdicts()
        for contender, frame in self.pooled.frames.items():
            for cell, names in enumerate(frame["disagreeing"]):
                found |= {self._verdict(name, contender, cell) for name in names} - {None}
        return found

    def _verdict(self, host: str, contender: str, cell: int) -> Verdict | None:
        value = self.hosts[host].frames[contender]["verdict"].iloc[cell]
        return Verdict(value) if isinstance(value, str) else None


def compare_hosts(
    hosts: Mapping[str, Comparison],
    *,
    warnings: Sequence[str] = (),
    absent: Mapping[str, str] | None = None,
    facts: Mapping[str, Mapping[str, Any]] | None = None,
) -> FleetComparison:
    """Put the comparisons of several hosts together.

    Args:
        hosts: by name; at least one, all of the same cells, variants, metric, margin and alpha.
        warnings: the caller's, shown first.
        absent: hosts that have no comparison, and why.
        facts: of each host, for people.
    """
    first = max(hosts.values(), key=lambda one: len(one.contenders))
    left_out = dict(absent or {})
    for name, one in hosts.items():
        missing = [contender for contender in first.contenders if contender not in one.contenders]
        if why := one.no_verdict or (f"{', '.join(missing)} gave no numbers" if missing else None):
            left_out[name] = why
    used = {name: one for name, one in hosts.items() if name not in left_out}
    too_few = len(used) < FEWEST_HOSTS
    refused = f"{len(used)} of {len(hosts) + len(absent or {})} hosts can be pooled" if too_few else None
    frames = {
        contender: _pooled_frame(used or {"": first}, contender, refused=refused)
        for contender in first.contenders
    }
    found = [
        *warnings,
        *(f"{name} is not in the pooled answer: {why}" for name, why in left_out.items()),
        *([f"no pooled verdict: {refused}"] if refused else []),
        *(line for name, frame in frames.items() for line in _disagreements(used, name, frame)),
        *_own_warnings(used),
    ]
    blocks = int(frames[first.contenders[0]]["n_blocks"].max()) if used else 0
    names = ", ".join(list(used)[:_MANY]) + (" ..." if len(used) > _MANY else "")
    told = f"{len(used)} hosts ({names})" if used else "no host"
    pooled = replace(
        first,
        frames=frames,
        no_verdict=refused,
        warnings=tuple(dict.fromkeys(found)),
        footer=(
            f"{told}, {blocks} blocks; each measured alone.",
            *first.footer[1:],
        ),
        environment={"accel": first.environment.get("accel"), "builds": first.environment.get("builds")},
        noise_floor={},
    )
    return FleetComparison(pooled, dict(hosts), left_out, dict(facts or {}))


def _pooled_frame(hosts: Mapping[str, Comparison], contender: str, *, refused: str | None) -> pd.DataFrame:
    """Return a frame as `compare` does, with `FLEET_COLUMNS`, for all hosts together."""
    how = next(iter(hosts.values()))
    own = {name: one.frames[contender] for name, one in hosts.items()}
    columns = [*RESULT_COLUMNS, *EXTRA_COLUMNS, *CRASH_COLUMNS, *FLEET_COLUMNS]
    rows = _rows(own, how, refused)
    keys = own[next(iter(own))][how.key_columns].reset_index(drop=True)
    frame = pd.concat([keys, pd.DataFrame({name: rows[name] for name in columns})], axis=1)
    together = _rows(
        {name: pd.DataFrame([one.pooled(contender)]) for name, one in hosts.items()}, how, refused
    )
    pooled = {name: _plain(values[0]) for name, values in together.items() if name not in _NOT_OF_ALL_CELLS}
    frame.attrs = {"pooled": pooled | {"n_cells": len(frame)}}
    return frame


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _rows(own: Mapping[str, pd.DataFrame], how: Comparison, refused: str | None) -> dict[str, Any]:
    """Return column name -> values, shape (C,), for the hosts together."""
    rows = _described(own)
    cells = len(rows["n_blocks"])
    rows |= {name: np.full(cells, np.nan) for name in _ESTIMATED}
    rows |= {name: np.full(cells, None, dtype=object) for name in ("verdict", "reason", "disagreeing")}
    rows["small"] = np.zeros(cells, dtype=bool)
    rows["disagreeing"][:] = [()] * cells
    blocks = _stack(own, "n_blocks")
    everyone = HostEstimates(np.log1p(_stack(own, "change")), _stack(own, "se"), blocks.astype(int))
    usable = (blocks >= FEWEST_BLOCKS) & np.isfinite(everyone.standard_error)
    rows["n_hosts"] = usable.sum(axis=0)
    if refused:
        rows["reason"][:] = refused
        return rows
    counted = np.flatnonzero(rows["n_hosts"] >= FEWEST_HOSTS)
    rows["reason"][:] = f"too few blocks: {FEWEST_BLOCKS} on each of {FEWEST_HOSTS} hosts are needed"
    rows["verdict"][:] = Verdict.UNCLEAR.value
    if counted.size:
        each = [_cell(everyone, usable, int(cell)) for cell in counted]
        names = [[name for name, use in zip(own, usable[:, cell], strict=True) if use] for cell in counted]
        _judge(rows, counted, each, names, how)
    return rows


def _described(own: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Return what is not estimated: geometric means of the values, sums of the counts."""
    rows: dict[str, Any] = {
        column: _stack(own, column).sum(axis=0).astype(int) for column in (*_SUMS, *CRASH_COLUMNS)
    }
    for column in ("baseline", "contender"):
        logs = np.log(_stack(own, column))
        count = (~np.isnan(logs)).sum(axis=0)
        total = np.nansum(logs, axis=0)
        rows[column] = np.exp(np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0))
    rows["device_bound"] = _stack(own, "device_bound").any(axis=0)
    return rows


def _stack(own: Mapping[str, pd.DataFrame], column: str) -> FloatArray:
    """Return a column of all hosts, shape (H, C); the row for all cells has not every column."""
    missing = 0.0 if column in {*_SUMS, *CRASH_COLUMNS, "device_bound"} else np.nan
    return np.array(
        [
            frame[column].to_numpy(dtype=float) if column in frame.columns else np.full(len(frame), missing)
            for frame in own.values()
        ]
    )


def _judge(
    rows: dict[str, Any],
    counted: IntArray,
    each: Sequence[HostEstimates],
    names: Sequence[Sequence[str]],
    how: Comparison,
) -> None:
    """Fill in estimates, verdicts and who disagrees, for the cells that enough hosts have."""
    pooled = [pool_hosts(one, alpha=how.alpha) for one in each]
    estimates = _joined([one.estimates for one in pooled])
    p_adjusted, p_agree = holm(estimates.p_value), holm(np.array([float(one.p_agree) for one in pooled]))
    verdict, small = classify(
        estimates,
        p_adjusted,
        enough=np.ones(len(counted), dtype=bool),
        margin=how.margin,
        alpha=how.alpha,
        higher_is_better=how.metric.higher_is_better,
    )
    odd = [_odd(one, p, how.alpha) for one, p in zip(each, p_agree, strict=True)]
    undecided = np.array(
        [
            bool(marks.any()) and (said == Verdict.SAME.value or _opposed(one))
            for one, marks, said in zip(each, odd, verdict, strict=True)
        ]
    )
    rows["change"][counted] = np.expm1(estimates.estimate)
    rows["ci_low"][counted], rows["ci_high"][counted] = np.expm1(estimates.low), np.expm1(estimates.high)
    rows["p_value"][counted], rows["p_adjusted"][counted] = estimates.p_value, p_adjusted
    rows["se"][counted], rows["p_agree"][counted] = estimates.standard_error, p_agree
    rows["across_low"][counted] = [float(np.expm1(one.across_low)) for one in pooled]
    rows["across_high"][counted] = [float(np.expm1(one.across_high)) for one in pooled]
    rows["mde"][counted] = [float(detectable(one, cells=len(counted), alpha=how.alpha)) for one in pooled]
    rows["verdict"][counted] = np.where(undecided, Verdict.UNCLEAR.value, verdict).astype(object)
    rows["small"][counted] = small & ~undecided
    for cell, marks, known, withheld in zip(counted, odd, names, undecided, strict=True):
        rows["disagreeing"][cell] = tuple(name for name, mark in zip(known, marks, strict=True) if mark)
        rows["reason"][cell] = HOSTS_DISAGREE if withheld else None


def _cell(everyone: HostEstimates, usable: BoolArray, cell: int) -> HostEstimates:
    rows = usable[:, cell]
    return HostEstimates(
        everyone.estimate[rows, cell], everyone.standard_error[rows, cell], everyone.blocks[rows, cell]
    )


def _joined(cells: Sequence[SignedRank]) -> SignedRank:
    """Return the estimates of several cells as one, shape (C,)."""
    fields = SignedRank.__dataclass_fields__
    return SignedRank(**{name: np.array([float(getattr(one, name)) for one in cells]) for name in fields})


def _odd(hosts: HostEstimates, p_agree: float, alpha: float) -> BoolArray:
    if p_agree >= alpha:
        return np.zeros(len(hosts.estimate), dtype=bool)
    return odd_hosts(hosts, alpha=alpha)


def _opposed(hosts: HostEstimates) -> bool:
    """Return whether the hosts differ in the direction of the change, not only in how large it is."""
    return bool((np.sign(hosts.estimate) != np.sign(hosts.estimate[0])).any())


def _disagreements(hosts: Mapping[str, Comparison], contender: str, frame: pd.DataFrame) -> list[str]:
    """Return a sentence for each cell in which hosts disagree, with the changes."""
    if not hosts:
        return []
    how = next(iter(hosts.values()))
    keys = frame[how.key_columns].itertuples(index=False, name=None)
    found = zip([cell_label(key, how.factors) for key in keys], frame["disagreeing"], strict=True)
    changes = {name: one.frames[contender]["change"].to_numpy(dtype=float) for name, one in hosts.items()}
    lines = [
        _disagreement(label, {name: float(own[cell]) for name, own in changes.items()}, odd)
        for cell, (label, odd) in enumerate(found)
        if odd
    ]
    pooled = frame.attrs["pooled"]
    if pooled["disagreeing"]:
        all_cells = {name: float(one.pooled(contender)["change"]) for name, one in hosts.items()}
        lines.insert(0, _disagreement("all cells", all_cells, pooled["disagreeing"]))
    return lines


def _disagreement(label: str, changes: Mapping[str, float], odd: Sequence[str]) -> str:
    more = f" and {len(odd) - _MANY} more" if len(odd) > _MANY else ""
    told = ", ".join(f"{name} {changes[name]:+.1%}" for name in odd[:_MANY]) + more
    rest = [value for name, value in changes.items() if name not in odd and np.isfinite(value)]
    against = f"the others {min(rest):+.1%} to {max(rest):+.1%}" if rest else "no two of them agree"
    return f"hosts disagree in {label}: {told}; {against}"


def _own_warnings(hosts: Mapping[str, Comparison]) -> list[str]:
    """Return what the hosts' own tables warn of, once each, with the hosts it is said of."""
    said: dict[str, list[str]] = {}
    for name, one in hosts.items():
        for warning in one.warnings:
            said.setdefault(warning, []).append(name)
    return [
        f"{', '.join(names) if len(names) <= _MANY else f'{len(names)} hosts'}: {warning}"
        for warning, names in said.items()
    ]
