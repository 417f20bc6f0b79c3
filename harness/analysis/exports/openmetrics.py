"""OpenMetrics text: what Prometheus scrapes, and node_exporter's textfile collector reads.

The latter knows fewer types, so every family is a gauge: facts are gauges of 1 (``..._info``), and a verdict
is a gauge for each word it may be. What could not be computed is absent, never 0 and never NaN.
Format: the OpenMetrics specification 1.0, exposition text.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.analysis.costs import CHEAPER, COSTLIER, SAME, UNCLEAR, CostComparison
from harness.analysis.pool import Fate, Growth
from harness.analysis.pool_tables import PoolReport
from harness.analysis.verdicts import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.analysis.exports.findings import Head, Result
    from harness.analysis.metrics import Metric
    from harness.analysis.result import Comparison

_PREFIX = "qemu_ab_"
_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_]")
_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_NS = "_ns"
_NS_PER_REQUEST = "_ns_per_io"

_CRASHED = "Sessions of the contender in which QEMU died."

Labels = dict[str, object]
_Word = tuple[object, list[str]]
"""The one that holds, and all it may be."""


@dataclass(frozen=True, slots=True)
class Family:
    """Samples of one kind.

    Attributes:
        name: the unit stands at its end.
        unit: empty where there is none.
        samples: labels and value.
    """

    name: str
    help: str
    unit: str = ""
    samples: list[tuple[Labels, float]] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """Return its lines, as both formats want them."""
        yield f"# HELP {self.name} {self.help}"
        yield f"# TYPE {self.name} gauge"
        if self.unit:
            yield f"# UNIT {self.name} {self.unit}"
        for labels, value in self.samples:
            inside = ",".join(f'{_label(name)}="{_escaped(text)}"' for name, text in labels.items())
            yield f"{self.name}{{{inside}}} {float(value)!r}"


class _Families:
    def __init__(self) -> None:
        self.found: dict[str, Family] = {}

    def add(self, name: str, help_text: str, labels: Labels, value: float | None, *, unit: str = "") -> None:
        """Add a sample; none where there is no number."""
        if value is not None and math.isfinite(value):
            name = _PREFIX + name
            self.found.setdefault(name, Family(name, help_text, unit)).samples.append((labels, value))


def openmetrics(head: Head, result: Result) -> str:
    """Write a run as OpenMetrics text.

    Returns:
        Text that ends with ``# EOF`` and a newline.
    """
    families = _Families()
    _add_head(families, head)
    if isinstance(result, CostComparison):
        _add_costs(families, head, result)
    elif isinstance(result, PoolReport):
        _add_pool(families, head, result)
    else:
        for comparison in result:
            _add_comparison(families, head, comparison)
    lines = [line for family in families.found.values() for line in family.lines()]
    return "\n".join([*lines, "# EOF"]) + "\n"


def _add_head(families: _Families, head: Head) -> None:
    own: Labels = {"experiment": head.name}
    facts = {name: text for name, text in head.properties().items() if not name.startswith("build.")}
    families.add("run_info", "What the run is and where it was measured.", own | facts, 1)
    for variant, build in head.builds.items():
        labels = {
            "variant": variant,
            "version": build.get("version") or "",
            "sha256": build.get("sha256") or "",
        }
        families.add("build_info", "The QEMU build of a variant.", own | labels, 1)
    families.add("run_seconds", "How long the run took.", own, head.wall_seconds, unit="seconds")


def _add_comparison(families: _Families, head: Head, comparison: Comparison) -> None:
    for contender, frame in comparison.frames.items():
        for record in frame.to_dict("records"):
            row = {str(name): value for name, value in record.items()}
            cell: Labels = {"experiment": head.name} | {name: row[name] for name in comparison.key_columns}
            for variant, side in ((comparison.baseline, "baseline"), (contender, "contender")):
                _add_median(families, comparison.metric, cell | {"variant": variant}, row[side])
            labels = cell | {"contender": contender, "metric": comparison.metric.name}
            _add_change(families, labels, row["change"], row["ci_low"], row["ci_high"])
            families.add(
                "detectable_ratio",
                "The smallest change that would be found 4 times in 5.",
                labels,
                row["mde"],
                unit="ratio",
            )
            families.add("blocks", "Blocks in which both builds gave a number.", labels, row["n_blocks"])
            families.add(
                "crashed_sessions",
                _CRASHED,
                labels,
                row["crashed_contender"],
            )
            verdict = row["verdict"]
            _add_words(families, "verdict", "What can be said of the cell.", labels, (verdict, list(Verdict)))
    for contender, died in comparison.absent.items():
        labels = {"experiment": head.name, "contender": contender, "metric": comparison.metric.name}
        families.add("crashed_sessions", _CRASHED, labels, died)


def _add_median(families: _Families, metric: Metric, labels: Labels, value: float) -> None:
    """Add a variant's median in base units; of several contenders the baseline comes once."""
    name, unit, factor = _base(metric.name)
    words = f"Median over the sessions: {metric.label}."
    known = families.found.get(_PREFIX + name)
    if known is None or all(labels != there for there, _value in known.samples):
        families.add(name, words, labels, value * factor, unit=unit)


