"""Which A/A runs may stand beside a run, and that the others are refused before anything is touched."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import counted_run
import pytest
from test_comparing import SAME, a_run

from harness.adapters.host.facts import environment
from harness.adapters.results.store import RunDirectory
from harness.analysis.tables import render
from harness.core.errors import InputError
from harness.shell.cli.main import run_cli
from harness.shell.comparing import compare_run
from harness.shell.judging import Judgement
from resealed import reseal, rewrite

if TYPE_CHECKING:
    from collections.abc import Callable

QUICK = Path(__file__).resolve().parents[2] / "fio" / "quick.yml"


def change_experiment(run: Path, old: str, new: str) -> None:
    path = run / "experiment.yml"
    text = path.read_text()
    assert old in text
    rewrite(run, path.name, text.replace(old, new))


def floor_here(path: Path) -> Path:
    """Return an A/A run of the host that the tests run on."""
    a_run(path, builds=SAME, new=1000.0)
    rewrite(path, "environment.json", environment())
    return path


def other_host(floor: Path) -> None:
    here = environment()
    rewrite(floor, "environment.json", {"host": here["host"] | {"kernel": "5.0"}})


def other_builds(floor: Path) -> None:
    record = RunDirectory.open(floor).record
    record.builds["NEW"]["sha256"] = "6" * 64
    rewrite(floor, "run.json", asdict(record))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (other_host, "is the noise floor of another host: kernel is 5.0 there and "),
        (other_builds, "is no A/A run: its variants are different builds"),
        (
            lambda floor: change_experiment(floor, 'baseline: "OLD"', "baseline: NONE"),
            "experiment.yml: baseline: ",
        ),
        (lambda floor: (floor / "plan.json").write_text("{"), "plan.json: "),
        (lambda floor: (floor / "run.json").unlink(), "is not a run directory (no run.json in it)"),
        (
            lambda floor: change_experiment(floor, "bs: 4k", "bs: 8k"),
            "has no noise floor of randread-4k-1, randread-4k-8",
        ),
    ],
)
def test_a_run_beside_a_floor_that_says_nothing_of_it_does_not_begin(
    spoil: Callable[[Path], object], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    floor, experiment = floor_here(tmp_path / "aa"), tmp_path / "x.yml"
    experiment.write_text(QUICK.read_text().replace("bs: [4k, 128k]", "bs: 4k"))
    spoil(floor)
    asked = ["--noise-floor", str(floor), "--state-dir", str(tmp_path / "state")]
    assert run_cli(["run", str(experiment), *asked, "--run-dir", str(tmp_path / "run")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"error: {floor}")
    assert words in captured.err
    assert "\n  remedy: " in captured.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["aa", "x.yml"]


@pytest.mark.parametrize("kind", ["counts", "rounds"])
@pytest.mark.parametrize(
    "verb", [["compare"], ["report", "-o", "page.html"], ["export", "--format", "json"], ["run"]]
)
def test_a_floor_of_another_workload_is_told_from_a_damaged_one(
    verb: list[str],
    kind: str,
    *,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    run, floor = a_run(tmp_path / "r"), tmp_path / "aa"
    if kind == "counts":
        counted_run.make(floor, lambda planned: planned.requests * 7000)
    else:
        text = (a_run(floor, builds=SAME) / "experiment.yml").read_text()
        rewrite(floor, "experiment.yml", text.split("matrix")[0] + "workload: pool-growth\n")
    of = [str(QUICK), "--run-dir", "new", "--state-dir", "state"] if verb == ["run"] else [str(run)]
    assert run_cli([verb[0], *of, *verb[1:], "--noise-floor", str(floor)]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"error: {floor}: is a run of {kind} (")
    assert "remedy: make one of the same matrix: harness run EXPERIMENT --aa" in captured.err
    assert not (tmp_path / "new").exists()


def test_a_floor_of_another_matrix_is_refused(tmp_path: Path) -> None:
    run, floor = a_run(tmp_path / "r"), a_run(tmp_path / "aa", builds=SAME)
    change_experiment(floor, "iodepth: [1, 8]", "iodepth: [1, 8], numjobs: 1")
    with pytest.raises(InputError, match=r"varies other factors than the run: .*numjobs and rw, bs, iodepth"):
        compare_run(run, Judgement(), floor)


def test_a_floor_of_too_few_blocks_resolves_nothing(tmp_path: Path) -> None:
    run, floor = a_run(tmp_path / "r"), a_run(tmp_path / "aa", builds=SAME, blocks=4)
    with pytest.raises(InputError, match="too few blocks for any noise floor") as caught:
        compare_run(run, Judgement(), floor)
    assert "--aa --blocks" in str(caught.value.problems[0].remedy)


def test_a_cell_that_the_floor_did_not_measure_is_shown_without_one(tmp_path: Path) -> None:
    run, floor = a_run(tmp_path / "r"), a_run(tmp_path / "aa", builds=SAME)
    for path in floor.glob("sessions/*-NEW/session.json"):
        path.write_text(path.read_text().replace('"iodepth": 8', '"iodepth": 9'))
    plan = json.loads((floor / "plan.json").read_text())
    new = {session["number"] for session in plan["sessions"] if session["variant"] == "NEW"}
    for entry in plan["iterations"]:
        if entry["session"] in new and entry["iodepth"] == 8:
            entry["iodepth"] = 9
    rewrite(floor, "plan.json", plan)
    change_experiment(floor, "iodepth: [1, 8]", "iodepth: [1, 8, 9]")
    found = compare_run(run, Judgement(), floor)
    assert math.isinf(found.noise_floor["randread", "4k", 8])
    lines = render(found).splitlines()
    end = lines[2].index(" A/A ") + 4
    assert [line[:end].split()[-1][-1] for line in lines[3:5]] == ["%", "-"]


def test_other_settings_of_the_floor_are_named(tmp_path: Path) -> None:
    run, floor = a_run(tmp_path / "r"), a_run(tmp_path / "aa", builds=SAME)
    change_experiment(floor, "runtime: 1s", "runtime: 2s")
    with (floor / "experiment.yml").open("a") as stream:
        stream.write("disk: {queues: 2}\n")
    reseal(floor)
    found = compare_run(run, Judgement(), floor)
    assert "the noise floor was measured with other settings: disk, protocol.runtime" in found.warnings
    assert found.noise_floor


def test_a_recorded_floor_that_was_spoilt_costs_the_column_and_not_the_table(tmp_path: Path) -> None:
    floor = a_run(tmp_path / "aa", builds=SAME)
    run = a_run(tmp_path / "r", noise_floor=str(floor))
    other_builds(floor)
    found = compare_run(run, Judgement())
    assert found.noise_floor == {}
    assert found.warnings[0].startswith("the noise floor is not shown: ")
    assert "is no A/A run" in found.warnings[0]
    assert " A/A " not in render(found).splitlines()[2]


def test_the_floor_is_at_the_level_of_the_intervals_beside_it(tmp_path: Path) -> None:
    run, floor = a_run(tmp_path / "r"), a_run(tmp_path / "aa", builds=SAME)
    wide, narrow = (compare_run(run, Judgement(alpha=alpha), floor) for alpha in (0.05, 0.4))
    cell = ("randread", "4k", 1)
    assert narrow.noise_floor[cell] < wide.noise_floor[cell]
