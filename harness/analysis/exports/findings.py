"""What a run found, a cell each, in one shape for all workloads."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

from harness.analysis.cost_tables import METRIC as INSTRUCTIONS
from harness.analysis.cost_tables import cost_lines
from harness.analysis.costs import CHEAPER, COSTLIER, CostComparison
from harness.analysis.pool import Fate, Growth
from harness.analysis.pool_tables import PoolReport, judgement_of
from harness.analysis.result import Comparison, absence
from harness.analysis.tables import interval, percent, table_lines
from harness.analysis.verdicts import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from harness.analysis.costs import CellCost
    from harness.analysis.pool import PoolVariant
    from harness.core.model import FactorValue, Workload
    from harness.core.records import RunState

Result: TypeAlias = tuple[Comparison, ...] | CostComparison | PoolReport
"""Of a fio-matrix a comparison a metric, of instructions, of pool-growth."""

POOL_METRIC = "coroutine pool"


class Outcome(StrEnum):
    """What a finding means to whoever asked whether it got worse."""

    FINE = "fine"
    WORSE = "worse"
    UNCLEAR = "unclear"
    CRASHED = "crashed"


@dataclass(frozen=True, slots=True)
class Head:
    """What is known of a run beside its numbers.

    Attributes:
        state: how far it has come.
        stopped: why it ended.
        created: ISO 8601, UTC.
        builds: a variant's provisioned build.
        host: the machine's name; empty when it is not recorded.
        accel: ``kvm`` or ``tcg``; empty without a guest.
        ruler: what counted instructions; empty when nothing did.
    """

    run_id: str
    name: str
    workload: Workload
    state: RunState
    stopped: str | None
    created: str
    wall_seconds: float
    harness_version: str
    baseline: str
    builds: Mapping[str, Mapping[str, Any]]
    host: str = ""
    cpu: str = ""
    kernel: str = ""
    accel: str = ""
    ruler: str = ""

    def properties(self) -> dict[str, str]:
        """Return where the numbers come from, by name; what is unknown is absent."""
        known = {
            "run": self.run_id,
            "workload": self.workload.value,
            "state": self.state.value,
            "stopped": self.stopped or "",
            "host": self.host,
            "cpu": self.cpu,
            "kernel": self.kernel,
            "accel": self.accel,
            "ruler": self.ruler,
            "harness": self.harness_version,
        }
        for variant, build in self.builds.items():
            known[f"build.{variant}"] = str(build.get("version") or "")
            known[f"build.{variant}.sha256"] = str(build.get("sha256") or "")
        return {name: value for name, value in known.items() if value}


@dataclass(frozen=True, slots=True)
class Finding:
    """One cell of one contender.

    Attributes:
        cell: its factors in the table's order; empty where there are no cells.
        metric: what was compared.
        verdict: as the tables have it; ``no verdict`` where none was allowed.
        summary: verdict and numbers in a line.
        row: the table's head and this row.
    """

    contender: str
    cell: Mapping[str, FactorValue]
    metric: str
    outcome: Outcome
    verdict: str
    summary: str
    row: str = field(repr=False)

    @property
    def name(self) -> str:
        """The same in every run of an experiment: ``randread 4k qd8: iops``, further factors by name."""
        known = {"rw": "{}", "bs": "{}", "iodepth": "qd{}"}
        parts = [known.get(name, name + "={}").format(value) for name, value in self.cell.items()]
        return f"{' '.join(parts)}: {self.metric}" if parts else self.metric


def findings_of(result: Result) -> list[Finding]:
    """Return what was found, contender by contender, in the table's order."""
    if isinstance(result, CostComparison):
        return list(_of_costs(result))
    if isinstance(result, PoolReport):
        return [_of_pool(variant, result) for variant in result.variants[1:]]
    return [finding for comparison in result for finding in _of_comparison(comparison)]


