"""What pool-growth found, as text and for programs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
import pandas as pd

from harness.analysis.layout import Column, clean, layout, markdown_remarks, markdown_table
from harness.analysis.pool import VMAS_OF_COROUTINE, Fate, Growth, PoolVariant
from harness.analysis.tables import JSON_FORMAT_VERSION, TableFormat
from harness.core.unicode import json_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DEFAULT_LIMIT = 65530
"""Linux's own vm.max_map_count; some distributions set a larger one."""

_NOTHING = "-"
_TICKS = 5


@dataclass(frozen=True)
class PoolReport:
    """Everything a pool-growth run has to say.

    Attributes:
        variants: the baseline first.
        in_flight: the most requests in flight at once.
        limit: vm.max_map_count; None when it is unknown.
        warnings: sentences.
        footer: the caller's lines.
        environment: host, builds and guest, for JSON.
    """

    variants: tuple[PoolVariant, ...]
    in_flight: int
    limit: int | None
    warnings: tuple[str, ...]
    footer: tuple[str, ...]
    environment: Mapping[str, Any]

    @property
    def rounds(self) -> int:
        """How many rounds the longest variant survived, or died in."""
        return max((max(len(v.rounds), v.round) for v in self.variants), default=0)


def render_pool(report: PoolReport, fmt: TableFormat | str = TableFormat.TEXT) -> str:
    """Write what pool-growth found; the commit format is the table alone.

    Returns:
        Text that ends with a newline.
    """
    form = TableFormat(fmt)
    if form is TableFormat.JSON:
        return _json(report)
    if form is TableFormat.CSV:
        return _csv(report)
    columns = pool_columns(report)
    if form is TableFormat.COMMIT:
        return "\n".join(layout(columns)) + "\n"
    sentences = [clean(line) for line in (*_judgements(report), *explanation(report), *report.footer)]
    warnings = [clean(warning) for warning in report.warnings]
    if form is TableFormat.MARKDOWN:
        lines = [*markdown_table(f"**{_TITLE}**", columns), *markdown_remarks(warnings, sentences)]
        return "\n".join(lines) + "\n"
    plot = [] if not report.rounds else ["", *pool_plot(report)]
    lines = [_TITLE, "", *layout(columns), *plot, "", *(f"warning: {text}" for text in warnings), *sentences]
    return "\n".join(lines) + "\n"


_TITLE = "Coroutine pool: coroutines and memory mappings (VMAs) of QEMU after each round"


def pool_columns(report: PoolReport) -> list[Column]:
    """Return the table ROUND x variants; a round that a variant died in says so."""
    numbers = range(1, report.rounds + 1)
    columns = [Column("ROUND", [str(number) for number in numbers])]
    for variant in report.variants:
        cells = [_cells(variant, number) for number in numbers]
        name = clean(variant.name)
        columns.append(Column(f"{name} COROUTINES", [coroutines for coroutines, _vmas in cells]))
        columns.append(Column(f"{name} VMAS", [vmas for _coroutines, vmas in cells]))
    return columns


def _cells(variant: PoolVariant, number: int) -> tuple[str, str]:
    if number <= len(variant.rounds):
        mappings = variant.rounds[number - 1]
        return str(mappings.coroutines), str(mappings.vmas)
    if variant.fate is Fate.ABORTED and number == variant.round:
        return "aborted", _NOTHING
    return _NOTHING, _NOTHING


def _judgements(report: PoolReport) -> list[str]:
    return [sentence for variant in report.variants for sentence in judgement_of(variant)]


def judgement_of(variant: PoolVariant) -> tuple[str, str]:
    """Return how a variant's pool grew and what became of QEMU, a sentence each."""
    return _growth(variant), _fate(variant)


def _growth(variant: PoolVariant) -> str:
    slope = variant.slope
    words = {
        Growth.UNBOUNDED: "grows without bound",
        Growth.BOUNDED: "is bounded",
        Growth.UNCLEAR: "cannot be judged from these rounds",
    }
    rate = ""
    if math.isfinite(slope.estimate):
        low, estimate, high = (f"{round(v):+,d}" for v in (slope.low, slope.estimate, slope.high))
        rate = f": {estimate} [{low}, {high}] VMAs a round"
    ahead = ""
    if variant.rounds_to_limit is not None:
        ahead = (
            f"; at this rate it reaches the limit of {variant.limit:,} in {variant.rounds_to_limit:.1f} more "
            "rounds"
        )
    return f"{variant.name} {words[variant.growth]}{rate}{ahead}."


def _fate(variant: PoolVariant) -> str:
    fatal = variant.fatal
    if fatal is None:
        last = variant.rounds[-1] if variant.rounds else None
        at = f", at {last.vmas:,} VMAs" if last else ""
        share = f" ({last.vmas / variant.limit:.0%} of the limit)" if last and variant.limit else ""
        return f"{variant.name} survived {variant.round} rounds{at}{share}."
    seen = fatal.last_seen
    last_seen = f", {seen.vmas:,} VMAs and {seen.coroutines:,} coroutines last seen" if seen else ""
    limit = f" of {variant.limit:,} allowed" if variant.limit and seen else ""
    return f"{variant.name} aborted in round {variant.round}: {fatal.death}{last_seen}{limit}."


