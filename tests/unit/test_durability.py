"""What is reported as done survives a power cut; what is damaged is named, and measured again on request."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import counted_run
import pytest

from fakes import FakeLab, FakeStop, campaign, new_run
from harness.adapters.guestless.store import CountDirectory
from harness.adapters.results.samples import read_samples
from harness.adapters.results.store import RunDirectory
from harness.core.counting.records import TimeRecord
from harness.core.errors import DamagedError
from harness.core.records import BootCause, IterationState, RunState, SessionState
from harness.shell.bundles import write_bundle
from harness.shell.cli.main import run_cli
from harness.shell.events import Event, IterationDone
from harness.shell.opening import readable
from power_cut import Disk

if TYPE_CHECKING:
    from collections.abc import Callable


def measure(run: RunDirectory, emit: Callable[[Event], None] = lambda _event: None) -> FakeLab:
    lab = FakeLab()
    campaign(run, lab, emit=emit)
    return lab


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A finished run, as a reader opens it."""
    made = new_run(tmp_path / "run")
    for planned in made.plan.sessions:
        (made.session_directory(planned) / "domain.xml").write_text("<domain><name>x</name></domain>")
    measure(made)
    return RunDirectory.open(made.path)


def accepted(run: RunDirectory) -> list[int]:
    return sorted(number for planned in run.plan.sessions for number in run.load_session(planned).accepted())


def test_every_iteration_that_was_reported_is_whole_after_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    run = new_run(tmp_path / "place" / "run")
    seen = []

    def cut(event: Event) -> None:
        if isinstance(event, IterationDone):
            seen.append(event.iteration.number)
            left = disk.after_a_cut(tmp_path / "place", tmp_path / f"cut-{len(seen)}")
            # The samples are read with every checksum.
            assert accepted(RunDirectory.open(left / "run")) == seen
            assert len(read_samples(RunDirectory.open(left / "run")).frame) == len(seen)

    (tmp_path / "place").mkdir(exist_ok=True)
    measure(run, cut)
    assert seen == list(range(8))


