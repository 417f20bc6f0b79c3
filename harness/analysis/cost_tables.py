"""Comparisons of instructions as text: for the terminal, a commit message, a merge request, a program."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import orjson

from harness.analysis.layout import Column, clean, layout, markdown_remarks, markdown_table
from harness.analysis.pool_costs import PoolCost
from harness.analysis.tables import HEADS, JSON_FORMAT_VERSION, TableFormat, percent
from harness.core.unicode import json_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.analysis.costs import CellCost, Cost, CostComparison

METRIC = "instructions_per_request"
_POOL_HEADS = {"MISSES": "misses", "INSTRUCTIONS": "instructions", "CALLS": "calls"}
_POOL_DECIMALS = {"misses": 3, "instructions": 0, "calls": 3}
_POOL_MEANING = (
    "MISSES: coroutines made because the pool had none. INSTRUCTIONS: for making and freeing coroutines. "
    "CALLS: of mmap, mprotect and munmap. Each a request."
)
_MEANING = (
    "Change: more (+) or fewer (-) instructions a request. Resolution: how far repeats of a count lie apart."
)

_CYCLES = (
    "Cycles: an estimate from simulated caches and branches (instructions + 10 a miss of L1 or a "
    "mispredicted branch + 100 a miss of the last level; rounds of `rep stos` and `rep movs` at 32 a "
    "cycle); no verdict rests on it."
)
_TIMES = (
    "NS: nanoseconds by the benchmark's own clock, median; NS-SPREAD: how far its repeats lie apart (noisy "
    "on a busy host); no verdict rests on it."
)


def render_costs(comparison: CostComparison, fmt: TableFormat | str = TableFormat.TEXT) -> str:
    """Write a comparison of instructions.

    Returns:
        Text that ends with a newline.
    """
    writers: dict[TableFormat, Callable[[CostComparison], str]] = {
        TableFormat.TEXT: _text,
        TableFormat.COMMIT: _commit,
        TableFormat.MARKDOWN: _markdown,
        TableFormat.CSV: _csv,
        TableFormat.JSON: _json,
    }
    return writers[TableFormat(fmt)](comparison)


def instructions(value: float) -> str:
    """Return instructions a request as a whole number; ``-`` where there are none."""
    return _shown(value, 0)


def _keys(comparison: CostComparison, cells: Sequence[CellCost]) -> list[Column]:
    return [
        Column(HEADS.get(name, clean(name).upper()), [clean(cell.cell[index]) for cell in cells])
        for index, name in enumerate(comparison.factors)
    ]


def _pair(comparison: CostComparison, contender: str) -> list[Column]:
    cells = comparison.contenders[contender]
    return [
        Column(clean(comparison.baseline), [instructions(cell.baseline.per_request) for cell in cells]),
        Column(clean(contender), [instructions(cell.contender.per_request) for cell in cells]),
        Column("CHANGE", [percent(cell.change) for cell in cells], left=True),
    ]


def _commit(comparison: CostComparison) -> str:
    first = next(iter(comparison.contenders))
    columns = _keys(comparison, comparison.contenders[first])
    for number, name in enumerate(comparison.contenders):
        columns += _pair(comparison, name)[1 if number else 0 :]
    return "\n".join(layout(columns)) + "\n"


def full_columns(comparison: CostComparison, contender: str) -> list[Column]:
    """Return the columns of the text and Markdown tables."""
    cells = comparison.contenders[contender]
    notes = [cell.reason or "" for cell in cells]
    return [
        *_keys(comparison, cells),
        *_pair(comparison, contender),
        Column("RESOLUTION", [percent(cell.resolution, decimals=2, sign=False) for cell in cells]),
        Column("VERDICT", [cell.verdict for cell in cells], left=True),
        *(column for _name, column in further_columns(comparison, contender)),
        *([Column("NOTE", notes, left=True)] if any(notes) else []),
    ]


def further_columns(comparison: CostComparison, contender: str) -> list[tuple[str, Column]]:
    """Return what stands beside the instructions, by its name in CSV: estimated cycles, and time.

    None of it has a verdict: cycles are a model's, and a clock is noisy.
    """
    cells, names = comparison.contenders[contender], (comparison.baseline, contender)
    found: list[tuple[str, Column]] = []
    for kind, head, there in (
        ("cycles", "CYCLES", comparison.has_cycles),
        ("time_ns", "NS", comparison.has_times),
    ):
        if there:
            sides = [
                [getattr(cell.baseline, kind) for cell in cells],
                [getattr(cell.contender, kind) for cell in cells],
            ]
            found += [
                (f"{side}_{kind}", Column(f"{clean(name)}-{head}", [instructions(value) for value in values]))
                for side, name, values in zip(("baseline", "contender"), names, sides, strict=True)
            ]
            changes = [percent(_change(cell, kind)) for cell in cells]
            found.append((f"{kind}_change", Column(f"{head}-CHANGE", changes, left=True)))
    if comparison.has_times:
        spreads = [percent(_time_spread(cell), sign=False) for cell in cells]
        found.append(("time_spread", Column("NS-SPREAD", spreads)))
    return found


def further_numbers(cell: CellCost) -> dict[str, float]:
    """Return the numbers behind `further_columns` by their names."""
    found = {
        f"{side}_{kind}": getattr(cost, kind)
        for side, cost in (("baseline", cell.baseline), ("contender", cell.contender))
        for kind in ("cycles", "time_ns")
    }
    found |= {f"{kind}_change": _change(cell, kind) for kind in ("cycles", "time_ns")}
    return found | {"time_spread": _time_spread(cell)}


def _change(cell: CellCost, kind: str) -> float:
    old: float = getattr(cell.baseline, kind)
    new: float = getattr(cell.contender, kind)
    return new / old - 1 if old > 0 else math.nan


def _time_spread(cell: CellCost) -> float:
    return max(cell.baseline.time_spread, cell.contender.time_spread)


def cost_lines(comparison: CostComparison, contender: str) -> list[str]:
    """Return the lines of a contender's table: its head and a row a cell."""
    return layout(full_columns(comparison, contender))


