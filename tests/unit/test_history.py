"""``harness history`` as a user meets it: runs are filed, listed, shown, followed."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import counted_run
import pytest
from history_data import nights

from fakes import FakeLab, campaign, fio_json, new_run
from harness.adapters.files import read_json
from harness.adapters.results.history_store import HistoryStore
from harness.core.errors import InputError
from harness.core.experiment import load_experiment
from harness.core.history import comparability, filed_build, host_identity
from harness.core.protocols import Execution
from harness.core.records import RunState
from harness.shell.cli.main import run_cli
from harness.shell.filing import read_run
from resealed import rewrite

if TYPE_CHECKING:
    from pathlib import Path

    from harness.core.model import Cell
    from harness.core.planning import PlannedSession

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def a_run(path: Path, *, new: float = 900.0, run_id: str = "test-1", **head: Any) -> Path:
    run = new_run(path, blocks=8, **({"run_id": run_id, "created": "2026-01-01T02:00:00+00:00"} | head))

    def behave(session: PlannedSession, cell: Cell, _count: int) -> Execution:
        value = (new if session.variant == "NEW" else 1000.0) * (1 + session.number / 10_000)
        return Execution(0, fio_json(cell, value), "", MOMENT, 1.0)

    campaign(run, FakeLab(behave))
    return path


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


def answer(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> Any:
    assert run_cli(["history", *map(str, arguments), "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_a_run_is_filed_listed_and_shown(
    tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = a_run(tmp_path / "r")
    added = answer(capsys, "add", path)
    assert added["store"] == str(state / "history.duckdb")
    assert [run["new"] for run in added["runs"]] == [True]
    assert [run["new"] for run in answer(capsys, "add", path)["runs"]] == [False]
    (listed,) = answer(capsys, "list", "--experiment", "test", "--limit", "1")["runs"]
    assert listed["path"] == str(path)
    assert {build["variant"]: build["sha256"] for build in listed["builds"]} == {
        "OLD": "OLD" * 20,
        "NEW": "NEW" * 20,
    }
    shown = answer(capsys, "show", "test-1")
    found = {(n["cell"], n["variant"]): n for n in shown["numbers"] if n["metric"] == "iops"}
    assert found["randread-4k-8", "NEW"]["value"] == pytest.approx(900, rel=0.002)
    assert found["randread-4k-8", "NEW"]["change"] == pytest.approx(-0.1, abs=0.001)
    assert found["randread-4k-8", "NEW"]["verdict"] == "slower"
    assert found["randread-4k-8", "OLD"]["change"] is None
    assert run_cli(["history", "show", "test-1"]) == 0
    assert "-10.0%" in capsys.readouterr().out
    assert run_cli(["history", "list"]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("2026-01-01 02:00 test-1 here test")


def test_of_an_empty_history_a_list_is_empty(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(capsys, "list", "--limit", "1")["runs"] == []
    assert not state.exists()
    assert run_cli(["history", "show", "x"]) == 2
    assert "has no run x" in capsys.readouterr().err
    assert run_cli(["history", "report"]) == 2
    assert "has no such run" in capsys.readouterr().err


@pytest.mark.usefixtures("state")
def test_what_cannot_be_filed_is_refused_all_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = a_run(tmp_path / "good")
    unfinished = a_run(tmp_path / "unfinished", run_id="test-2")
    head = read_json(unfinished / "run.json")
    rewrite(unfinished, "run.json", head | {"state": "interrupted", "stopped": "Ctrl-C"})
    failed = a_run(tmp_path / "failed", run_id="test-3")
    rewrite(failed, "run.json", head | {"state": "failed", "stopped": "the disk is full"})
    assert run_cli(["history", "add", *map(str, (good, unfinished, failed, tmp_path))]) == 2
    said = capsys.readouterr().err
    assert "has not finished (interrupted: Ctrl-C)" in said
    assert f"harness run --resume {unfinished}" in said
    assert "has not finished (failed: the disk is full)" in said
    assert "is not a run directory" in said
    assert answer(capsys, "list")["runs"] == []


def test_a_run_that_goes_on_is_not_filed(tmp_path: Path) -> None:
    run = new_run(tmp_path / "r", state=RunState.RUNNING)
    with run.writing(), pytest.raises(InputError, match="is still being measured"):
        read_run(run.path)


def test_rounds_of_the_pool_are_refused_with_what_shows_them(tmp_path: Path) -> None:
    path = a_run(tmp_path / "r")
    text = (path / "experiment.yml").read_text()
    rewrite(path, "experiment.yml", text.split("matrix")[0] + "workload: pool-growth\n")
    with pytest.raises(InputError, match="pool-growth, which is judged by itself") as caught:
        read_run(path)
    assert caught.value.problems[0].remedy == f"harness compare {path}"


def test_counts_are_filed(tmp_path: Path) -> None:
    per_request = {"OLD": 4000, "NEW": 4200}
    path = counted_run.make(
        tmp_path / "r", lambda planned: 10**6 + planned.requests * per_request[planned.variant]
    )
    run = read_run(path)
    assert (run.workload, run.accel, run.margin) == ("instructions", "none", 0.005)
    found = {(number.cell, number.variant): number for number in run.numbers}
    assert found["randread-4k-64", "NEW"].value == 4200
    assert found["randread-4k-64", "NEW"].change == pytest.approx(0.05)
    assert found["randread-4k-64", "NEW"].verdict == "costlier"
    assert {number.metric for number in run.numbers} == {"instructions_per_io"}


def test_content_is_what_was_measured_wherever_the_directory_is(tmp_path: Path) -> None:
    run = read_run(a_run(tmp_path / "r"))
    (tmp_path / "r").rename(tmp_path / "moved")
    assert read_run(tmp_path / "moved").content == run.content
    assert read_run(a_run(tmp_path / "other", new=901.0)).content != run.content


def test_the_year_is_reported_and_fails_on_a_slower_level(
    tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    HistoryStore(state / "history.duckdb").add(
        nights([0.0, 0.001, -0.001] * 10 + [-0.06, -0.061, -0.059] * 4)
    )
    assert run_cli(["history", "report", "--fail-on", "slower"]) == 3
    assert "begins with nightly-00030" in capsys.readouterr().out
    (place,) = answer(capsys, "report")["places"]
    (trend,) = place["trends"]
    assert [step["first"]["run_id"] for step in trend["steps"]] == ["nightly-00030"]
    assert trend["levels"] == pytest.approx([1.0, 0.94], abs=0.002)
    page = tmp_path / "trends.html"
    assert run_cli(["history", "report", "-o", str(page), "--experiment", "nightly"]) == 0
    assert "the last step was for the worse" in page.read_text()
    # Before the step nothing was wrong.
    assert run_cli(["history", "report", "--margin", "10%", "--fail-on", "slower"]) == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--variant", "NOPE"], ["--variant: NOPE is no variant", "one of OLD, NEW"]),
        (["--metric", "iops,vmas,cpu"], ["--metric: ", "has vmas or qemu_cpu_ns_per_io", "they have iops"]),
        (["--metric", "vmas", "--variant", "NOPE"], ["--variant: ", "--metric: "]),
        (["--variant", "OLD", "--follow", "change"], ["nothing to follow of OLD", "--follow"]),
    ],
)
def test_a_gate_on_what_nothing_has_does_not_pass(
    options: list[str], said: list[str], state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    HistoryStore(state / "history.duckdb").add(nights([0.0, 0.001, -0.001] * 10))
    assert run_cli(["history", "report", "--fail-on", "slower"]) == 0
    capsys.readouterr()
    assert run_cli(["history", "report", "--fail-on", "slower", *options]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert all(words in captured.err for words in said)


@pytest.mark.usefixtures("state")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["list", "--since", "yesterday"], "'yesterday' is no date"),
        (["report", "--metric", "speed"], "'speed' is unknown"),
        (["report", "-o", "x.html", "--json"], "give one of them"),
        (["add"], "Missing argument"),
    ],
)
def test_bad_options_are_told(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["history", *arguments]) == 2
    assert said in capsys.readouterr().err


BASE = "name: n\nbuilds: {OLD: {path: /old}, NEW: {path: /new}}\nbaseline: OLD\n"


def test_builds_names_cells_and_repetition_do_not_end_a_series_and_other_settings_do() -> None:
    def key(text: str = "", base: str = BASE) -> str:
        return comparability(load_experiment(base + text, "n.yml"))

    same = key()
    assert key(base=BASE.replace("/new", "/newer").replace("name: n", "name: other")) == same
    assert key("matrix: {bs: [4k, 64k], iodepth: [1, 32]}\n") == same
    assert key("protocol: {blocks: 3, iterations: 2, seed: 9, runtime: 5s}\n") == same
    others = [
        key("protocol: {runtime: 6s}\n"),
        key("guest: {vcpus: 4}\n"),
        key("disk: {queue_size: 256}\n"),
        key("matrix: {numjobs: [1, 2]}\n"),
        key("placement: {locked: true}\n"),
        key("workload: instructions\n"),
        key("workload: instructions\ninstructions: {ring: packed}\n"),
    ]
    assert len({same, *others}) == len(others) + 1


def test_a_host_is_known_by_its_machine_id_whatever_its_name() -> None:
    known = {"machine_id_hash": "ab" * 32, "name": "kvm7"}
    assert host_identity(known) == host_identity(known | {"name": "renamed"}) == "ab" * 8
    older = {"name": "kvm7", "cpu": {"model": "x", "count": 2}}
    assert host_identity(older) != host_identity(older | {"name": "kvm8"})
    assert host_identity({})


def test_the_commit_of_a_build_is_found_wherever_its_record_has_it() -> None:
    plain = {"sha256": "a", "version": "QEMU emulator version 10.1.50", "unknown": [1]}
    assert filed_build("NEW", plain).commit is None
    assert filed_build("NEW", plain | {"commit": "abc"}).commit == "abc"
    assert filed_build("NEW", plain | {"source": {"git": {"commit": "def"}}}).commit == "def"
    assert filed_build("NEW", {}).sha256 == ""
