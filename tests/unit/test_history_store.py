"""The history's file: what was acknowledged is there, whole, once; whoever writes, and however they end."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest
from history_data import FIRST_NIGHT, night
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.adapters.results.history_store import HistoryStore
from harness.core.errors import BusyError, HarnessError, InputError
from harness.core.history import HISTORY_FORMAT, FiledRun, Selection
from harness.shell.cli.main import run_cli

CHANGES = {"randread-4k-1": 0.0, "randread-4k-8": -0.031}
WRITER = """
import sys
from pathlib import Path
from history_data import night
from harness.adapters.results.history_store import HistoryStore

store = HistoryStore(Path(sys.argv[1]), patience_seconds=600)
print("ready", flush=True)
for number in range(int(sys.argv[2]), int(sys.argv[3])):
    store.add([night(number, {"randread-4k-1": 0.0, "randread-4k-8": -0.031})])
    print(number, flush=True)
"""
"""Files nights one by one, and says each one's number when it is on disk."""


@pytest.fixture
def store(tmp_path: Path) -> HistoryStore:
    return HistoryStore(tmp_path / "state" / "history.duckdb")


def writer(store: HistoryStore, first: int, end: int) -> subprocess.Popen[str]:
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(store.path), str(first), str(end)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )


def all_runs(store: HistoryStore) -> list[FiledRun]:
    """Return every run, the newest first, with its numbers."""
    found = [store.run(run.run_id) for run in store.runs(Selection())]
    assert all(len(runs) == 1 for runs in found)
    return [runs[0] for runs in found]


def test_what_is_filed_is_found_again_as_it_was(store: HistoryStore) -> None:
    runs = [night(0, CHANGES), night(1, CHANGES)]
    assert store.add(runs) == [True, True]
    assert all_runs(store) == [runs[1], runs[0]]
    # A list does without the numbers.
    assert store.runs(Selection()) == [replace(run, numbers=()) for run in reversed(runs)]


def test_before_the_first_run_there_is_nothing_and_looking_makes_nothing(store: HistoryStore) -> None:
    assert store.runs(Selection()) == []
    assert store.run("nightly-00000") == []
    assert store.followed(Selection(), 10) == ([], None)
    assert not store.path.parent.exists()


def test_adding_again_changes_nothing(store: HistoryStore) -> None:
    store.add([night(0, CHANGES)])
    before = all_runs(store)
    moved = night(0, CHANGES, path="/elsewhere/nightly-00000")
    assert store.add([moved, night(0, CHANGES)]) == [False, False]
    assert all_runs(store) == before


def test_the_same_id_with_other_content_is_refused_and_both_are_named(store: HistoryStore) -> None:
    store.add([night(0, CHANGES)])
    other = night(0, CHANGES, content="f" * 64, path="/elsewhere/nightly-00000")
    with pytest.raises(InputError) as caught:
        store.add([night(1, CHANGES), other])
    message = str(caught.value)
    assert "/elsewhere/nightly-00000" in message
    assert "/runs/nightly-00000" in message
    # All or none.
    assert all_runs(store) == [night(0, CHANGES)]


def test_runs_of_two_hosts_may_have_one_id(store: HistoryStore) -> None:
    there = night(0, CHANGES, host_id="a" * 16, host_name="kvm8", content="b" * 64)
    assert store.add([night(0, CHANGES), there]) == [True, True]
    assert len(store.run("nightly-00000")) == 2
    assert store.run("nightly-00000", "kvm8") == [there]


def test_a_selection_restricts_by_host_experiment_time_build_and_number(store: HistoryStore) -> None:
    store.add([night(number, CHANGES) for number in range(5)])
    store.add([night(5, CHANGES, experiment="other", host_id="b" * 16, host_name="kvm8")])

    def ids(**wanted: object) -> list[str]:
        return [run.run_id[-1] for run in store.runs(Selection(**wanted))]  # type: ignore[arg-type]

    assert ids(limit=2) == ["5", "4"]
    assert ids(experiment="nightly", limit=1) == ["4"]
    assert ids(host="kvm8") == ids(host="bbbb") == ["5"]
    assert ids(host="kvm") == []
    assert ids(since=FIRST_NIGHT + timedelta(days=3)) == ["5", "4", "3"]
    assert ids(build="c0000002") == ["2"]
    assert ids(build=f"{3:064x}") == ["3"]
    assert ids(build="7.2.22", limit=1) == ["5"]
    assert ids(build="'; DROP TABLE runs; --") == []
    assert ids(experiment="nightly", host="kvm8") == []


