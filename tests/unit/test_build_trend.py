"""Many builds as a trend: steps are where a build differs from the one before it, not from the baseline."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING

import counted_run
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_comparing import measure, speeds
from test_result_schema import errors

from fakes import new_run
from harness.analysis.build_trend import trend_of_costs
from harness.analysis.costs import Cost
from harness.shell.cli.main import run_cli

if TYPE_CHECKING:
    from pathlib import Path

    from harness.core.counting.planning import PlannedCount

BUILDS = ("5.2", "7.2", "10.0", "10.2")
COST = {"5.2": 7000, "7.2": 7010, "10.0": 22000, "10.2": 7700}
EXPERIMENT = """\
name: counted
workload: instructions
builds: {"5.2": {path: /a}, "7.2": {path: /b}, "10.0": {path: /c}, "10.2": {path: /d}}
baseline: "7.2"
disk: {queue_size: 256}
matrix: {rw: randread, bs: 4k, iodepth: [1, 64]}
"""


def steady(planned: PlannedCount) -> int:
    return 400_000 + planned.requests * COST[planned.variant]


@pytest.fixture
def counts(tmp_path: Path) -> Path:
    return counted_run.make(tmp_path / "run", steady, EXPERIMENT)


@pytest.fixture
def matrix(tmp_path: Path) -> Path:
    run = new_run(tmp_path / "matrix", blocks=10, variants=BUILDS)
    measure(run, speeds({"5.2": 1000.0, "7.2": 1000.0, "10.0": 700.0, "10.2": 990.0}))
    return run.path


def compare(*arguments: object) -> int:
    return run_cli(["compare", *map(str, arguments)])


def test_each_build_is_held_against_the_baseline_and_the_one_before(
    counts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(counts, "--trend") == 0
    out = capsys.readouterr().out
    assert out.startswith(
        "randread 4k, iodepth 1: instructions a request (less is better)\n"
        "\n"
        "BUILD INSTRUCTIONS A REQUEST AGAINST 7.2 AGAINST PREVIOUS RESOLUTION STEP\n"
        "5.2                     7000       -0.1%                -          - -\n"
        "7.2                     7010           -            +0.1%      0.00% same\n"
        "10.0                   22000     +213.8%          +213.8%      0.00% costlier\n"
        "10.2                    7700       +9.8%           -65.0%      0.00% cheaper\n"
    )
    assert (
        "Steps:\n"
        "  7.2 -> 10.0: costlier in all cells (+213.8%)\n"
        "  10.0 -> 10.2: cheaper in all cells (-65.0%)\n"
    ) in out
    assert "Ruler: instructions in user mode" in out


def test_in_a_commit_message_each_change_is_against_the_build_left_of_it(
    counts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(counts, "--trend", "--format", "commit") == 0
    assert capsys.readouterr().out == (
        "      RW BLKSIZE IODEPTH  5.2  7.2 CHANGE  10.0 CHANGE  10.2 CHANGE\n"
        "randread      4k       1 7000 7010 +0.1%  22000 +213.8% 7700 -65.0%\n"
        "randread      4k      64 7000 7010 +0.1%  22000 +213.8% 7700 -65.0%\n"
    )


def test_a_trend_for_programs_and_pages(counts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(counts, "--trend", "--format", "json") == 0
    document = json.loads(capsys.readouterr().out)
    assert errors(document, "TrendResult") == []
    assert document["trend"] == list(BUILDS)
    assert [step["build"] for step in document["steps"]] == ["10.0", "10.2"]
    points = document["cells"][1]["points"]
    assert [point["verdict"] for point in points] == [None, "same", "costlier", "cheaper"]
    assert points[3]["since_previous"] == pytest.approx(-0.65)
    assert compare(counts, "--trend", "--format", "csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["build"] for row in rows] == list(BUILDS) * 2
    assert compare(counts, "--trend", "--format", "markdown") == 0
    markdown = capsys.readouterr().out
    assert "| 10.2 | 7700 | +9.8% | -65.0% | 0.00% | cheaper |" in markdown


def test_builds_that_are_not_called_by_their_versions_have_these_beside_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = EXPERIMENT.replace('"5.2":', "bullseye:")
    run = counted_run.make(
        tmp_path / "run", lambda p: 400_000 + p.requests * 7000, text, {"bullseye": "5.2.0"}
    )
    assert compare(run, "--trend") == 0
    assert "bullseye 5.2.0 " in capsys.readouterr().out


def test_a_trend_of_a_matrix_has_intervals_and_the_tests_verdicts(
    matrix: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(matrix, "--trend", "--format", "json") == 0
    document = json.loads(capsys.readouterr().out)
    assert errors(document, "TrendResult") == []
    for cell in document["cells"]:
        points = cell["points"]
        assert [point["verdict"] for point in points] == [None, "same", "slower", "faster"]
        assert points[2]["low"] <= points[2]["since_previous"] <= points[2]["high"]
        assert points[3]["since_baseline"] == pytest.approx(-0.01, abs=0.001)
        assert points[3]["since_previous"] == pytest.approx(990 / 700 - 1, abs=0.001)


def test_a_step_in_some_cells_names_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def deep(planned: PlannedCount) -> int:
        costly = planned.variant == "10.0" and planned.cell.iodepth == 64
        return 400_000 + planned.requests * (9000 if costly else 7000)

    assert compare(counted_run.make(tmp_path / "run", deep, EXPERIMENT), "--trend") == 0
    out = capsys.readouterr().out
    assert "  7.2 -> 10.0: randread 4k, iodepth 64 costlier (+28.6%)\n" in out
    assert "  10.0 -> 10.2: randread 4k, iodepth 64 cheaper (-22.2%)\n" in out


@pytest.mark.parametrize("kind", ["counts", "matrix"])
def test_fail_on_slower_looks_at_the_steps(kind: str, request: pytest.FixtureRequest) -> None:
    run = request.getfixturevalue(kind)
    assert compare(run, "--trend", "--fail-on", "slower") == 3


@pytest.mark.parametrize("kind", ["counts", "matrix"])
def test_the_report_follows_the_builds(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    run, page = request.getfixturevalue(kind), tmp_path / "report.html"
    assert run_cli(["report", str(run), "-o", str(page)]) == 0
    text = page.read_text()
    assert "Build by build" in text
    if kind == "counts":
        assert "2 steps over 4 builds, 5.2 to 10.2. The largest: 7.2 -&gt; 10.0" in text
    assert "10.0 -&gt; 10.2: " in text


def test_the_plot_is_a_picture_by_itself(
    counts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plot = tmp_path / "trend.svg"
    assert compare(counts, "--trend", "--plot", plot) == 0
    drawn = plot.read_text()
    assert drawn.startswith("<svg")
    assert "var(--" not in drawn, "outside the page nobody knows its colours"
    assert all(f">{said}<" in drawn for said in (*BUILDS, "+213.8%", "-65.0%"))
    capsys.readouterr()


def test_only_steps_are_explained(counts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(counts, "--trend", "--explain", "--fail-on", "slower") == 3
    capsys.readouterr()
    assert compare(counts, "--trend", "--explain") == 0
    out = capsys.readouterr().out
    assert "10.0 against 7.2, rw randread, bs 4k, iodepth 1: instructions a request, by function" in out
    assert "10.2 against 10.0" in out
    assert "7.2 against 5.2" not in out


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--trend", "--contender", "10.2"], "--contender: that goes with no trend"),
        (["--trend", "--plot", "x.png"], "x.png: is not named as an SVG"),
        (["--plot", "x.svg"], "--plot draws a trend: add --trend"),
        (["--trend", "--metric", "iops,bw"], "--metric"),
        (["--trend", "--baseline", "9.9"], "has no variant 9.9"),
    ],
)
def test_what_goes_with_no_trend_is_refused(
    counts: Path, options: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(counts, *options) == 2
    assert complaint in capsys.readouterr().err


def test_two_builds_are_no_trend(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = counted_run.make(tmp_path / "run", lambda p: p.requests * 7000)
    assert compare(run, "--trend") == 2
    assert "has numbers of OLD and NEW only: a trend takes 3 builds" in capsys.readouterr().err


def test_a_build_that_was_not_counted_is_left_out_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = counted_run.make(tmp_path / "run", lambda p: -1 if p.variant == "10.0" else steady(p), EXPERIMENT)
    assert compare(run, "--trend") == 0
    out = capsys.readouterr().out
    assert "warning: 10.0 was not counted" in out
    assert "7.2 -> 10.2: costlier in all cells (+9.8%)" in out


@given(st.lists(st.floats(100, 1e6), min_size=3, max_size=8), st.floats(0, 0.004))
def test_changes_from_build_to_build_multiply_to_the_whole(values: list[float], resolution: float) -> None:
    builds = [str(number) for number in range(len(values))]
    costs: dict[tuple[str, tuple[str | int, ...]], Cost] = {
        (build, (1,)): Cost(value, resolution, 0.0, 3) for build, value in zip(builds, values, strict=True)
    }
    (cell,) = trend_of_costs(costs, builds, [(1,)], baseline="0", margin=0.005)
    product = 1.0
    for point in cell.points[1:]:
        product *= 1 + point.since_previous
        assert product - 1 == pytest.approx(point.since_baseline, rel=1e-6, abs=1e-9)
        assert point.low <= point.since_previous <= point.high
        # A step is one only beyond margin and resolution.
        assert point.is_step == (abs(point.since_previous) - resolution > 0.005)
