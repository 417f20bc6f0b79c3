"""The Go benchmark format, which benchstat reads: one line a session, so that its statistics hold.

Format: golang.org/design/14313-benchmark-format, with the unit metadata of golang.org/x/perf/benchfmt.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.analysis.cost_tables import METRIC as INSTRUCTIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd

    from harness.analysis.costs import CellKey, Count
    from harness.analysis.exports.findings import Head
    from harness.analysis.metrics import Metric
    from harness.analysis.pool_tables import PoolReport

_NOT_IN_A_NAME = re.compile(r"[\s/=]+")
_NOT_IN_A_KEY = re.compile(r"[^a-z0-9._-]")
_LOOKS_LIKE_PROCESSORS = re.compile(r"-[0-9]+$")


@dataclass(frozen=True, slots=True)
class Value:
    """One measurement: what benchstat calls a unit is our metric, in units it knows how to scale."""

    number: float
    unit: str
    higher_is_better: bool


@dataclass(frozen=True, slots=True)
class Bench:
    """One line.

    Attributes:
        name: of the benchmark.
        factors: of the cell.
        count: how many measurements each of these is the median of.
    """

    variant: str
    name: str
    factors: Mapping[str, object]
    count: int
    measured: tuple[Value, ...]


def benchstat(head: Head, benches: Sequence[Bench]) -> str:
    """Write lines for ``benchstat -col variant FILE``, a block a variant, in their order.

    Configuration keys but ``variant`` are the same for all lines: benchstat makes a table of each
    combination.

    Returns:
        Text that ends with a newline.
    """
    properties = {name: text for name, text in head.properties().items() if name not in {"state", "stopped"}}
    lines = [f"{_key(name)}: {_line(text)}" for name, text in properties.items()]
    better = {value.unit: value.higher_is_better for bench in benches for value in bench.measured}
    lines += [f"Unit {unit} better={'higher' if up else 'lower'}" for unit, up in better.items()]
    for variant in dict.fromkeys(bench.variant for bench in benches):
        lines += ["", f"variant: {_line(variant)}"]
        lines += [_bench(bench) for bench in benches if bench.variant == variant]
    return "\n".join(lines) + "\n"


def session_samples(
    frame: pd.DataFrame,
    metrics: Sequence[Metric],
    variants: Sequence[str],
    factors: Sequence[str],
    cells: Sequence[CellKey],
) -> list[Bench]:
    """Return a line a variant, cell and session: the median of its iterations.

    Args:
        frame: accepted iterations, as `harness.adapters.results.samples.read_samples` gives them.
        metrics: columns of it.
        variants: the baseline first.
        factors: the columns that name a cell.
        cells: in the table's order.
    """
    groups = dict(list(frame.groupby(["variant", *factors, "session"], sort=True)))
    by_cell: dict[tuple[object, ...], list[pd.DataFrame]] = defaultdict(list)
    for (*cell, _session), group in groups.items():
        by_cell[tuple(cell)].append(group)
    benches = [
        Bench(variant, "Fio", dict(zip(factors, cell, strict=True)), len(group), _medians(group, metrics))
        for variant in variants
        for cell in cells
        for group in by_cell.get((variant, *cell), [])
    ]
    return [bench for bench in benches if bench.measured]


def _medians(session: pd.DataFrame, metrics: Sequence[Metric]) -> tuple[Value, ...]:
    """Return a session's medians; what was not measured in it is absent."""
    known = [metric for metric in metrics if session[metric.name].notna().any()]
    return tuple(_of_metric(metric, float(session[metric.name].median())) for metric in known)


def _of_metric(metric: Metric, value: float) -> Value:
    # benchstat scales what ends in -ns or -ns/op, and shows it as seconds.
    name = metric.name.replace("_ns_per_io", "-ns/op").replace("_", "-")
    return Value(value, _UNITS.get(metric.name, name), metric.higher_is_better)


_UNITS = {"bw_bytes": "B/s"}


def count_samples(counts: Iterable[Count], factors: Sequence[str], variants: Sequence[str]) -> list[Bench]:
    """Return a line a variant, cell and repeat: what a request cost in it."""
    found: dict[tuple[str, CellKey], dict[int, dict[int, int]]] = defaultdict(lambda: defaultdict(dict))
    for count in counts:
        found[count.variant, count.cell][count.repeat][count.requests] = count.instructions
    benches = []
    for (variant, cell), repeats in found.items():
        for by_requests in repeats.values():
            few, many = min(by_requests), max(by_requests)
            if few < many:
                cost = (by_requests[many] - by_requests[few]) / (many - few)
                value = Value(cost, INSTRUCTIONS.replace("_", "-"), higher_is_better=False)
                cells = dict(zip(factors, cell, strict=True))
                benches.append(Bench(variant, "Instructions", cells, many - few, (value,)))
    return sorted(benches, key=lambda bench: variants.index(bench.variant))


def pool_samples(report: PoolReport) -> list[Bench]:
    """Return a line a variant, session and round."""
    return [
        Bench(
            variant.name,
            "Pool",
            {"round": f"{number:02d}"},
            1,
            (
                Value(mappings.vmas, "vmas", higher_is_better=False),
                Value(mappings.coroutines, "coroutines", higher_is_better=False),
            ),
        )
        for variant in report.variants
        for session in variant.sessions
        for number, mappings in enumerate(session.rounds, start=1)
    ]


def _bench(bench: Bench) -> str:
    parts = [f"{_word(name)}={_word(str(value))}" for name, value in bench.factors.items()]
    name = "/".join([f"Benchmark{bench.name}", *parts])
    # A number behind a dash at the end is taken for GOMAXPROCS: then there has to be one.
    suffix = "-1" if _LOOKS_LIKE_PROCESSORS.search(name) else ""
    values = " ".join(f"{value.number!r} {value.unit}" for value in bench.measured)
    return f"{name}{suffix} {bench.count} {values}"


def _word(text: str) -> str:
    return _NOT_IN_A_NAME.sub("_", _line(text)) or "_"


def _line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _key(name: str) -> str:
    """Return a configuration key: it begins with a small letter, and has no capital and no blank in it."""
    return _NOT_IN_A_KEY.sub("_", name.lower())