def pool_columns(comparison: CostComparison, contender: str) -> list[Column]:
    """Return the columns of the coroutine pool's table; none where that was not asked.

    A column that could not be counted at all is left out; `explanation` says why.
    """
    if comparison.pool is None:
        return []
    cells = comparison.contenders[contender]
    columns = _keys(comparison, cells)
    for head, name in _POOL_HEADS.items():
        for variant in (comparison.baseline, contender):
            costs = [comparison.pool.get((variant, cell.cell), PoolCost()) for cell in cells]
            values = [getattr(cost, name) for cost in costs]
            if not all(map(math.isnan, values)):
                shown = [_shown(value, _POOL_DECIMALS[name]) for value in values]
                columns.append(Column(f"{clean(variant)} {head}", shown))
    return columns


def _shown(value: float, decimals: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{decimals}f}"


def pool_title(comparison: CostComparison, contender: str) -> str:
    """Return the title of that table."""
    return f"{clean(contender)} against {clean(comparison.baseline)}: what the coroutine pool costs a request"


def _title(comparison: CostComparison, contender: str) -> str:
    return (
        f"{clean(contender)} against {clean(comparison.baseline)}: instructions a request (fewer is better)"
    )


def explanation(comparison: CostComparison) -> list[str]:
    """Return what the columns mean, and the caller's lines."""
    verdict = (
        f"Verdict: margin {comparison.margin * 100:g}%, beyond or within which by more than the resolution."
    )
    further = [] if comparison.pool is None else [_POOL_MEANING]
    further += [_CYCLES] if comparison.has_cycles else []
    further += [_TIMES] if comparison.has_times else []
    return [comparison.ruler, _MEANING, verdict, *further, *comparison.footer]


def _text(comparison: CostComparison) -> str:
    lines: list[str] = []
    for contender in comparison.contenders:
        lines += [_title(comparison, contender), "", *cost_lines(comparison, contender), ""]
        if columns := pool_columns(comparison, contender):
            lines += [pool_title(comparison, contender), "", *layout(columns), ""]
    lines += [f"warning: {clean(warning)}" for warning in comparison.warnings]
    return "\n".join([*lines, *map(clean, explanation(comparison))]) + "\n"


def _markdown(comparison: CostComparison) -> str:
    lines: list[str] = []
    for contender in comparison.contenders:
        lines += markdown_table(f"**{_title(comparison, contender)}**", full_columns(comparison, contender))
        if columns := pool_columns(comparison, contender):
            lines += markdown_table(f"**{pool_title(comparison, contender)}**", columns)
    lines += markdown_remarks(comparison.warnings, explanation(comparison))
    return "\n".join(lines) + "\n"


def _records(comparison: CostComparison) -> list[dict[str, Any]]:
    return [
        {
            "variant": contender,
            **dict(zip(comparison.factors, cell.cell, strict=True)),
            "baseline": _number(cell.baseline.per_request),
            "contender": _number(cell.contender.per_request),
            "change": _number(cell.change),
            "resolution": _number(cell.resolution),
            "verdict": cell.verdict,
            "reason": cell.reason,
            **{name: _number(numbers[name]) for name in further},
            **_pool_record(comparison, contender, cell),
        }
        for contender, cells in comparison.contenders.items()
        for further in [[name for name, _column in further_columns(comparison, contender)]]
        for cell in cells
        for numbers in [further_numbers(cell)]
    ]


def _pool_record(comparison: CostComparison, contender: str, cell: CellCost) -> dict[str, Any]:
    if comparison.pool is None:
        return {}
    return {
        f"{role}_pool_{name}": _number(getattr(comparison.pool.get((variant, cell.cell), PoolCost()), name))
        for name in _POOL_HEADS.values()
        for role, variant in (("baseline", comparison.baseline), ("contender", contender))
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _csv(comparison: CostComparison) -> str:
    records = _records(comparison)
    if len(comparison.contenders) == 1:
        for record in records:
            del record["variant"]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return stream.getvalue()


def _cost(cost: Cost) -> dict[str, Any]:
    return {
        name: _number(value) if isinstance(value, float) else value for name, value in asdict(cost).items()
    }


def _json(comparison: CostComparison) -> str:
    cells = (cell for cells in comparison.contenders.values() for cell in cells)
    document = {
        "format_version": JSON_FORMAT_VERSION,
        "ruler": "instructions",
        "metric": METRIC,
        "higher_is_better": False,
        "baseline": comparison.baseline,
        "contenders": list(comparison.contenders),
        "factors": list(comparison.factors),
        "margin": comparison.margin,
        "cells": [
            {**record, "costs": {"baseline": _cost(cell.baseline), "contender": _cost(cell.contender)}}
            for record, cell in zip(_records(comparison), cells, strict=True)
        ],
        "warnings": list(comparison.warnings),
        "footer": [comparison.ruler, *comparison.footer],
        "environment": comparison.environment,
    }
    return json_text(document, orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
