"""Comparisons as text: for the terminal, a commit message, a merge request, a spreadsheet, a program."""

from __future__ import annotations

import math
import textwrap
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import orjson
import pandas as pd

from harness.analysis.comparison import EXTRA_COLUMNS, RESULT_COLUMNS
from harness.analysis.layout import Column, clean, layout, markdown_remarks, markdown_table
from harness.analysis.remarks import shortened
from harness.analysis.result import CRASH_COLUMNS
from harness.core import unicode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.analysis.result import Comparison

JSON_FORMAT_VERSION = 1
HEADS = {"rw": "RW", "bs": "BLKSIZE", "iodepth": "IODEPTH"}
"""What tables call the factors of a cell; others by their own name, in capitals."""
_COMMIT_WIDTH = 72
_SMALLEST_P = 0.001
_NOTHING = "-"


class TableFormat(StrEnum):
    """How a comparison is written."""

    TEXT = "text"
    COMMIT = "commit"
    MARKDOWN = "markdown"
    CSV = "csv"
    JSON = "json"


def render(comparison: Comparison, fmt: TableFormat | str = TableFormat.TEXT, *, ci: bool = False) -> str:
    """Write a comparison.

    Args:
        comparison: what `result.build` returned.
        fmt: how.
        ci: in the commit format, add intervals and a footer.

    Returns:
        Text that ends with a newline.
    """
    writers: dict[TableFormat, Callable[[Comparison], str]] = {
        TableFormat.TEXT: _text,
        TableFormat.COMMIT: _commit_with_intervals if ci else _commit,
        TableFormat.MARKDOWN: _markdown,
        TableFormat.CSV: _csv,
        TableFormat.JSON: _json,
    }
    return writers[TableFormat(fmt)](comparison)


def render_all(
    comparisons: Sequence[Comparison], fmt: TableFormat | str = TableFormat.TEXT, *, ci: bool = False
) -> str:
    """Write the comparisons of several metrics of the same results, one table after the other.

    What readers must know of all of them stands once. As CSV they are one table with a leading column
    ``metric``; as JSON the first one's document, with the others under ``further``. A single one is written
    as `render` does.

    Args:
        comparisons: at least one, as `result.build` returned them.
        fmt: how.
        ci: in the commit format, add intervals and a footer.

    Returns:
        Text that ends with a newline.
    """
    first, *others = comparisons
    if not others:
        return render(first, fmt, ci=ci)
    if fmt == TableFormat.CSV:
        return csv_text(pd.concat([csv_frame(one).assign(metric=one.metric.name) for one in comparisons]))
    if fmt == TableFormat.JSON:
        return json_text(document(first) | {"further": [document(other) for other in others]})
    tables = [render(one, fmt, ci=ci) for one in _said_once(comparisons)]
    if fmt == TableFormat.COMMIT:
        # The table of a commit message does not say what it shows.
        tables = [f"{one.metric.heading}:\n\n{table}" for one, table in zip(comparisons, tables, strict=True)]
    return "\n".join(tables)


