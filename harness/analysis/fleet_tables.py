"""A fleet's comparison as text: the pooled answer, and what each host says of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.analysis.fleet import FLEET_COLUMNS
from harness.analysis.layout import Column, clean, layout, markdown_remarks, markdown_table
from harness.analysis.tables import (
    TableFormat,
    csv_frame,
    csv_text,
    document,
    interval,
    json_text,
    key_columns,
    level,
    percent,
    render,
    shown_p,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.analysis.fleet import FleetComparison

MOST_COLUMNS = 8
"""More hosts have no column each: the lowest and the highest change stand there, and a line a host below."""
ALL_HOSTS = "all"
"""In the CSV's first column: the pooled rows."""


def render_fleet(fleets: Sequence[FleetComparison], fmt: TableFormat | str = TableFormat.TEXT) -> str:
    """Write the comparisons of a fleet, one a metric.

    Args:
        fleets: at least one; all of the same hosts.
        fmt: how. ``commit`` is the pooled table as one run has it, ``csv`` has a leading column ``host``,
            ``json`` has ``hosts`` beside ``cells``.

    Returns:
        Text that ends with a newline.
    """
    fmt = TableFormat(fmt)
    several = len(fleets) > 1
    if fmt is TableFormat.CSV:
        return csv_text(pd.concat([_csv(one, several=several) for one in fleets]))
    if fmt is TableFormat.JSON:
        first, *others = [_document(one) for one in fleets]
        return json_text(first | ({"further": others} if others else {}))
    if fmt is TableFormat.COMMIT:
        tables = [render(one.pooled, fmt) for one in fleets]
        heads = [f"{one.pooled.metric.heading}:\n\n" if several else "" for one in fleets]
        return "\n".join(head + table for head, table in zip(heads, tables, strict=True))
    write = _markdown if fmt is TableFormat.MARKDOWN else _text
    return "\n".join(write(one) for one in fleets)


def _text(fleet: FleetComparison) -> str:
    lines: list[str] = []
    for contender in fleet.pooled.contenders:
        lines += [_title(fleet, contender), "", *layout(_cell_columns(fleet, contender)), ""]
        lines += [*layout(_host_columns(fleet, contender)), ""]
    lines += [f"warning: {clean(warning)}" for warning in fleet.pooled.warnings]
    lines += [*_explanation(fleet), *(clean(line) for line in fleet.pooled.footer)]
    return "\n".join(lines) + "\n"


def _markdown(fleet: FleetComparison) -> str:
    lines: list[str] = []
    for contender in fleet.pooled.contenders:
        lines += markdown_table(_title(fleet, contender, mark="**"), _cell_columns(fleet, contender))
        lines += markdown_table("Hosts, all cells", _host_columns(fleet, contender))
    lines += markdown_remarks(fleet.pooled.warnings, (*_explanation(fleet), *fleet.pooled.footer))
    return "\n".join(lines) + "\n"


def _title(fleet: FleetComparison, contender: str, mark: str = "") -> str:
    names = (f"{mark}{clean(name)}{mark}" for name in (contender, fleet.pooled.baseline))
    return f"{' against '.join(names)} on {len(fleet.names)} hosts: {fleet.pooled.metric.heading}"


def _cell_columns(fleet: FleetComparison, contender: str) -> list[Column]:
    """Return the columns of the table of cells: a change a host, then all hosts together."""
    pooled = fleet.pooled
    frame = pooled.frames[contender]
    rows: list[dict[str, Any]] = [*_records(frame), pooled.pooled(contender)]
    keys = key_columns(pooled)
    for column, text in zip(keys, ["all", "cells"] + [""] * len(keys), strict=False):
        column.cells.append(text)
    changes = {name: _changes(fleet, name, contender) for name in fleet.names}
    notes = [clean(_note(row)) for row in rows]
    return [
        *keys,
        *(_each_host(changes, rows) if len(changes) <= MOST_COLUMNS else _extremes(changes)),
        Column("CHANGE", [percent(row["change"]) for row in rows], left=True),
        Column(
            f"{level(pooled)} INTERVAL", [interval(row["ci_low"], row["ci_high"]) for row in rows], left=True
        ),
        Column("ACROSS HOSTS", [interval(row["across_low"], row["across_high"]) for row in rows], left=True),
        Column("P(ADJ)", [shown_p(row.get("p_adjusted", row["p_value"])) for row in rows]),
        Column("VERDICT", [row["verdict"] or "-" for row in rows], left=True),
        Column("MDE", [percent(row["mde"], sign=False) for row in rows]),
        Column("HOSTS", [str(row["n_hosts"]) for row in rows]),
        *([Column("NOTE", notes, left=True)] if any(notes) else []),
    ]