def warnings_of(result: Result) -> list[str]:
    """Return what a reader must be told, each sentence once."""
    parts = result if isinstance(result, tuple) else (result,)
    return list(dict.fromkeys(warning for part in parts for warning in part.warnings))


def _of_comparison(comparison: Comparison) -> Iterator[Finding]:
    for contender, frame in comparison.frames.items():
        head, *rows = table_lines(comparison, contender)
        records = frame.to_dict("records")
        for record, row in zip(records, rows, strict=False):  # below them is the row of all cells
            values = {str(name): value for name, value in record.items()}
            verdict = values["verdict"]
            word = verdict if isinstance(verdict, str) else "no verdict"
            yield Finding(
                contender=contender,
                cell={name: values[name] for name in comparison.key_columns},
                metric=comparison.metric.name,
                outcome=_outcome(word, crashed=bool(values["crashed_contender"])),
                verdict=word,
                summary=_summary(comparison, contender, word, values),
                row=f"{head}\n{row}",
            )
    for contender, died in comparison.absent.items():
        yield Finding(
            contender=contender,
            cell={},
            metric=comparison.metric.name,
            outcome=Outcome.CRASHED if died else Outcome.UNCLEAR,
            verdict="no verdict",
            summary=absence(contender, died),
            row="",
        )


def _outcome(verdict: str, *, crashed: bool) -> Outcome:
    if crashed:
        return Outcome.CRASHED
    if verdict in {Verdict.SLOWER, COSTLIER}:
        return Outcome.WORSE
    known = {Verdict.FASTER, Verdict.SAME, CHEAPER}
    return Outcome.FINE if verdict in known else Outcome.UNCLEAR


def _summary(comparison: Comparison, contender: str, word: str, row: Mapping[str, Any]) -> str:
    parts = [f"{word}: {percent(row['change'])} {interval(row['ci_low'], row['ci_high'])}".removesuffix(" -")]
    if crashed := row["crashed_contender"]:
        parts.insert(0, f"{contender} crashed in {crashed} session{'' if crashed == 1 else 's'}")
    if word == Verdict.UNCLEAR and math.isfinite(row["mde"]):
        parts.append(f"no change below {percent(row['mde'], sign=False)} would be found")
    if isinstance(row["reason"], str):
        parts.append(row["reason"])
    elif comparison.no_verdict:
        parts.append(comparison.no_verdict)
    return "; ".join(parts)


def _of_costs(result: CostComparison) -> Iterator[Finding]:
    for contender, cells in result.contenders.items():
        head, *rows = cost_lines(result, contender)
        for cell, row in zip(cells, rows, strict=True):
            yield Finding(
                contender=contender,
                cell=dict(zip(result.factors, cell.cell, strict=True)),
                metric=INSTRUCTIONS,
                outcome=_outcome(cell.verdict, crashed=False),
                verdict=cell.verdict,
                summary=_cost_summary(cell),
                row=f"{head}\n{row}",
            )


def _cost_summary(cell: CellCost) -> str:
    resolution = percent(cell.resolution, decimals=2, sign=False)
    reason = f"; {cell.reason}" if cell.reason else ""
    return f"{cell.verdict}: {percent(cell.change)} instructions a request, resolution {resolution}{reason}"


def _of_pool(variant: PoolVariant, report: PoolReport) -> Finding:
    """Return what a contender's pool did; of the baseline nothing is asked."""
    outcomes = {
        Growth.BOUNDED: Outcome.FINE,
        Growth.UNBOUNDED: Outcome.WORSE,
        Growth.UNCLEAR: Outcome.UNCLEAR,
    }
    aborted = variant.fate is Fate.ABORTED
    return Finding(
        contender=variant.name,
        cell={},
        metric=POOL_METRIC,
        outcome=Outcome.CRASHED if aborted else outcomes[variant.growth],
        verdict=variant.fate.value if aborted else variant.growth.value,
        summary=" ".join(judgement_of(variant)),
        row="\n".join(line for other in report.variants for line in judgement_of(other)),
    )
