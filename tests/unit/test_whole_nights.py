"""Whole nights, but for the run itself: what is filed, what is left for the reader, and the exit code."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from test_history import a_run

import stand_in
from fakes import new_run
from harness.adapters.results.history_store import HistoryStore
from harness.core.history import Selection
from harness.core.records import RunState
from harness.shell import nightly
from harness.shell.cli.main import run_cli
from resealed import rewrite

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[[Path], object]


@dataclass
class Job:
    """A nightly job of a stand-in's repository."""

    top: Path
    patch: pytest.MonkeyPatch

    def __post_init__(self) -> None:
        repository = stand_in.repository(self.top / "qemu")
        self.experiment = self.top / "nightly.yml"
        self.experiment.write_text(stand_in.bench_experiment(repository, "nightly"))
        self.state, self.directory = self.top / "state", self.top / "nights"

    def night(self, run: Run, code: int | None) -> int:
        """Have a night whose run leaves something in its directory, and ends with a code."""

        def verb(argv: list[str], **_limits: object) -> int | None:
            words = argv[argv.index("harness") + 1 :]
            if words[0] != "run":
                return run_cli(words)
            run(self.directory / words[words.index("--run-dir") + 1])
            return code

        self.patch.setattr(nightly, "attached", verb)
        # Who measures on this machine meanwhile is neither waited for nor kept waiting.
        self.patch.setattr(nightly, "host_alone", lambda _patience: contextlib.nullcontext())
        options = ["--directory", str(self.directory), "--state-dir", str(self.state)]
        return run_cli(["nightly", str(self.experiment), "--follow", "NEW", *options])

    def left(self) -> set[str]:
        """Return what the one night left in its directory."""
        (night,) = (path for path in self.directory.iterdir() if path.is_dir())
        return {path.name for path in night.iterdir()}

    def filed(self) -> list[str]:
        """Return which runs the history has."""
        store = HistoryStore(self.state / "history.duckdb")
        return [run.run_id for run in store.runs(Selection())]


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    return Job(tmp_path, monkeypatch)


def nothing(_path: Path) -> None:
    """Leave nothing: the experiment was refused, or a build failed."""


def only_begun(path: Path) -> None:
    new_run(path, state=RunState.FAILED, stopped="no guest answered")


def cut_short(path: Path) -> None:
    a_run(path)
    head = json.loads((path / "run.json").read_text())
    rewrite(path, "run.json", head | {"state": "interrupted", "stopped": "interrupted by the user"})


def test_a_night_that_is_measured_is_filed(job: Job) -> None:
    assert job.night(a_run, 3) == 3
    assert job.filed() == ["test-1"]
    assert {"report.html", "junit.xml", "table.md"} <= job.left()
    assert (job.directory / "last.json").exists()


@pytest.mark.parametrize("code", [None, -9, 1], ids=["over its limit", "killed", "failed"])
def test_a_run_that_does_not_come_to_its_end_is_a_failure_and_not_filed(job: Job, code: int | None) -> None:
    assert job.night(cut_short, code) == 1
    assert job.filed() == []
    assert {"report.html", "junit.xml", "table.md"} <= job.left(), "what was measured is shown"
    assert not (job.directory / "last.json").exists()


@pytest.mark.parametrize("run", [nothing, only_begun])
def test_a_run_that_measures_nothing_is_a_failure(job: Job, run: Run) -> None:
    assert job.night(run, 1) == 1


def test_only_a_wrong_experiment_is_a_wrong_experiment(job: Job) -> None:
    assert job.night(nothing, 2) == 2


def test_a_history_that_takes_no_run_is_a_failure(job: Job) -> None:
    job.state.mkdir()
    (job.state / "history.duckdb").write_text("no database")
    assert job.night(a_run, 0) == 1
    assert "report.html" in job.left()


@pytest.mark.parametrize(
    "content", ["", "{", "{}", "[]", '{"commit": null}', '{"commit": "--upload-pack=x"}']
)
def test_a_damaged_note_of_the_last_night_costs_one_comparison(
    job: Job, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    job.directory.mkdir()
    (job.directory / "20260230T000000Z").mkdir()
    note = job.directory / "last.json"
    note.write_text(content)
    assert job.night(a_run, 0) == 0
    said = capsys.readouterr()
    assert f"{note}: " in said.err
    assert "without LAST" in said.err
    assert "against the night before" not in said.err
    assert job.filed() == ["test-1"]
    assert json.loads(note.read_text())["commit"] == stand_in.git(job.top / "qemu", "rev-parse", "master")