def _changes(fleet: FleetComparison, host: str, contender: str) -> list[float]:
    """Return a host's changes, the one of all cells last."""
    own = fleet.hosts[host]
    return [*own.frames[contender]["change"].astype(float), float(own.pooled(contender)["change"])]


def _each_host(changes: Mapping[str, list[float]], rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    return [
        Column(
            clean(name),
            [
                percent(value) + ("!" if name in row["disagreeing"] else "")
                for value, row in zip(values, rows, strict=True)
            ],
        )
        for name, values in changes.items()
    ]


def _extremes(changes: Mapping[str, list[float]]) -> list[Column]:
    columns = [Column("LOWEST", [], left=True), Column("HIGHEST", [], left=True)]
    for values in zip(*changes.values(), strict=True):
        known = sorted((value, name) for value, name in zip(values, changes, strict=True) if value == value)  # noqa: PLR0124 - not NaN
        for column, entry in zip(columns, (known[:1], known[-1:]), strict=True):
            column.cells.append(f"{percent(entry[0][0])} {clean(entry[0][1])}" if entry else "-")
    return columns


def _note(row: Mapping[str, Any]) -> str:
    odd = ", ".join(row["disagreeing"][:MOST_COLUMNS])
    notes = [
        f"hosts disagree: {odd}" if odd else "",
        "small" if row["small"] else "",
        "device-bound" if row.get("device_bound") else "",
        row["reason"].split(":")[0] if isinstance(row["reason"], str) and not odd else "",
    ]
    return "; ".join(note for note in notes if note)


def _host_columns(fleet: FleetComparison, contender: str) -> list[Column]:
    """Return a line a host: what it says of all cells, and what it is."""
    rows = [(name, one, one.pooled(contender)) for name, one in fleet.hosts.items()]
    facts = [fleet.facts.get(name, {}) for name, _one, _row in rows]
    return [
        Column("HOST", [clean(name) for name, _one, _row in rows], left=True),
        Column("CHANGE", [percent(row["change"]) for _name, _one, row in rows], left=True),
        Column(
            f"{level(fleet.pooled)} INTERVAL",
            [interval(row["ci_low"], row["ci_high"]) for _name, _one, row in rows],
            left=True,
        ),
        Column("VERDICT", [row["verdict"] or "-" for _name, _one, row in rows], left=True),
        Column("MDE", [percent(row["mde"], sign=False) for _name, _one, row in rows]),
        Column("BLOCKS", [str(row["n_blocks"]) for _name, _one, row in rows]),
        Column("STRAY", [f"{row['stray_baseline']}+{row['stray_contender']}" for _name, _one, row in rows]),
        Column("CPUS", [str(fact.get("cpus", "-")) for fact in facts]),
        Column("KERNEL", [clean(fact.get("kernel", "-")) for fact in facts], left=True),
        Column("CPU", [clean(fact.get("cpu", "-")) for fact in facts], left=True),
    ]


def _explanation(fleet: FleetComparison) -> list[str]:
    pooled = fleet.pooled
    frame = pooled.frames[pooled.contenders[0]]
    rule = f"margin {pooled.margin * 100:g}%, alpha {pooled.alpha * 100:g}%, {len(frame)} cells (Holm)"
    return [
        "Change: the mean of the hosts' own Hodges-Lehmann estimates, each host counting the same.",
        f"Verdict: for these hosts; {rule}. Across hosts: the interval for all hosts such as these.",
        *(["!: disagrees with the other hosts."] if any(frame["disagreeing"].map(len)) else []),
    ]


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _csv(fleet: FleetComparison, *, several: bool) -> pd.DataFrame:
    parts = [(ALL_HOSTS, fleet.pooled), *fleet.hosts.items()]
    frame = pd.concat([csv_frame(one).assign(host=name) for name, one in parts])
    frame = frame[["host", *(name for name in frame.columns if name != "host")]]
    return frame.assign(metric=fleet.pooled.metric.name) if several else frame


def _document(fleet: FleetComparison) -> dict[str, Any]:
    pooled = document(fleet.pooled)
    frames = pd.concat([frame[list(FLEET_COLUMNS)] for frame in fleet.pooled.frames.values()])
    cells = [cell | own for cell, own in zip(pooled["cells"], _records(frames), strict=True)]
    hosts = {
        name: document(replace(one, environment={})) | {"facts": dict(fleet.facts.get(name, {}))}
        for name, one in fleet.hosts.items()
    }
    return pooled | {"cells": cells, "hosts": hosts, "left_out": dict(fleet.left_out)}