def explanation(report: PoolReport) -> list[str]:
    """Return what a round is, and what the limit is."""
    limit = "unknown" if report.limit is None else f"{report.limit:,}"
    needed = report.in_flight * VMAS_OF_COROUTINE
    burst = f"A round: a burst of {report.in_flight:,} requests in flight (they need {needed:,} VMAs)"
    growth = (
        "Growth: least squares with its 95% interval, the first round left out where three others remain."
    )
    lines = [
        f"{burst} in one IOThread, then one request in another.",
        f"vm.max_map_count is {limit}. {growth}",
    ]
    if report.limit is not None and report.limit > DEFAULT_LIMIT:
        lines += _hidden(report)
    return lines


def _hidden(report: PoolReport) -> list[str]:
    """Say that a large limit hides the bug, and how far away it is."""
    ahead = [
        f"{variant.name} would take {variant.rounds_to_limit:,.0f} more rounds to reach it"
        for variant in report.variants
        if variant.rounds_to_limit is not None
    ]
    return [
        f"This host's limit is above Linux's own of {DEFAULT_LIMIT:,}: exhausted mappings stay hidden here"
        + (f" ({'; '.join(ahead)})." if ahead else ".")
    ]


def pool_records(variants: Sequence[PoolVariant], *, in_flight: int) -> dict[str, dict[str, Any]]:
    """Return each variant's rounds, growth and outcome, for JSON."""
    return {variant.name: _record(variant, in_flight) for variant in variants}


def _record(variant: PoolVariant, in_flight: int) -> dict[str, Any]:
    fatal, slope = variant.fatal, variant.slope
    return {
        "rounds": [
            {"round": number, "coroutines": m.coroutines, "vmas": m.vmas}
            for number, m in enumerate(variant.rounds, start=1)
        ],
        "growth": variant.growth.value,
        "outcome": {
            "state": variant.fate.value,
            "round": variant.round,
            "message": fatal.message if fatal else None,
            "death": fatal.death if fatal else None,
            "vmas": fatal.last_seen.vmas if fatal and fatal.last_seen else None,
        },
        "slope": {
            name: value if math.isfinite(value) else None
            for name, value in (
                ("vmas_per_round", slope.estimate),
                ("ci_low", slope.low),
                ("ci_high", slope.high),
            )
        },
        "rounds_to_limit": variant.rounds_to_limit,
        "max_map_count": variant.limit,
        "in_flight": in_flight,
        "sessions": [
            [{"round": n, "coroutines": m.coroutines, "vmas": m.vmas} for n, m in enumerate(s.rounds, 1)]
            for s in variant.sessions
        ],
    }


def _json(report: PoolReport) -> str:
    document = {
        "format_version": JSON_FORMAT_VERSION,
        "workload": "pool-growth",
        "pool": pool_records(report.variants, in_flight=report.in_flight),
        "warnings": list(report.warnings),
        "footer": list(report.footer),
        "environment": report.environment,
    }
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    return json_text(document, options)


def _csv(report: PoolReport) -> str:
    rows = [
        {"round": number, "variant": variant.name, "coroutines": m.coroutines, "vmas": m.vmas}
        for variant in report.variants
        for number, m in enumerate(variant.rounds, start=1)
    ]
    frame = pd.DataFrame(rows, columns=["round", "variant", "coroutines", "vmas"])
    return str(frame.to_csv(index=False, lineterminator="\n"))


def pool_plot(report: PoolReport, *, width: int = 76, height: int = 16) -> list[str]:
    """Return VMAs against rounds, drawn in characters, with the limit as a line where it is near."""
    import plotext

    markers = "ox+*#@%&"
    figure = plotext.figure
    figure.clear()
    figure.theme("colorless")
    figure.plot_size(width, height)
    for variant, marker in zip(report.variants, markers, strict=False):
        rounds = list(range(1, len(variant.rounds) + 1))
        signal = figure.signal(rounds, [m.vmas for m in variant.rounds], marker=marker)
        signal.lines()
        signal.label(clean(variant.name))
        figure.draw(signal)
    highest = max((m.vmas for variant in report.variants for m in variant.rounds), default=1)
    near = report.limit is not None and report.limit < 2 * highest
    top = report.limit if near and report.limit is not None else highest
    if near:
        figure.line(top, style="dotted")
    ticks = [top * part // _TICKS for part in range(_TICKS + 1)]
    figure.ruler("y").lim(0, top)
    figure.ruler("y").ticks(ticks, [f"{tick:,}" for tick in ticks])
    figure.ruler("x").ticks(list(range(1, report.rounds + 1)))
    figure.label("round", "x")
    figure.title("VMAs" + (f", and the limit of {top:,}" if near else ""))
    return [line.rstrip() for line in plotext.uncolorize(figure.build()).splitlines()]
