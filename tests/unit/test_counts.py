"""A run of counts, read again: tables, verdicts, explanations, and what is missing or damaged."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING

import counted_run
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.adapters.guestless.store import CountDirectory
from harness.adapters.results.run_layout import holds_counts
from harness.analysis.costs import Count, cost_of, judge
from harness.core.counting.planning import (
    count_plan_from_json,
    count_plan_to_json,
    make_count_plan,
    request_points,
)
from harness.core.errors import InputError
from harness.core.model import Cell
from harness.shell.cli.main import run_cli
from harness.shell.costing import compare_counts

if TYPE_CHECKING:
    from pathlib import Path

    from harness.core.counting.planning import PlannedCount

COST = {"OLD": 7000, "NEW": 22000}


def steady(planned: PlannedCount) -> int:
    """Return counts as exact as they come: a start that costs a lot, then each request the same."""
    return 400_000 + planned.requests * COST[planned.variant]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return counted_run.make(tmp_path / "run", steady)


def harness(*arguments: str) -> int:
    return run_cli(list(arguments))


def test_the_commit_table_is_the_seeds(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert harness("compare", str(run), "--format", "commit") == 0
    out, err = capsys.readouterr()
    assert out == (
        "      RW BLKSIZE IODEPTH  OLD   NEW CHANGE\n"
        "randread      4k       1 7000 22000 +214.3%\n"
        "randread      4k      64 7000 22000 +214.3%\n"
    )
    assert "callgrind" in err, "even where the table has no room for it, the ruler is named"


def test_the_text_says_which_ruler_it_is(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert harness("compare", str(run)) == 0
    out = capsys.readouterr().out
    assert "NEW against OLD: instructions a request (fewer is better)" in out
    assert out.splitlines()[3].split()[-3:] == ["+214.3%", "0.00%", "costlier"]
    assert "Ruler: instructions in user mode, counted by callgrind (valgrind-3.19.0)" in out
    assert "margin 0.5%" in out


def test_data_for_programs(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert harness("compare", str(run), "--format", "csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["iodepth"] for row in rows] == ["1", "64"]
    assert float(rows[0]["contender"]) == 22000
    assert {row["verdict"] for row in rows} == {"costlier"}

    assert harness("compare", str(run), "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["ruler"], document["metric"]) == ("instructions", "instructions_per_request")
    assert document["cells"][0]["costs"]["contender"]["threads"] == {"IO io0": 22000, "main": 0}

    assert harness("compare", str(run), "--format", "markdown") == 0
    assert "| randread | 4k | 1 | 7000 | 22000 | +214.3% | 0.00% | costlier |" in capsys.readouterr().out


def test_a_margin_and_exit_codes(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert harness("compare", str(run), "--fail-on", "slower") == 3
    assert harness("compare", str(run), "--margin", "99%", "--fail-on", "slower") == 3
    alike = {"OLD": 7000, "NEW": 7014}
    same = counted_run.make(run.parent / "same", lambda p: p.requests * alike[p.variant])
    capsys.readouterr()
    assert harness("compare", str(same), "--fail-on", "slower", "--fail-on", "unclear") == 0
    assert "same" in capsys.readouterr().out


def test_where_the_instructions_went(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert harness("compare", str(run), "--explain") == 0
    lines = capsys.readouterr().out.splitlines()
    first = next(line for line in lines if line.endswith("virtqueue_pop") and "memset" in line)
    assert first.split() == ["0", "11000", "+11000", "memset", "libc", "virtqueue_pop"]
    assert any("`rep stos`" in line for line in lines), "what a count of memset means is said"
    assert any(line.split()[-1:] == ["string/memset.S"] for line in lines)
    assert not any("0x0000" in line for line in lines), "addresses of two builds mean nothing to each other"


def test_an_explanation_fails_as_the_table_does(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert harness("compare", str(run), "--explain", "--fail-on", "slower") == 3
    assert "instructions a request, by function" in capsys.readouterr().out
    assert harness("compare", str(run), "--explain", "--json") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "--explain is text: leave --format json out" in captured.err


def test_stripped_builds_are_told_what_would_name_their_functions() -> None:
    from harness.analysis.explanation import Explanation, explain, spending
    from harness.core.counting.callgrind import parse_callgrind

    few = parse_callgrind(counted_run.output(3, "OLD", 10_000))
    many = parse_callgrind(counted_run.output(3, "OLD", 30_000).replace("0 1000", "0 9000", 1))
    spent = spending([few], [many], 10)
    assert spent.functions["(no symbol)", "qemu-system-x86_64"] == 800
    text = explain(Explanation("t", spent, spent, ("OLD", "NEW"), debug_packages=["OLD: install this"]))
    assert "Without a name:" in text
    assert "OLD: install this" in text


@pytest.mark.parametrize("verb", [["show"], ["show", "--json"]])
def test_show(run: Path, verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert harness(*verb, str(run)) == 0
    out = capsys.readouterr().out
    assert "valgrind-3.19.0" in out
    assert "IO io0" in out
    if verb[1:]:
        assert json.loads(out)["accepted"] == 28
    else:
        assert "28 of 28 counts" in out


@pytest.mark.parametrize("option", [["--alpha", "1%"], ["--metric", "bw"], ["--ci"], ["{run}"]])
def test_options_of_the_other_ruler_are_refused(
    run: Path, option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert harness("compare", str(run), *(part.format(run=run) for part in option)) == 2
    assert "compared by itself" in capsys.readouterr().err


def test_explain_is_for_counts_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert harness("compare", str(tmp_path), "--explain") == 2
    assert "--explain goes with a run of counts" in capsys.readouterr().err


def test_run_refuses_what_counts_do_not_have(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiment = tmp_path / "e.yml"
    experiment.write_text(counted_run.EXPERIMENT)
    assert harness("run", str(experiment), "--blocks", "3", "--accel", "tcg") == 2
    assert "--blocks, --accel: counts of instructions" in capsys.readouterr().err
    assert harness("plan", str(experiment), "--seed", "3") == 2
    assert harness("plan", str(experiment), "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert len(plan["sessions"]) == len(plan["iterations"]) == 28
    assert plan["expected"]["wall_seconds"] > 0


# -- what is not called --------------------------------------------------------------------------------------


def test_repeats_that_differ_are_not_called(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def noisy(planned: PlannedCount) -> int:
        return steady(planned) + (planned.repeat * 60_000 if planned.requests > 900 else 0)

    run = counted_run.make(tmp_path / "run", noisy)
    assert harness("compare", str(run), "--fail-on", "unclear") == 4
    out = capsys.readouterr().out
    assert out.count("unclear") == 2
    assert "repeats differ" in out


def test_costs_that_grow_faster_than_requests_are_not_called(tmp_path: Path) -> None:
    run = counted_run.make(tmp_path / "run", lambda p: p.requests * p.requests * 10)
    assert {cell.reason for cell in compare_counts(run).contenders["NEW"]} == {"not linear"}


def test_one_repeat_has_no_resolution(tmp_path: Path) -> None:
    text = counted_run.EXPERIMENT + "instructions: {repeats: 1}\n"
    run = counted_run.make(tmp_path / "run", steady, text)
    cells = compare_counts(run).contenders["NEW"]
    assert {cell.reason for cell in cells} == {"one repeat: no resolution"}
    assert {round(cell.change, 3) for cell in cells} == {2.143}, "the change is shown all the same"


def test_failed_counts_are_warned_of_and_leave_their_cells_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(planned: PlannedCount) -> int:
        return -1 if planned.cell.iodepth == 64 and planned.variant == "NEW" else steady(planned)

    run = counted_run.make(tmp_path / "run", failing)
    assert harness("compare", str(run)) == 0
    out = capsys.readouterr().out
    assert "QEMU ended early" in out
    assert out.splitlines()[4].split()[-3:] == ["unclear", "not", "counted"]


def test_nothing_to_compare_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = counted_run.make(tmp_path / "run", lambda p: steady(p) if p.variant == "OLD" else None)
    assert harness("compare", str(run)) == 2
    assert f"harness run --resume {run}" in capsys.readouterr().err


def test_damage_is_named(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    victim = run / "counts" / "000-OLD" / "callgrind.out-03"
    victim.write_text(victim.read_text().replace("virtqueue_pop", "virtqueue_pup"))
    assert harness("compare", str(run)) == 2
    err = capsys.readouterr().err
    assert str(victim) in err
    assert "is not what callgrind wrote" in err


def test_a_run_of_fio_is_no_run_of_counts(tmp_path: Path) -> None:
    assert not holds_counts(tmp_path)
    (tmp_path / "run.json").write_text('{"format_version": 1}')
    assert not holds_counts(tmp_path)
    with pytest.raises(InputError, match="damaged"):
        _ = CountDirectory.open(tmp_path).record


# -- arithmetic ----------------------------------------------------------------------------------------------


@given(
    st.integers(1, 10**6),
    st.integers(0, 10**9),
    st.lists(st.integers(0, 100), min_size=2, max_size=5),
)
def test_start_up_cancels_and_the_resolution_covers_the_noise(
    cost: int, start: int, noise: list[int]
) -> None:
    counts = [
        Count("OLD", ("x",), requests, repeat, start + requests * cost + extra)
        for repeat, extra in enumerate(noise)
        for requests in (200, 1000)
    ]
    found = cost_of(counts)
    assert found.repeats == len(noise)
    assert abs(found.per_request - cost) <= found.resolution * found.per_request + 1e-6


@given(st.floats(-0.9, 5), st.floats(0, 0.1), st.floats(0.0001, 0.1))
def test_a_verdict_is_never_within_the_resolution_of_the_margin(
    change: float, resolution: float, margin: float
) -> None:
    from harness.analysis.costs import Cost

    old, new = Cost(1000, resolution, 0, 3), Cost(1000 * (1 + change), 0, 0, 3)
    cell = judge(("x",), old, new, margin)
    allowed = {
        "costlier": cell.change > margin,
        "cheaper": cell.change < -margin,
        "same": abs(cell.change) <= margin,
        "unclear": True,
    }
    assert allowed[cell.verdict]
    assert (cell.verdict == "unclear") is (cell.reason is not None)


@given(depth=st.integers(1, 2000), requests=st.integers(1, 100_000), sequential=st.booleans())
def test_counts_are_of_whole_batches_at_even_distances(depth: int, requests: int, sequential: bool) -> None:  # noqa: FBT001
    few, middle, many = request_points(depth, requests, sequential=sequential)
    assert few % depth == middle % depth == many % depth == 0
    assert middle - few == many - middle
    assert many - few >= requests
    assert few >= 200


def test_a_plan_comes_back_from_json() -> None:
    cells = [Cell("read", "4k", 8, guest=(("aio", "native"),)), Cell("read", "64k", 1)]
    plan = make_count_plan(variants=["OLD", "NEW"], cells=cells, requests=100, repeats=2)
    assert count_plan_from_json(json.loads(json.dumps(count_plan_to_json(plan)))) == plan
    assert len(plan.counts) == 2 * 2 * 5
    with pytest.raises(ValueError, match="not a plan: at variants"):
        count_plan_from_json({"sessions": []})