def _base(name: str) -> tuple[str, str, float]:
    """Return a metric's name and unit as Prometheus wants them, and what turns a value into that unit."""
    if name == "bw_bytes":
        return "bandwidth_bytes_per_second", "bytes_per_second", 1.0
    if name.endswith(_NS_PER_REQUEST):
        return f"{name.removesuffix(_NS_PER_REQUEST)}_per_request_seconds", "seconds", 1e-9
    if name.endswith(_NS):
        return f"{name.removesuffix(_NS)}_seconds", "seconds", 1e-9
    return name, "", 1.0


def _add_change(
    families: _Families, labels: Labels, change: float, low: float = math.nan, high: float = math.nan
) -> None:
    families.add(
        "change_ratio", "The change against the baseline: 0.033 is +3.3 %.", labels, change, unit="ratio"
    )
    for bound, value in (("low", low), ("high", high)):
        families.add(
            "change_bound_ratio", "The change's interval.", labels | {"bound": bound}, value, unit="ratio"
        )


def _add_words(families: _Families, name: str, help_text: str, labels: Labels, holds: _Word) -> None:
    """Add a gauge for each word: 1 for the one that holds. Without a verdict none does."""
    word, words = holds
    for known in words:
        families.add(name, help_text, labels | {name: str(known)}, float(word == known))


def _add_costs(families: _Families, head: Head, result: CostComparison) -> None:
    name, words = "instructions_per_request", "Instructions a request costs."
    for contender, cells in result.contenders.items():
        for found in cells:
            cell: Labels = {"experiment": head.name} | dict(zip(result.factors, found.cell, strict=True))
            sides = ((result.baseline, found.baseline), (contender, found.contender))
            for variant, cost in sides:
                labels = cell | {"variant": variant}
                if variant == contender or contender == next(iter(result.contenders)):
                    families.add(name, words, labels, cost.per_request)
            labels = cell | {"contender": contender, "metric": name}
            _add_change(families, labels, found.change)
            families.add(
                "resolution_ratio",
                "How far repeats of a count lie apart.",
                labels,
                found.resolution,
                unit="ratio",
            )
            _add_words(
                families,
                "verdict",
                "What can be said of the cell.",
                labels,
                (found.verdict, [CHEAPER, COSTLIER, SAME, UNCLEAR]),
            )


def _add_pool(families: _Families, head: Head, report: PoolReport) -> None:
    own: Labels = {"experiment": head.name}
    for variant in report.variants:
        labels = own | {"variant": variant.name}
        last = variant.rounds[-1] if variant.rounds else None
        families.add("pool_vmas", "VMAs of QEMU after the last round.", labels, last.vmas if last else None)
        families.add(
            "pool_coroutines",
            "Coroutines of QEMU after the last round.",
            labels,
            last.coroutines if last else None,
        )
        families.add("pool_vmas_per_round", "Growth of the VMAs a round.", labels, variant.slope.estimate)
        for bound, value in (("low", variant.slope.low), ("high", variant.slope.high)):
            families.add(
                "pool_vmas_per_round_bound", "The growth's interval.", labels | {"bound": bound}, value
            )
        families.add("pool_rounds", "The round QEMU died in, or the last it survived.", labels, variant.round)
        families.add("pool_aborted", "Whether QEMU died.", labels, float(variant.fate is Fate.ABORTED))
        _add_words(
            families,
            "growth",
            "Whether the pool grows without bound.",
            labels,
            (variant.growth, list(Growth)),
        )
    families.add("mapping_limit", "vm.max_map_count of the host.", own, report.limit)


def _label(name: str) -> str:
    return _NOT_IN_A_NAME.sub("_", name)


def _escaped(text: object) -> str:
    clean = "".join(c if c.isprintable() or c == "\n" else "?" for c in str(text))
    return clean.translate(_ESCAPES)