def test_what_was_never_put_on_disk_is_gone_after_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model of a disk that the test above relies on can tell."""
    disk = Disk(monkeypatch)
    run = new_run(tmp_path / "place" / "run")
    (run.path / "careless").write_text("x")
    left = disk.after_a_cut(tmp_path / "place", tmp_path / "cut")
    assert (left / "run" / "run.json").exists()
    assert not (left / "run" / "careless").exists()


FILES = ["run.json", "plan.json", "experiment.yml", "environment.json"]
PARTS = ["sessions/001-{}/session.json", "sessions/001-{}/domain.xml", "sessions/001-{}/0000{}"]


def edit(path: Path) -> None:
    """Change one character of a file: of a JSON, one that leaves it JSON."""
    data = path.read_bytes()
    for number, other in ((b"1", b"2"), (b"x", b"y")):
        if number in data:
            path.write_bytes(data.replace(number, other, 1))
            return
    raise AssertionError(f"{path} has nothing to edit")


@pytest.mark.parametrize("verb", ["show", "compare"])
@pytest.mark.parametrize("name", FILES)
def test_a_file_edited_by_hand_is_named(
    verb: str, name: str, run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run.path / name
    text = path.read_text()
    path.write_text(text.replace("tcg", "kvm") if name == "run.json" else text.replace("1", "2", 1))
    assert path.read_text() != text
    assert run_cli([verb, str(run.path)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert f"error: {path}: is " in said.err
    assert "SHA-256" in said.err
    assert "remedy: restore it from a copy" in said.err


def test_a_file_that_a_record_names_and_that_is_gone_is_missed(
    run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    run.write_ceilings([{"rw": "randread", "bs": "4k", "iodepth": 1, "iops": 9e5}])
    ceiling, domain = run.path / "ceiling.json", run.session_directory(run.plan.sessions[1]) / "domain.xml"
    ceiling.unlink()
    assert run_cli(["compare", str(run.path)]) == 2
    assert f"error: {ceiling}: does not exist" in capsys.readouterr().err
    domain.unlink()
    assert run_cli(["compare", str(run.path)]) == 2
    assert f"error: {domain}: does not exist" in capsys.readouterr().err
    # A ceiling is measured before the guests; a session is measured again.
    assert len(list(run.mend())) == 1
    assert run.load_session(run.plan.sessions[1]).boots == []


@pytest.mark.parametrize("what", ["directory", "session.json", "sessions"])
def test_a_session_that_was_lost_is_missed_and_measured_again_on_request(
    what: str, run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    planned = run.plan.sessions[1]
    directory = run.session_directory(planned)
    lost = run.plan.sessions if what == "sessions" else (planned,)
    if what == "session.json":
        (directory / what).unlink()
    else:
        shutil.rmtree(directory.parent if what == "sessions" else directory)
    first = run.path / "sessions" / lost[0].directory / "session.json"
    for verb in ("show", "compare"):
        assert run_cli([verb, str(run.path)]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert f"error: {first}: is missing, and run.json says that it was written" in said.err
        assert f"harness run --resume {run.path}" in said.err

    again = RunDirectory.open(run.path)
    sentences = list(again.mend())
    assert len(sentences) == len(lost)
    assert all("the session is measured again" in sentence for sentence in sentences)
    # One that is stopped now has no session that was lost without anybody knowing.
    assert list(RunDirectory.open(run.path).mend()) == []
    lab = measure(again)
    assert sorted({number for number, _cell in lab.executed}) == [one.number for one in lost]
    record = again.load_session(planned)
    assert [boot.cause for boot in record.boots] == [BootCause.RESUMED]
    assert run_cli(["compare", str(run.path)]) == 0
    assert "measured again, since what " in capsys.readouterr().out
    assert run_cli(["show", str(run.path)]) == 0
    assert f"  again     {planned.directory}: its session.json is missing" in capsys.readouterr().out


def test_a_session_that_never_began_is_not_missed(tmp_path: Path) -> None:
    run = new_run(tmp_path / "r")
    stop = FakeStop()

    def end(event: Event) -> None:
        if isinstance(event, IterationDone):
            stop.set()

    campaign(run, FakeLab(), emit=end, stop=stop)
    opened = RunDirectory.open(run.path)
    assert [len(opened.load_session(planned).boots) for planned in opened.plan.sessions] == [1, 0, 0, 0]
    assert list(opened.mend()) == []


def test_a_session_is_missed_after_a_run_that_was_cut_off_too(tmp_path: Path) -> None:
    run = new_run(tmp_path / "r")
    measure(run)
    run.set_state(RunState.RUNNING, stopped=None, wall_seconds=0.0)
    shutil.rmtree(run.session_directory(run.plan.sessions[2]))
    opened = RunDirectory.open(run.path)
    assert opened.present.state is RunState.INTERRUPTED
    with pytest.raises(DamagedError, match=r"session\.json: is missing"):
        opened.load_session(run.plan.sessions[2])


def test_a_record_of_another_session_is_damaged_and_measured_again(run: RunDirectory) -> None:
    first, second = (run.session_directory(planned) for planned in run.plan.sessions[:2])
    # Whole in itself, checksum and all.
    shutil.copy(first / "session.json", second / "session.json")
    with pytest.raises(DamagedError, match="it is of another session"):
        read_samples(RunDirectory.open(run.path))
    assert [str(second / "session.json") in sentence for sentence in run.mend()] == [True]


@pytest.mark.parametrize("file", ["session.json", "domain.xml", "output"])
def test_a_damaged_session_is_named_and_measured_again_on_request(
    file: str, run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    planned = run.plan.sessions[1]
    directory = run.session_directory(planned)
    path = min(directory.glob("0000*")) if file == "output" else directory / file
    edit(path)
    damaged = {found.name: found.read_bytes() for found in directory.iterdir()}
    assert run_cli(["compare", str(run.path)]) == 2
    said = capsys.readouterr().err
    assert f"error: {path}: is " in said
    assert f"harness run --resume {run.path}" in said

    sentences = list(run.mend())
    assert len(sentences) == 1
    assert path.name in sentences[0]
    lab = measure(run)
    assert accepted(run) == list(range(8))
    assert {number for number, _cell in lab.executed} == {planned.number}
    # Only an output that is damaged leaves the rest of its session alone.
    assert len(lab.executed) == (1 if file == "output" else 2)
    kept = directory if file == "output" else run.path / "damaged" / f"{directory.name}-1"
    for name, data in damaged.items():
        if file != "output" or name != "session.json":
            assert (kept / name).read_bytes() == data, "nothing is thrown away"
    assert run_cli(["compare", str(run.path)]) == 0
    assert list(run.mend()) == []


def test_an_output_that_was_damaged_is_marked_and_its_iteration_kept_on_record(run: RunDirectory) -> None:
    planned = run.plan.sessions[0]
    min(run.session_directory(planned).glob("0000*")).unlink()
    assert [sentence.partition(":")[0] for sentence in run.mend()] == [f"session {planned.directory}"]
    record = run.load_session(planned)
    assert record.state is SessionState.INTERRUPTED
    assert [entry.state for entry in record.iterations] == [IterationState.FAILED, IterationState.OK]
    assert record.iterations[0].reason == "its output was damaged afterwards"


def test_an_output_whose_checksum_is_missing_is_not_left_out_without_a_word(run: RunDirectory) -> None:
    planned = run.plan.sessions[0]
    record = run.load_session(planned)
    record.iterations[1].sha256 = None
    run.save_session(planned, record)
    with pytest.raises(DamagedError, match="an output and its checksum are kept together"):
        read_samples(run)


def test_a_torn_session_does_not_lose_the_run_that_was_cut_off(tmp_path: Path) -> None:
    run = new_run(tmp_path / "r")
    measure(run)
    run.set_state(RunState.RUNNING, stopped=None, wall_seconds=0.0)
    path = run.session_directory(run.plan.sessions[2]) / "session.json"
    path.write_bytes(path.read_bytes()[:100])
    assert RunDirectory.open(run.path).present.state is RunState.INTERRUPTED
    with pytest.raises(DamagedError, match=r"session\.json: is not whole JSON"):
        run.load_session(run.plan.sessions[2])
    assert len(list(run.mend())) == 1
    assert [number for number, _cell in measure(run).executed] == [2, 2]


def test_put_aside_twice_is_kept_twice(run: RunDirectory) -> None:
    for _time in range(2):
        edit(run.session_directory(run.plan.sessions[1]) / "session.json")
        assert len(list(run.mend())) == 1
        measure(run)
    name = run.plan.sessions[1].directory
    assert sorted(path.name for path in (run.path / "damaged").iterdir()) == [f"{name}-1", f"{name}-2"]


def test_a_count_that_is_damaged_is_named_and_counted_again_on_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = counted_run.make(tmp_path / "r", lambda c: 1_000_000 + c.requests * 5000)
    run = CountDirectory.open(path)
    first, second = run.plan.counts[:2]
    edit(path / "counts" / first.directory / "count.json")
    edit(path / "counts" / second.directory / "callgrind.out-03")
    assert run_cli(["compare", str(path)]) == 2
    assert f"{first.directory}/count.json: is torn, or was edited" in capsys.readouterr().err
    assert len(list(run.mend())) == 2
    assert (run.load(first), run.load(second)) == (None, None)
    assert (path / "damaged" / f"{first.directory}-1" / "count.json").exists()
    assert list(run.mend()) == []


def test_a_count_that_was_lost_is_missed_and_counted_again_on_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = counted_run.make(tmp_path / "r", lambda c: 1_000_000 + c.requests * 5000)
    run = CountDirectory.open(path)
    first = run.plan.counts[0]
    shutil.rmtree(path / "counts" / first.directory)
    assert run_cli(["compare", str(path)]) == 2
    assert f"{first.directory}/count.json: is missing, and run.json says" in capsys.readouterr().err
    assert len(list(run.mend())) == 1
    assert run.load(first) is None
    assert list(run.mend()) == []


def test_counts_that_end_at_the_same_time_are_all_known(tmp_path: Path) -> None:
    saved = CountDirectory.open(counted_run.make(tmp_path / "saved", lambda _planned: 10_000))
    run = CountDirectory.open(counted_run.make(tmp_path / "run", lambda _planned: None))
    counts = [(planned, saved.load(planned)) for planned in saved.plan.counts]
    with ThreadPoolExecutor(len(counts)) as threads:
        list(threads.map(lambda one: run.save(*one), counts))
    assert sorted(run.record.begun) == sorted(planned.directory for planned, _record in counts)


def test_times_that_are_damaged_are_named_and_timed_again_on_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = counted_run.make(tmp_path / "r", lambda c: 1_000_000 + c.requests * 5000)
    run = CountDirectory.open(path)
    taken = [TimeRecord("OLD", run.plan.counts[0].cell.factors(), [500.0])]
    run.save_times(taken)
    assert CountDirectory.open(path).times == taken
    (path / "times.json").write_text((path / "times.json").read_text().replace("500", "400"))
    assert run_cli(["compare", str(path)]) == 2
    assert "times.json: is not what was written" in capsys.readouterr().err
    assert len(list(run.mend())) == 1
    assert run.times == CountDirectory.open(path).times == []
    assert (path / "damaged" / "times.json-1").exists()
    run.save_times(taken)
    (path / "times.json").unlink()
    assert run_cli(["compare", str(path)]) == 2
    assert len(list(run.mend())) == 1
    assert list(run.mend()) == []


def test_a_bundle_of_a_damaged_run_does_not_hide_the_damage(run: RunDirectory, tmp_path: Path) -> None:
    path = run.session_directory(run.plan.sessions[1]) / "session.json"
    edit(path)
    for anonymous in (False, True):
        bundle = tmp_path / f"{anonymous}.tar.zst"
        write_bundle(run.path, bundle, anonymous=anonymous, logs=False)
        with readable(bundle) as directory, pytest.raises(DamagedError, match=r"session\.json: is "):
            read_samples(RunDirectory.open(directory))


@pytest.mark.parametrize("anonymous", [False, True])
def test_a_bundle_is_whole_and_leaves_out_what_was_put_aside(
    anonymous: bool,  # noqa: FBT001 - a parameter of the test
    run: RunDirectory,
    tmp_path: Path,
) -> None:
    edit(run.session_directory(run.plan.sessions[1]) / "session.json")
    assert len(list(run.mend())) == 1
    measure(run)
    write_bundle(run.path, tmp_path / "b.tar.zst", anonymous=anonymous, logs=True)
    with readable(tmp_path / "b.tar.zst") as directory:
        copy = Path(shutil.copytree(directory, tmp_path / "copy"))
    opened = RunDirectory.open(copy)
    assert list(opened.mend()) == []
    assert opened.record.run_id == "r"
    assert opened.experiment
    assert opened.environment
    assert not (copy / "damaged").exists()
    assert json.loads((copy / "run.json").read_text())["sha256"]