def test_of_each_place_the_newest_runs_are_followed_in_time_order(store: HistoryStore) -> None:
    store.add([night(number, CHANGES) for number in (3, 1, 2, 0)])
    store.add([night(4, CHANGES, accel="tcg")])
    runs, numbers = store.followed(Selection(), 2)
    assert [run.run_id for run in runs] == ["nightly-00002", "nightly-00003", "nightly-00004"]
    assert numbers is not None
    assert list(numbers["run"]) == [0] * 4 + [1] * 4 + [2] * 4
    assert list(numbers["value"][:4]) == pytest.approx([100_000, 100_000, 100_000, 96_900])


def test_a_newer_format_is_refused_by_name_and_left_as_it_is(store: HistoryStore) -> None:
    store.add([night(0, CHANGES)])
    with duckdb.connect(str(store.path)) as connection:
        connection.execute("UPDATE format SET version = ?", [HISTORY_FORMAT + 1])
    before = hashlib.sha256(store.path.read_bytes()).hexdigest()
    for use in (lambda: store.add([night(1, CHANGES)]), lambda: store.runs(Selection())):
        with pytest.raises(
            InputError, match=f"format version {HISTORY_FORMAT + 1}; this harness knows"
        ) as caught:
            use()
        assert "newer qemu-ab-harness" in str(caught.value.problems[0].remedy)
    assert hashlib.sha256(store.path.read_bytes()).hexdigest() == before
    assert sorted(path.name for path in store.path.parent.iterdir()) == [
        "history.duckdb",
        "history.duckdb.lock",
    ]


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\0" + bytes(4096), b"runs,iops\n" * 999])
def test_a_file_that_is_no_history_is_left_as_it_is(store: HistoryStore, content: bytes) -> None:
    store.path.parent.mkdir()
    store.path.write_bytes(content)
    with pytest.raises(InputError, match="history"):
        store.add([night(0, CHANGES)])
    assert store.path.read_bytes() == content


def test_a_damaged_file_is_no_traceback(store: HistoryStore) -> None:
    store.add([night(number, CHANGES) for number in range(50)])
    data = bytearray(store.path.read_bytes())
    data[4096 * 3 :] = bytes(len(data) - 4096 * 3)
    store.path.write_bytes(data)
    with pytest.raises(InputError, match="cannot be read as a history"):
        all_runs(store)


def test_two_writers_take_turns(store: HistoryStore) -> None:
    both = [writer(store, 0, 8), writer(store, 100, 108)]
    outputs = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    expected = {f"nightly-{number:05d}" for number in (*range(8), *range(100, 108))}
    assert {run.run_id for run in store.runs(Selection())} == expected


def test_who_waits_too_long_is_told_who_holds_it(store: HistoryStore) -> None:
    impatient = HistoryStore(store.path, patience_seconds=0.0)
    store.add([night(0, CHANGES)])
    with store._turn(), pytest.raises(BusyError, match=rf"history .* is in use by process {os.getpid()}"):  # noqa: SLF001
        impatient.runs(Selection())


def test_another_program_that_has_it_open_is_named(store: HistoryStore) -> None:
    store.add([night(0, CHANGES)])
    holding = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import duckdb; c = duckdb.connect({str(store.path)!r}); print(1, flush=True); input()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holding.stdout
        holding.stdout.readline()
        with pytest.raises(BusyError, match="open in another program"):
            store.add([night(1, CHANGES)])
    finally:
        holding.communicate("\n")
    assert store.add([night(1, CHANGES)]) == [True]


