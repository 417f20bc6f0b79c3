"""Formats: what older versions wrote is read, what newer ones write is refused in words."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fakes import FakeLab, campaign, new_run
from harness.adapters.results.store import RunDirectory
from harness.core import seals
from harness.core.errors import HarnessError
from harness.core.model import BuildRecord
from harness.core.records import FORMAT_VERSION, RunState
from harness.shell.beginning import check_unchanged
from harness.shell.cli.main import run_cli

if TYPE_CHECKING:
    Captured = pytest.CaptureFixture[str]

FORMAT_1 = Path(__file__).resolve().parents[1] / "data" / "runs" / "format-1"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy of what a harness of format 1 left behind: a real run, and a run of counts."""
    return Path(shutil.copytree(FORMAT_1, tmp_path / "old"))


def printed(capsys: Captured, *arguments: object) -> str:
    assert run_cli([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


def test_it_is_of_format_1_and_has_no_checksums() -> None:
    for name in ("matrix", "counts"):
        head = FORMAT_1 / name / "run.json"
        assert json.loads(head.read_bytes())["format_version"] == 1
        assert seals.look(head.read_bytes()) is seals.Seal.ABSENT


def test_a_run_of_format_1_is_compared_as_it_was_then(old: Path, capsys: Captured) -> None:
    lines = printed(capsys, "compare", old / "matrix", "--format", "commit").splitlines()
    assert lines == [
        "      RW BLKSIZE IODEPTH  OLD  NEW CHANGE",
        "randread      4k       1 3080 2292 -28.4%",
        "randread      4k       8 4476 3571 -19.5%",
    ]


def test_counts_of_format_1_are_compared_as_they_were_then(old: Path, capsys: Captured) -> None:
    table = printed(capsys, "compare", old / "counts")
    assert "4318" in table
    assert "22680" in table


def test_a_run_of_format_1_is_shown_and_reported_and_exported(old: Path, capsys: Captured) -> None:
    assert "done      8 of 8 iterations" in printed(capsys, "show", old / "matrix", "--full")
    printed(capsys, "report", old / "matrix", "-o", old / "r.html")
    assert "randread" in (old / "r.html").read_text()
    printed(capsys, "export", old / "matrix", "--bundle", old / "b.tar.zst", "--anonymous")
    assert "3080" in printed(capsys, "compare", old / "b.tar.zst")


def test_a_run_of_format_1_is_resumed_only_with_the_builds_it_began_with(old: Path) -> None:
    record = RunDirectory.open(old / "matrix").record
    builds = {name: BuildRecord.read(build) for name, build in record.builds.items()}
    for build in record.builds.values():
        build["binary"] = "/nonexistent/qemu"
    gone = {name: BuildRecord.read(build) for name, build in record.builds.items()}
    assert list(builds) == list(gone) == ["NEW", "OLD"]
    with pytest.raises(HarnessError, match="/nonexistent/qemu: No such file"):
        check_unchanged(gone)


def test_a_run_of_format_1_goes_on_and_what_is_new_has_a_checksum(old: Path, capsys: Captured) -> None:
    run = RunDirectory.open(old / "matrix")
    last = run.plan.sessions[-1]
    # Format 1 cannot tell that one is gone: it is measured as if for the first time.
    shutil.rmtree(run.session_directory(last))
    lab = FakeLab()
    outcome = campaign(run, lab)
    assert outcome.state is RunState.FINISHED
    assert {number for number, _cell in lab.executed} == {last.number}
    assert run.record.format_version == 1, "its other records have none"
    path = run.session_directory(last) / "session.json"
    assert seals.look(path.read_bytes()) is seals.Seal.WHOLE
    assert run_cli(["compare", str(run.path)]) == 0
    # One that is there has to be right, whatever the format.
    path.write_bytes(path.read_bytes().replace(b'"number": 3', b'"number": 4', 1))
    assert run_cli(["compare", str(run.path)]) == 2
    assert "session.json: is torn, or was edited" in capsys.readouterr().err


def test_a_record_without_a_checksum_is_damaged_from_format_2_on(tmp_path: Path) -> None:
    run = new_run(tmp_path / "r")
    head = json.loads((run.path / "run.json").read_text())
    assert head["format_version"] == FORMAT_VERSION == 2
    del head["sha256"]
    (run.path / "run.json").write_text(json.dumps(head))
    with pytest.raises(HarnessError, match=r"run\.json: is torn, or was edited: it has no SHA-256"):
        _ = RunDirectory.open(run.path).record


def newer(record: dict[str, Any]) -> dict[str, Any]:
    """Return a head as a later version might write it: with other keys, and its checksum elsewhere."""
    return {"format_version": FORMAT_VERSION + 1, "seal": {"blake3": "x"}, "run": record}


@pytest.mark.parametrize("verb", ["compare", "show", "report", "export", "run"])
@pytest.mark.parametrize("kind", ["matrix", "counts"])
def test_a_run_of_a_newer_format_is_refused_in_words(
    verb: str, kind: str, old: Path, capsys: Captured
) -> None:
    head = old / kind / "run.json"
    head.write_text(json.dumps(newer(json.loads(head.read_bytes()))))
    arguments = {
        "run": ["--resume", old / kind],
        "report": [old / kind, "-o", old / "r.html"],
        "export": [old / kind, "--format", "csv"],
    }.get(verb, [old / kind])
    assert run_cli([verb, *map(str, arguments)]) == 2
    said = capsys.readouterr().err
    assert (
        f"run.json: has format version {FORMAT_VERSION + 1}; this harness reads up to {FORMAT_VERSION}"
        in said
    )
    assert "use a newer qemu-ab-harness" in said
