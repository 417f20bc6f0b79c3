"""Tables to the byte, and what stands beside them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulation import Protocol, experiments, frame

from harness.adapters.results.imports import NOT_INTERLEAVED, cells_as_found, read_results, together
from harness.analysis.comparison import RESULT_COLUMNS
from harness.analysis.result import Comparison, build
from harness.analysis.tables import TableFormat, percent, render

SEED = Path(__file__).parents[1] / "data" / "seed"


def seed() -> Comparison:
    both = together(read_results(SEED / "old.csv", "OLD"), read_results(SEED / "new.csv", "NEW"))
    return build(
        both.samples,
        baseline="OLD",
        contenders=["NEW"],
        factors=both.factors,
        cells=cells_as_found(both),
        no_verdict=NOT_INTERLEAVED,
    )


def samples(blocks: int = 30) -> pd.DataFrame:
    effects = np.log1p(np.r_[0.04, -0.03, np.zeros(8)])
    return frame(experiments(1, effects, seed=7, protocol=Protocol(blocks=blocks))[0])


def paired(blocks: int = 30, **how: object) -> Comparison:
    return build(samples(blocks), baseline="OLD", contenders=["NEW"], **how)  # type: ignore[arg-type]


def test_the_seeds_table_to_the_byte() -> None:
    assert render(seed(), TableFormat.COMMIT) == (SEED / "table.txt").read_text()


def test_the_seeds_changes_recompute() -> None:
    changes = [line.split()[-1] for line in (SEED / "table.txt").read_text().splitlines()[1:]]
    assert [percent(change) for change in seed().frames["NEW"]["change"]] == changes


@pytest.mark.parametrize(
    ("fraction", "text"),
    [
        (0.0327, "+3.3%"), (-0.0089, "-0.9%"), (0.0, "+0.0%"), (-0.0, "+0.0%"), (-0.0001, "+0.0%"),
        (-0.0006, "-0.1%"), (1.5, "+150.0%"), (float("nan"), "-"),
    ],
)  # fmt: skip
def test_percent(fraction: float, text: str) -> None:
    assert percent(fraction) == text


@given(st.floats(-0.99, 10))
def test_percent_rounds_and_never_prints_a_negative_zero(fraction: float) -> None:
    text = percent(fraction)
    assert text != "-0.0%"
    assert abs(float(text.rstrip("%")) - fraction * 100) <= 0.05 + 1e-9
    assert text[0] in "+-"


def test_commit_has_no_trailing_blanks_and_one_header() -> None:
    for text in (render(seed(), "commit"), render(paired(), "commit", ci=True)):
        assert all(line == line.rstrip() for line in text.splitlines())
        assert text.startswith("      RW BLKSIZE IODEPTH")
        assert text.endswith("\n")
        assert not text.endswith("\n\n")


def test_the_footer_of_a_run_without_a_whole_block() -> None:
    one_each = samples(2)
    one_each = one_each[(one_each["block"] == 0) == (one_each["variant"] == "OLD")]
    text = render(build(one_each, baseline="OLD", contenders=["NEW"]), TableFormat.COMMIT, ci=True)
    assert "\n0 sessions of each build, interleaved" in text


def test_commit_with_intervals_has_a_footer_for_a_commit_message() -> None:
    footer = (
        "Measured under TCG: emulated numbers compare builds only roughly, and nothing under 10 % is seen."
    )
    text = render(paired(footer=[footer]), "commit", ci=True)
    table, rest = text.split("\n\n")
    assert table.splitlines()[0].endswith("OLD    NEW CHANGE 95% CI")
    assert "%, +" in table.splitlines()[1]
    lines = rest.splitlines()
    assert lines[0] == "30 sessions of each build, interleaved; 95% Hodges-Lehmann intervals"
    assert " ".join(lines[1:]) == footer
    assert max(map(len, lines)) <= 72


def test_further_factors_get_a_column_each_before_the_baseline() -> None:
    kinds = [("native", 0), ("native", 1), ("io_uring", 0), ("io_uring", 1)]
    base = samples(10)
    parts = [
        base.assign(aio=aio, iothreads=threads, block=base["block"] + 10 * number)
        for number, (aio, threads) in enumerate(kinds)
    ]
    text = render(build(pd.concat(parts), baseline="OLD", contenders=["NEW"]), "commit")
    heads = text.splitlines()[0].split()
    assert heads == ["RW", "BLKSIZE", "IODEPTH", "AIO", "IOTHREADS", "OLD", "NEW", "CHANGE"]
    assert text.splitlines()[1].split()[:5] == ["randread", "4k", "1", "io_uring", "0"]
    assert len(text.splitlines()) == 41


def test_more_variants_get_a_column_and_a_change_each() -> None:
    base = samples(10)
    new = base[base["variant"] == "NEW"]
    many = pd.concat(
        [
            base[base["variant"] == "OLD"].assign(variant="master"),
            new.assign(variant="tune8"),
            new.assign(variant="tune16", iops=new["iops"] * 1.1),
        ]
    )
    comparison = build(many, baseline="master", contenders=["tune8", "tune16"])
    lines = render(comparison, "commit").splitlines()
    assert lines[0] == "      RW BLKSIZE IODEPTH master  tune8 CHANGE tune16 CHANGE"
    assert len(lines[1].split()) == 8
    rows = list(csv.DictReader(io.StringIO(render(comparison, "csv"))))
    assert [row["variant"] for row in rows] == ["tune8"] * 10 + ["tune16"] * 10
    data = json.loads(render(comparison, "json"))
    assert [row["variant"] for row in data["pooled"]] == ["tune8", "tune16"]
    text = render(comparison, "text")
    assert "tune8 against master" in text
    assert "tune16 against master" in text


def test_a_cell_of_one_contender_only_is_a_row_of_every_table() -> None:
    base = samples(10)
    new = base[base["variant"] == "NEW"]
    short = new[~((new["bs"] == "4k") & (new["iodepth"] == 8))]
    many = pd.concat([base[base["variant"] == "OLD"], new.assign(variant="a"), short.assign(variant="b")])
    many = many[~((many["variant"] == "OLD") & (many["bs"] == "4k") & (many["iodepth"] == 8))]
    comparison = build(many, baseline="OLD", contenders=["b", "a"])
    line = render(comparison, "commit").splitlines()[2].split()
    assert line[:6] == ["randread", "4k", "8", "-", "-", "-"]
    assert line[7] == "-"
    assert int(line[6]) > 0
    assert "a: not measured on OLD: randread-4k-8" in comparison.warnings


def test_a_missing_cell_is_shown_as_missing_and_named() -> None:
    base = samples(10)
    gone = (base["variant"] == "NEW") & (base["bs"] == "4k") & (base["iodepth"] == 1)
    comparison = build(base[~gone], baseline="OLD", contenders=["NEW"])
    assert render(comparison, "commit").splitlines()[1].split()[4:] == ["-", "-"]
    assert "warning: not measured on NEW: randread-4k-1" in render(comparison, "text")


def test_the_text_table_says_all() -> None:
    text = render(paired(warnings=["made under TCG"], footer=["stopped at 30 blocks"]), "text")
    lines = text.splitlines()
    assert lines[0] == "NEW against OLD: IOPS (more is better)"
    heads = "RW BLKSIZE IODEPTH OLD NEW CHANGE 95% INTERVAL P(ADJ) VERDICT MDE BLOCKS STRAY"
    assert " ".join(lines[2].split()) == heads
    assert "faster" in lines[3]
    assert "slower" in lines[4]
    assert lines[13].split()[:2] == ["all", "cells"]
    assert "warning: made under TCG" in lines
    assert "stopped at 30 blocks" in lines
    assert "margin 2%, alpha 5%, 10 cells (Holm)" in text
    assert max(map(len, lines)) <= 120
    assert text.isascii()


def test_text_says_how_many_blocks_are_needed() -> None:
    text = render(paired(4), "text")
    assert "too few blocks: 4, and 9 are needed" in text
    assert "faster" not in text


def test_text_without_verdicts_says_why() -> None:
    text = render(seed(), "text")
    assert "VERDICT" not in text
    assert f"no verdict: {NOT_INTERLEAVED}" in text
    assert "Device-bound, cannot show a difference in QEMU: randread-128k-1, " in text


def test_csv_is_the_contract() -> None:
    rows = list(csv.reader(io.StringIO(render(paired(), "csv"))))
    assert rows[0] == ["rw", "bs", "iodepth", *RESULT_COLUMNS]
    table = paired().frames["NEW"]
    assert float(rows[1][5]) == table["change"][0], "unrounded"


def test_json_is_an_object_with_the_rows() -> None:
    data = json.loads(render(paired(environment={"host": "lab", "path": Path("/x")}), "json"))
    assert {"cells", "pooled", "warnings", "environment", "format_version"} <= set(data)
    assert data["environment"] == {"host": "lab", "path": "/x"}
    table = paired().frames["NEW"]
    assert [row["change"] for row in data["cells"]] == table["change"].tolist()
    assert set(RESULT_COLUMNS) < set(data["cells"][0])
    assert data["pooled"]["n_blocks"] == 30


def test_json_has_null_for_what_cannot_be_computed() -> None:
    cell = json.loads(render(paired(2), "json"))["cells"][0]
    assert (cell["ci_low"], cell["ci_high"], cell["mde"]) == (None, None, None)
    assert json.loads(render(seed(), "json"))["cells"][0]["verdict"] is None


def test_markdown_is_a_table() -> None:
    lines = render(paired(), "markdown").splitlines()
    assert lines[2].startswith("| RW | BLKSIZE | IODEPTH | OLD | NEW | CHANGE |")
    assert set(lines[3]) <= set("|:-")
    assert {line.count("|") - line.count("\\|") for line in lines[2:15]} == {13}


def test_names_from_outside_do_no_harm() -> None:
    wild = samples(10).replace({"variant": {"NEW": "a|b\x1b[31m\n", "OLD": "`old`"}})
    comparison = build(wild, baseline="`old`", contenders=["a|b\x1b[31m\n"])
    for fmt in ("text", "commit", "markdown"):
        assert "\x1b" not in render(comparison, fmt)
    assert "a\\|b?\\[31m?" in render(comparison, "markdown")
    assert json.loads(render(comparison, "json"))["contenders"] == ["a|b\x1b[31m\n"]


def test_verdicts_for_exit_codes() -> None:
    assert paired().verdicts() >= {"faster", "slower"}
    assert seed().verdicts() == {None}