def kill_at_random(store: HistoryStore, trials: int, seed: int) -> None:
    """Kill a writer again and again; each time the store has what was acknowledged, and nothing half."""
    moments = random.Random(seed)  # noqa: S311 - for nothing secret
    acknowledged: set[str] = set()
    for trial in range(trials):
        first, before = trial * 1000, set(acknowledged)
        process = writer(store, first, first + 1000)
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        time.sleep(moments.uniform(0.0, 0.5))
        process.send_signal(signal.SIGKILL)
        said, _ = process.communicate()
        # A line that was cut off was not read by anybody.
        numbers = [int(line) for line in said.splitlines(keepends=True) if line.endswith("\n")]
        acknowledged |= {f"nightly-{number:05d}" for number in numbers}
        there = {run.run_id for run in store.runs(Selection())}
        for run_id in there - before:
            assert store.run(run_id) == [night(int(run_id[-5:]), CHANGES)], "a run is there in part"
        # The one that was being filed may be there: its writer was killed before it could say so.
        assert acknowledged <= there
        assert len(there - acknowledged) <= 1
        acknowledged = there
        # The next writer goes on.
        assert store.add([night(first + 999, CHANGES)]) == [True]
        acknowledged.add(f"nightly-{first + 999:05d}")


def test_a_kill_at_any_moment_loses_nothing_that_was_acknowledged(store: HistoryStore) -> None:
    kill_at_random(store, trials=10, seed=1)


@pytest.mark.slow
def test_many_kills(store: HistoryStore) -> None:
    kill_at_random(store, trials=150, seed=2)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
@pytest.mark.parametrize("size", ["4k", "12k", "16k", "64k", "270k"])
def test_the_first_run_on_a_full_disk_leaves_nothing_behind(tmp_path: Path, size: str) -> None:
    place, night_of_many_cells = tmp_path / "small", {f"randread-{cell}k-1": 0.0 for cell in range(999)}
    place.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    if subprocess.run(["mount", *options], check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        store = HistoryStore(place / "h.duckdb")
        for _again in range(2):
            with pytest.raises(HarnessError, match="the disk is full") as caught:
                store.add([night(0, night_of_many_cells)])
            assert caught.value.remedy == "free some space"
            assert [file.name for file in place.iterdir()] == ["h.duckdb.lock"]
        subprocess.run(["mount", "-o", "remount,size=20m", str(place)], check=True)
        assert store.add([night(0, night_of_many_cells)]) == [True]
        assert len(all_runs(store)) == 1
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_store_that_was_half_made_when_its_maker_was_killed_is_made_anew(store: HistoryStore) -> None:
    store.path.parent.mkdir()
    store.path.with_name(f".{store.path.name}.new").write_bytes(b"half")
    assert store.add([night(0, CHANGES)]) == [True]
    assert all_runs(store) == [night(0, CHANGES)]


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
fractions = st.floats(-0.9, 9.0)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(texts, min_size=1, max_size=4, unique=True),
    text=texts,
    values=st.lists(fractions, max_size=3),
)
def test_any_text_and_number_comes_back(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], text: str, values: list[float]
) -> None:
    store = HistoryStore(tmp_path_factory.mktemp("any") / "history.duckdb")
    changes = {f"{text}{number}": value for number, value in enumerate(values)}
    runs = [
        night(number, changes, run_id=name, experiment=text, path=text, conditions={text: name})
        for number, name in enumerate(names)
    ]
    assert store.add(runs) == [True] * len(runs)
    assert store.add(runs) == [False] * len(runs)
    assert [store.run(run.run_id) for run in runs] == [[run] for run in runs]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("UPDATE runs SET conditions = '[1]'", "has the conditions [1]"),
        ("UPDATE runs SET started = 'infinity'", "has the started 9999-12-31"),
        ("UPDATE runs SET margin = 'nan'", "has the margin nan"),
        ("UPDATE numbers SET change = 'inf'", "has the change of randread-4k-8 inf"),
        ("UPDATE numbers SET sessions = 0", "has the sessions of randread-4k-8 0"),
    ],
)
def test_a_row_that_cannot_have_been_filed_is_named(
    tmp_path: Path, change: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "history.duckdb"
    HistoryStore(path).add([night(0, {"randread-4k-8": 0.01})])
    with duckdb.connect(str(path)) as connection:
        connection.execute(change)
    assert run_cli(["history", "show", "nightly-00000", "--store", str(path)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert f"error: {path}: is damaged: run nightly-00000 {told}" in said.err


def test_what_a_newer_harness_filed_is_shown_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "history.duckdb"
    HistoryStore(path).add([night(0, {"randread-4k-8": 0.01})])
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE numbers SET metric = 'furlongs', value = 42.5")
    assert run_cli(["history", "show", "nightly-00000", "--store", str(path)]) == 0
    assert "furlongs" in capsys.readouterr().out
