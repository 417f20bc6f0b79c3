"""The JSON that `compare` and `export` print, as types: the JSON Schema is made from them.

A number that could not be computed is null, never 0.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, TypeAlias

from pydantic import ConfigDict, Field, TypeAdapter, with_config

# pydantic wants this one on Python 3.11: typing's own knows not which keys are required.
from typing_extensions import TypedDict

from harness.analysis.pool import Fate, Growth  # noqa: TC001 - pydantic reads these annotations
from harness.analysis.tables import JSON_FORMAT_VERSION
from harness.analysis.verdicts import Verdict
from harness.core.model import FactorValue

_EXACT = ConfigDict(extra="forbid")
_WITH_FACTORS = ConfigDict(extra="allow")
"""Further factors of the matrix are keys of a cell, too: ``factors`` names them."""

Number = float | None
Version = Annotated[Literal[1], Field(description="Readers should refuse a greater one.")]
Factors = Annotated[
    list[str], Field(description="The keys that name a cell: rw, bs, iodepth and what else is varied.")
]
Rw = Annotated[FactorValue, Field(description="fio's pattern.")]
Bs = Annotated[FactorValue, Field(description="Block size.")]
IoDepth = Annotated[FactorValue, Field(description="Requests in flight.")]
VariantName = Annotated[str, Field(description="The contender.")]
Change = Annotated[
    Number, Field(description="The contender against the baseline, a fraction: 0.033 is +3.3 %.")
]
Margin = Annotated[float, Field(description="What counts as equal, a fraction.")]
Baseline = Annotated[str, Field(description="The baseline's name.")]
Contenders = Annotated[list[str], Field(description="The contenders' names.")]
HigherIsBetter = Annotated[bool, Field(description="Whether a rise of the metric is an improvement.")]
Warnings = Annotated[list[str], Field(description="What a reader must know, a sentence each.")]
Footer = Annotated[list[str], Field(description="The lines below the table.")]
Environment = Annotated[
    dict[str, Any], Field(description="Host, builds, guest: as the run directory records them.")
]
Low = Annotated[
    Number, Field(description="Lower bound of the change's interval at level 1 - alpha; null without one.")
]
High = Annotated[Number, Field(description="Upper bound.")]
PValue = Annotated[Number, Field(description="Chance of so large a difference if nothing changed.")]
Judged = Annotated[Verdict | None, Field(description="The verdict; null where none was allowed.")]
Blocks = Annotated[int, Field(description="Blocks in which both builds gave a number.")]
Mde = Annotated[
    Number, Field(description="The smallest change that would be found 4 times in 5, a fraction.")
]
StandardError = Annotated[Number, Field(description="Standard error of the change, of its logarithm.")]
Stray = Annotated[int, Field(description="Blocks far from the others.")]
StrayOld = Annotated[int, Field(description="Those of them whose baseline session strays.")]
StrayNew = Annotated[int, Field(description="Those of them whose contender session strays.")]
Small = Annotated[bool, Field(description="Whether the change is real, but within the margin.")]
Reason = Annotated[str | None, Field(description="Why there is no verdict, or `unclear`.")]


@with_config(_WITH_FACTORS)
class Cell(TypedDict):
    """One cell of one contender."""

    variant: VariantName
    rw: Rw
    bs: Bs
    iodepth: IoDepth
    baseline: Annotated[
        Number, Field(description="Median over the baseline's sessions, in the metric's unit.")
    ]
    contender: Annotated[Number, Field(description="The same of the contender.")]
    change: Change
    ci_low: Low
    ci_high: High
    p_value: PValue
    p_adjusted: Annotated[Number, Field(description="The same, adjusted for the number of cells (Holm).")]
    verdict: Judged
    n_blocks: Blocks
    mde: Mde
    se: StandardError
    stray: Stray
    stray_baseline: StrayOld
    stray_contender: StrayNew
    small: Small
    reason: Reason
    device_bound: Annotated[bool, Field(description="Whether the device is the limit in this cell.")]
    n_baseline: Annotated[int, Field(description="Sessions of the baseline that gave a number.")]
    n_contender: Annotated[int, Field(description="Sessions of the contender that did.")]
    crashed_baseline: Annotated[int, Field(description="Sessions of the baseline in which QEMU died here.")]
    crashed_contender: Annotated[int, Field(description="Sessions of the contender in which it did.")]


@with_config(_EXACT)
class Pooled(TypedDict):
    """All cells of one contender together."""

    variant: VariantName
    change: Change
    ci_low: Low
    ci_high: High
    p_value: PValue
    verdict: Judged
    n_blocks: Blocks
    mde: Mde
    se: StandardError
    stray: Stray
    stray_baseline: StrayOld
    stray_contender: StrayNew
    small: Small
    reason: Reason
    n_cells: Annotated[int, Field(description="How many cells it rests on.")]


@with_config(_WITH_FACTORS)
class Floor(TypedDict):
    """What an A/A run cannot tell from no change in one cell."""

    rw: Rw
    bs: Bs
    iodepth: IoDepth
    resolution: Annotated[Number, Field(description="The largest change it could not exclude, a fraction.")]


@with_config(_EXACT)
class MatrixResult(TypedDict):
    """The result of a fio-matrix, or of two sets of results."""

    format_version: Version
    metric: Annotated[str, Field(description="What was compared; its unit stands in the name.")]
    higher_is_better: HigherIsBetter
    baseline: Baseline
    contenders: Contenders
    factors: Factors
    margin: Margin
    alpha: Annotated[float, Field(description="Accepted risk of a false verdict, over all cells.")]
    no_verdict: Annotated[str | None, Field(description="Why there are no verdicts; null when there are.")]
    cells: Annotated[list[Cell], Field(description="In the table's order, contender by contender.")]
    absent: Annotated[
        dict[str, int],
        Field(description="Contenders that gave no numbers at all, and how often QEMU died of each."),
    ]
    noise_floor: Annotated[list[Floor], Field(description="Empty without an A/A run.")]
    pooled: Annotated[
        Pooled | list[Pooled], Field(description="One object, or a list for several contenders.")
    ]
    warnings: Warnings
    footer: Footer
    environment: Environment
    further: NotRequired[
        Annotated[
            list[MatrixResult], Field(description="The same for each further metric that was asked for.")
        ]
    ]


@with_config(_EXACT)
class Cost(TypedDict):
    """What a request costs one variant."""

    per_request: Annotated[Number, Field(description="Instructions a request.")]
    resolution: Annotated[Number, Field(description="How far repeats lie apart, a fraction.")]
    bend: Annotated[Number, Field(description="How far the cost of both halves of the requests lies apart.")]
    repeats: Annotated[int, Field(description="How often it was counted.")]
    threads: Annotated[
        dict[str, float], Field(description="Instructions a request of every thread by its name.")
    ]
    cycles: Annotated[
        Number, Field(description="Cycles a request, estimated; null without instructions.cycles.")
    ]
    time_ns: Annotated[Number, Field(description="Nanoseconds a request; null where the load has no clock.")]
    time_spread: Annotated[Number, Field(description="How far repeats of that lie apart, a fraction.")]


@with_config(_EXACT)
class BothCosts(TypedDict):
    """What a request costs baseline and contender."""

    baseline: Annotated[Cost, Field(description="Of the baseline.")]
    contender: Annotated[Cost, Field(description="Of the contender.")]


PoolMisses: TypeAlias = Annotated[
    Number, Field(description="Coroutines made a request, as the pool had none; of load coroutine-pool.")
]
PoolInstructions: TypeAlias = Annotated[
    Number, Field(description="Instructions a request for making and freeing coroutines; likewise.")
]
PoolCalls: TypeAlias = Annotated[
    Number, Field(description="Calls of mmap, mprotect and munmap a request; likewise.")
]


@with_config(_WITH_FACTORS)
class CostCell(TypedDict):
    """One cell of one contender, in instructions."""

    variant: VariantName
    rw: NotRequired[Rw]
    bs: NotRequired[Bs]
    iodepth: NotRequired[IoDepth]
    baseline: Annotated[Number, Field(description="Instructions a request of the baseline.")]
    contender: Annotated[Number, Field(description="Instructions a request of the contender.")]
    change: Change
    resolution: Annotated[Number, Field(description="The worse one of both, a fraction.")]
    verdict: Annotated[
        Literal["costlier", "cheaper", "same", "unclear"], Field(description="By margin and resolution.")
    ]
    reason: Annotated[str | None, Field(description="Why it is unclear.")]
    baseline_cycles: NotRequired[Annotated[Number, Field(description="Cycles a request of the baseline.")]]
    contender_cycles: NotRequired[Annotated[Number, Field(description="Cycles a request of the contender.")]]
    cycles_change: NotRequired[Annotated[Number, Field(description="The change of those, a fraction.")]]
    baseline_time_ns: NotRequired[Annotated[Number, Field(description="Time a request of the baseline.")]]
    contender_time_ns: NotRequired[Annotated[Number, Field(description="Time a request of the contender.")]]
    time_ns_change: NotRequired[Annotated[Number, Field(description="The change of those, a fraction.")]]
    time_spread: NotRequired[Annotated[Number, Field(description="How far repeats of a time lie apart.")]]
    baseline_pool_misses: NotRequired[PoolMisses]
    contender_pool_misses: NotRequired[PoolMisses]
    baseline_pool_instructions: NotRequired[PoolInstructions]
    contender_pool_instructions: NotRequired[PoolInstructions]
    baseline_pool_calls: NotRequired[PoolCalls]
    contender_pool_calls: NotRequired[PoolCalls]
    costs: Annotated[BothCosts, Field(description="What it rests on.")]


@with_config(_EXACT)
class CountsResult(TypedDict):
    """The result of a run of counts (workload: instructions)."""

    format_version: Version
    ruler: Annotated[Literal["instructions"], Field(description="Tells this document from the others.")]
    metric: Annotated[Literal["instructions_per_request"], Field(description="What was compared.")]
    higher_is_better: HigherIsBetter
    baseline: Baseline
    contenders: Contenders
    factors: Factors
    margin: Margin
    cells: Annotated[list[CostCell], Field(description="In the table's order, contender by contender.")]
    warnings: Warnings
    footer: Footer
    environment: Environment


@with_config(_EXACT)
class TrendPoint(TypedDict):
    """One build in one cell of a trend."""

    build: Annotated[str, Field(description="The build's name.")]
    value: Annotated[Number, Field(description="In the metric's unit.")]
    since_baseline: Annotated[Number, Field(description="Change against the baseline.")]
    since_previous: Annotated[Number, Field(description="Against the build before; null for the first.")]
    low: Annotated[Number, Field(description="Lower bound: of its interval, or by resolution.")]
    high: High
    verdict: Annotated[
        Literal["costlier", "cheaper", "faster", "slower", "same", "unclear"] | None,
        Field(description="Against the build before; null for the first, or where none was allowed."),
    ]
    reason: Annotated[str | None, Field(description="Why it is unclear, or hardly matters.")]


@with_config(_WITH_FACTORS)
class TrendCell(TypedDict):
    """One cell over all builds."""

    rw: Rw
    bs: Bs
    iodepth: IoDepth
    points: Annotated[list[TrendPoint], Field(description="A build each, in their order.")]


@with_config(_EXACT)
class TrendStep(TypedDict):
    """A build that differs from the one before it."""

    before: Annotated[str, Field(description="The build before.")]
    build: Annotated[str, Field(description="The build that it came with.")]
    cells: Annotated[list[dict[str, FactorValue]], Field(description="The cells that it is in.")]


@with_config(_EXACT)
class TrendResult(TypedDict):
    """Three builds or more as a trend (compare --trend)."""

    format_version: Version
    trend: Annotated[list[str], Field(description="The builds in order. Tells this document from others.")]
    counted: Annotated[bool, Field(description="Whether instructions were counted, not time.")]
    metric: Annotated[str, Field(description="What is followed.")]
    higher_is_better: HigherIsBetter
    baseline: Baseline
    factors: Factors
    margin: Margin
    cells: Annotated[list[TrendCell], Field(description="In the experiment's order.")]
    steps: Annotated[list[TrendStep], Field(description="Where something changed, in the builds' order.")]
    warnings: Warnings
    footer: Footer
    environment: Environment


@with_config(_EXACT)
class Round(TypedDict):
    """QEMU after one round."""

    round: Annotated[int, Field(description="From 1.")]
    coroutines: Annotated[int, Field(description="Pooled ones and those in flight.")]
    vmas: Annotated[int, Field(description="Memory mappings.")]


@with_config(_EXACT)
class PoolOutcome(TypedDict):
    """What became of QEMU."""

    state: Annotated[Fate, Field(description="Whether it survived all rounds.")]
    round: Annotated[int, Field(description="The one it died in, or the last it survived.")]
    message: Annotated[str | None, Field(description="QEMU's last words.")]
    death: Annotated[str | None, Field(description="How it died.")]
    vmas: Annotated[int | None, Field(description="Last seen before it died.")]


@with_config(_EXACT)
class PoolSlope(TypedDict):
    """Growth, with its 95 % interval."""

    vmas_per_round: Annotated[Number, Field(description="Memory mappings a round.")]
    ci_low: Annotated[Number, Field(description="Lower bound of it.")]
    ci_high: Annotated[Number, Field(description="Upper bound of it.")]


@with_config(_EXACT)
class PoolOfVariant(TypedDict):
    """The coroutine pool of one variant."""

    rounds: Annotated[list[Round], Field(description="The median over its sessions.")]
    growth: Annotated[Growth, Field(description="Whether it grows from round to round.")]
    outcome: Annotated[PoolOutcome, Field(description="What became of QEMU.")]
    slope: Annotated[PoolSlope, Field(description="How fast it grows.")]
    rounds_to_limit: Annotated[
        Number, Field(description="How many more rounds lead to the limit; null if none do.")
    ]
    max_map_count: Annotated[int | None, Field(description="The limit of mappings.")]
    in_flight: Annotated[int, Field(description="The most requests in flight at once.")]
    sessions: Annotated[list[list[Round]], Field(description="Every session's rounds.")]


@with_config(_EXACT)
class PoolResult(TypedDict):
    """The result of a run of pool-growth."""

    format_version: Version
    workload: Annotated[Literal["pool-growth"], Field(description="Tells this document from the others.")]
    pool: Annotated[dict[str, PoolOfVariant], Field(description="By variant.")]
    warnings: Warnings
    footer: Footer
    environment: Environment


ResultDocument = MatrixResult | CountsResult | PoolResult | TrendResult


def result_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the documents, made from the types above."""
    schema = TypeAdapter[Any](ResultDocument).json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Result of qemu-ab-harness, format version {JSON_FORMAT_VERSION}",
        **schema,
    }