def _said_once(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Return comparisons without the warnings that an earlier one has, the footer below the last one only."""
    once: list[Comparison] = []
    said: set[str] = set()
    for one in comparisons:
        fresh = tuple(warning for warning in one.warnings if warning not in said)
        said.update(fresh)
        last = one is comparisons[-1]
        once.append(replace(one, warnings=fresh, footer=one.footer if last else ()))
    return once


def percent(fraction: float, *, decimals: int = 1, sign: bool = True) -> str:
    """Return a fraction as people read it: ``+3.3%``; zero is ``+0.0%``; ``-`` when there is none."""
    if math.isnan(fraction):
        return _NOTHING
    # Adding 0 turns the -0.0 that rounding leaves into 0.0.
    rounded = round(fraction * 100, decimals) + 0.0
    return f"{rounded:{'+' if sign else ''}.{decimals}f}%"


def interval(low: float, high: float) -> str:
    """Return an interval: ``[+2.1%, +4.4%]``; ``-`` when there is none, or one without bounds."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return _NOTHING
    return f"[{percent(low)}, {percent(high)}]"


def key_columns(comparison: Comparison) -> list[Column]:
    """Return the columns that name the cells."""
    frame = comparison.frames[comparison.contenders[0]]
    return [
        Column(HEADS.get(name, clean(name).upper()), [clean(value) for value in frame[name]])
        for name in comparison.key_columns
    ]


def _values(comparison: Comparison, contender: str, column: str, head: str) -> Column:
    frame = comparison.frames[contender]
    # A number that others of its sessions gave stays a number; the note says that QEMU died in some.
    cells = [
        "crashed" if crashed and math.isnan(value) else comparison.metric.format(value)
        for value, crashed in zip(frame[column], frame[f"crashed_{column}"], strict=True)
    ]
    return Column(clean(head), cells)


def _changes(frame: pd.DataFrame) -> Column:
    return Column("CHANGE", [percent(value) for value in frame["change"]], left=True)


def _intervals(frame: pd.DataFrame, head: str) -> Column:
    bounds = zip(frame["ci_low"], frame["ci_high"], strict=True)
    return Column(head, [interval(low, high) for low, high in bounds], left=True)


def level(comparison: Comparison) -> str:
    """Return the level of the intervals: ``95%``."""
    return f"{(1 - comparison.alpha) * 100:g}%"


def _commit_columns(comparison: Comparison, *, ci: bool) -> list[Column]:
    first = comparison.contenders[0]
    columns = [*key_columns(comparison), _values(comparison, first, "baseline", comparison.baseline)]
    for name in comparison.contenders:
        frame = comparison.frames[name]
        columns += [_values(comparison, name, "contender", name), _changes(frame)]
        if ci and comparison.no_verdict is None:
            columns.append(_intervals(frame, f"{level(comparison)} CI"))
    return columns


def _commit(comparison: Comparison) -> str:
    return _lines(layout(_commit_columns(comparison, ci=False)))


def _commit_with_intervals(comparison: Comparison) -> str:
    how = comparison.no_verdict
    if how is None:
        counts = pd.concat([frame["n_blocks"] for frame in comparison.frames.values()])
        complete = counts[counts > 0]
        few, many = (complete.min(), complete.max()) if len(complete) else (0, 0)
        sessions = f"{many}" if few == many else f"{few} to {many}"
        how = f"{sessions} sessions of each build, interleaved; {level(comparison)} Hodges-Lehmann intervals"
    else:
        how = f"Estimates only: {how}"
    footer = [
        line
        for text in (how, *comparison.footer)
        for line in textwrap.wrap(clean(text), _COMMIT_WIDTH, break_long_words=False, break_on_hyphens=False)
    ]
    return _lines([*layout(_commit_columns(comparison, ci=True)), "", *footer])


def _lines(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"


def shown_p(value: float) -> str:
    """Return a p value as people read it; ``-`` when there is none."""
    if math.isnan(value):
        return _NOTHING
    return f"<{_SMALLEST_P}" if value < _SMALLEST_P else f"{value:.3f}"


def _crashes(comparison: Comparison, contender: str, row: dict[str, Any]) -> list[str]:
    sides = (("crashed_baseline", comparison.baseline), ("crashed_contender", contender))
    return [f"{name} crashed {row[column]}x" for column, name in sides if row.get(column)]


def _note(row: dict[str, Any], crashes: list[str]) -> str:
    reason = row.get("reason")
    notes = [
        *crashes,
        "small" if row["small"] else "",
        "device-bound" if row.get("device_bound") else "",
        str(reason).split(":")[0] if isinstance(reason, str) else "",
    ]
    return ", ".join(note for note in notes if note)


def full_columns(comparison: Comparison, contender: str) -> list[Column]:
    """Return the columns of the text and Markdown tables, the pooled row last where there are verdicts."""
    frame, pooled = comparison.frames[contender], comparison.pooled(contender)
    keys = key_columns(comparison)
    values = [
        _values(comparison, contender, "baseline", comparison.baseline),
        _values(comparison, contender, "contender", contender),
    ]
    if comparison.no_verdict is not None:
        counts = zip(frame["n_baseline"], frame["n_contender"], strict=True)
        limited = ["device-bound" if mark else "" for mark in frame["device_bound"]]
        sessions = Column("SESSIONS", [f"{old}+{new}" for old, new in counts])
        note = [Column("NOTE", limited, left=True)] if any(limited) else []
        return [*keys, *values, _changes(frame), sessions, *note]
    rows: list[dict[str, Any]] = [*records(frame), pooled]
    notes = [clean(_note(row, _crashes(comparison, contender, row))) for row in rows]
    for column, text in zip([*keys, *values], ["all", "cells"] + [""] * len([*keys, *values]), strict=False):
        column.cells.append(text)
    return [
        *keys,
        *values,
        Column("CHANGE", [percent(row["change"]) for row in rows], left=True),
        Column(
            f"{level(comparison)} INTERVAL",
            [interval(row["ci_low"], row["ci_high"]) for row in rows],
            left=True,
        ),
        Column("P(ADJ)", [shown_p(row.get("p_adjusted", row["p_value"])) for row in rows]),
        *_floor_column(comparison, frame),
        Column("VERDICT", [_verdict(row["verdict"]) for row in rows], left=True),
        Column("MDE", [percent(row["mde"], sign=False) for row in rows]),
        Column("BLOCKS", [str(row["n_blocks"]) for row in rows]),
        Column("STRAY", [f"{row['stray_baseline']}+{row['stray_contender']}" for row in rows]),
        *([Column("NOTE", notes, left=True)] if any(notes) else []),
    ]


def _floor_column(comparison: Comparison, frame: pd.DataFrame) -> list[Column]:
    """Return what the host cannot resolve, where an A/A run said so; nothing for the pooled row."""
    if not comparison.noise_floor:
        return []
    keys = frame[comparison.key_columns].itertuples(index=False, name=None)
    found = [comparison.noise_floor.get(key, math.inf) for key in keys]
    floor = [percent(value, sign=False) if math.isfinite(value) else _NOTHING for value in found]
    return [Column("A/A", [*floor, ""])]


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a comparison's frame as a dictionary a cell."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _verdict(value: object) -> str:
    return value if isinstance(value, str) else _NOTHING


def table_lines(comparison: Comparison, contender: str) -> list[str]:
    """Return the lines of a contender's table: its head, a row a cell, and the pooled row if any."""
    return layout(full_columns(comparison, contender))


def explanation(comparison: Comparison) -> list[str]:
    """Return what the columns mean, for this table."""
    lines = []
    if comparison.no_verdict is None:
        cells = len(comparison.frames[comparison.contenders[0]])
        names = clean(f"{comparison.baseline}+{'/'.join(comparison.contenders)}")
        change = "Change: Hodges-Lehmann estimate over paired sessions."
        alpha = f"alpha {comparison.alpha * 100:g}%, {cells} cells (Holm)"
        verdict = f"Verdict: margin {comparison.margin * 100:g}%, {alpha}."
        visible = "MDE: the smallest change that would be found 4 times in 5."
        lines = [f"{change} {verdict}", f"{visible} Stray: sessions far from the others, {names}."]
        if any(frame["small"].any() for frame in comparison.frames.values()):
            lines.append("Small: real, but within the margin.")
    if comparison.noise_floor:
        lines.append(
            "A/A: the noise floor, what the same build against itself could not exclude on this host."
        )
    bound = comparison.device_bound()
    if bound:
        lines.append(
            "Device-bound, cannot show a difference in QEMU: "
            + ", ".join(clean(cell) for cell in bound)
            + "."
        )
    return lines


def _text(comparison: Comparison) -> str:
    lines: list[str] = []
    for contender in comparison.contenders:
        title = f"{clean(contender)} against {clean(comparison.baseline)}: {comparison.metric.heading}"
        lines += [title, "", *table_lines(comparison, contender), ""]
    lines += [f"warning: {clean(warning)}" for warning in shortened(comparison.warnings)]
    lines += [*explanation(comparison), *(clean(line) for line in comparison.footer)]
    return _lines([*lines]).rstrip("\n") + "\n"


def _markdown(comparison: Comparison) -> str:
    lines: list[str] = []
    for contender in comparison.contenders:
        title = f"**{contender}** against **{comparison.baseline}**: {comparison.metric.heading}"
        lines += markdown_table(title, full_columns(comparison, contender))
    lines += markdown_remarks(shortened(comparison.warnings), (*explanation(comparison), *comparison.footer))
    return _lines(lines).rstrip("\n") + "\n"


def _csv(comparison: Comparison) -> str:
    return csv_text(csv_frame(comparison))


def csv_text(frame: pd.DataFrame) -> str:
    """Return a frame as CSV; a column ``metric`` leads."""
    if "metric" in frame.columns:
        frame = frame[["metric", *(name for name in frame.columns if name != "metric")]]
    return str(frame.to_csv(index=False, lineterminator="\n"))


def csv_frame(comparison: Comparison) -> pd.DataFrame:
    """Return the rows of the CSV, with a column ``variant`` where there are several contenders."""
    frames = []
    for contender, frame in comparison.frames.items():
        part = frame[[*comparison.key_columns, *RESULT_COLUMNS]].copy()
        if len(comparison.contenders) > 1:
            part.insert(0, "variant", contender)
        frames.append(part)
    return pd.concat(frames)


def _json(comparison: Comparison) -> str:
    return json_text(document(comparison))


def json_text(document: dict[str, Any]) -> str:
    """Return a document as JSON; what is not finite is null."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY
    return unicode.json_text(document, options)


def document(comparison: Comparison) -> dict[str, Any]:
    """Return what the JSON format holds."""
    pooled = [{"variant": name, **comparison.pooled(name)} for name in comparison.contenders]
    columns = [*comparison.key_columns, *RESULT_COLUMNS, *EXTRA_COLUMNS, *CRASH_COLUMNS]
    return {
        "format_version": JSON_FORMAT_VERSION,
        "metric": comparison.metric.name,
        "higher_is_better": comparison.metric.higher_is_better,
        "baseline": comparison.baseline,
        "contenders": list(comparison.contenders),
        "factors": list(comparison.key_columns),
        "margin": comparison.margin,
        "alpha": comparison.alpha,
        "no_verdict": comparison.no_verdict,
        "absent": dict(comparison.absent),
        "cells": [
            {"variant": name, **row}
            for name, frame in comparison.frames.items()
            for row in records(frame[columns])
        ],
        "noise_floor": [
            {**dict(zip(comparison.key_columns, key, strict=True)), "resolution": value}
            for key, value in comparison.noise_floor.items()
        ],
        "pooled": pooled[0] if len(pooled) == 1 else pooled,
        "warnings": list(comparison.warnings),
        "footer": list(comparison.footer),
        "environment": comparison.environment,
    }
