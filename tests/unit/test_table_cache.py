"""What is kept of raw files: it saves the reading, and never the looking."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.reports import write_run, write_trees
from fio_writer import text
from harness.adapters.host.processes import head_of
from harness.adapters.results import fio_trees, run_outputs, table_cache, workers
from harness.adapters.results.file_state import states_array
from harness.adapters.results.fio_trees import reading_ahead
from harness.adapters.results.imports import read_results
from harness.adapters.results.listing import list_tree, listing_of
from harness.adapters.results.samples import read_samples
from harness.adapters.results.store import RunDirectory
from harness.adapters.workspace import NO_CACHE, cache_directory
from harness.core.errors import DamagedError
from harness.core.fio_cells import Setup
from harness.core.fio_table import FioTable
from harness.shell.cli.main import run_cli

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.adapters.results.file_state import State

FILES = 40
LONG_AGO_NS = 10 * 10**9


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a cache of this test's own, in which little is worth while, and in which nothing is too new."""
    monkeypatch.delenv(NO_CACHE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(table_cache, "WORTH_IT", 2)
    monkeypatch.setattr("harness.adapters.results.listing._MOMENT_NS", -LONG_AGO_NS)
    return tmp_path / "cache/qemu-ab-harness/samples"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_trees(tmp_path, 2 * FILES)[0]


@pytest.fixture
def nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return what makes every further reading of raw files fail."""

    def refuse(*_arguments: object) -> None:
        raise AssertionError("raw files are read again")

    def forbid() -> None:
        monkeypatch.setattr(fio_trees, "read_and_look", refuse)
        monkeypatch.setattr(run_outputs, "read_and_look", refuse)

    return forbid


def iops(tree: Path) -> list[float]:
    return [float(value) for value in read_results(tree, "OLD").samples["iops"]]


def fresh(tree: Path) -> list[float]:
    """Return what is found without any cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(NO_CACHE, "1")
        return iops(tree)


def test_a_tree_is_read_once(cache: Path, tree: Path, nothing_is_read: Callable[[], None]) -> None:
    before = read_results(tree, "OLD")
    (entry,) = cache.iterdir()
    assert stat.S_IMODE(entry.stat().st_mode) == 0o600
    nothing_is_read()
    again = read_results(tree, "OLD")
    pd.testing.assert_frame_equal(before.samples, again.samples, check_exact=True)
    assert before.warnings == again.warnings


@pytest.mark.usefixtures("cache")
def test_it_is_the_same_tree_by_any_name(
    tree: Path, nothing_is_read: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = iops(tree)
    nothing_is_read()
    monkeypatch.chdir(tree.parent)
    assert iops(Path(tree.name)) == before
    monkeypatch.chdir(tree)
    assert iops(Path()) == before


def test_a_run_is_read_once(
    cache: Path, tmp_path: Path, nothing_is_read: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path / "run", 1)
    run = RunDirectory.open(tmp_path / "run")
    before = read_samples(run)
    nothing_is_read()
    pd.testing.assert_frame_equal(before.frame, read_samples(run).frame, check_exact=True)
    assert len(list(cache.iterdir())) == 1
    monkeypatch.undo()


def edit(tree: Path) -> None:
    """Change a number in place, and put the file's times back."""
    file = sorted(tree.rglob("*.json"))[3]
    times = file.stat()
    document = json.loads(file.read_text())
    read = document["jobs"][0]["read"]
    for name in ("iops", "total_ios", "bw", "bw_bytes", "io_bytes", "io_kbytes"):
        read[name] *= 2
    file.write_text(json.dumps(document).ljust(times.st_size))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def add(tree: Path) -> None:
    (tree / "another.json").write_text(text(iops=777.0))


def remove(tree: Path) -> None:
    min(tree.rglob("*.json")).unlink()


def exchange(tree: Path) -> None:
    """Let two files change places."""
    one, two, *_ = sorted(tree.rglob("*.json"))
    one.rename(tree / "aside")
    two.rename(one)
    (tree / "aside").rename(two)


@pytest.mark.parametrize("change", [edit, add, remove, exchange])
@pytest.mark.usefixtures("cache")
def test_whatever_changed_is_noticed(tree: Path, change: Callable[[Path], None]) -> None:
    before = iops(tree)
    change(tree)
    after = iops(tree)
    assert after == fresh(tree) != before
    assert iops(tree) == after


def cut(entry: Path) -> None:
    entry.write_bytes(entry.read_bytes()[:-9])


def flip(entry: Path) -> None:
    data = bytearray(entry.read_bytes())
    data[-20] ^= 1
    entry.write_bytes(data)


def empty(entry: Path) -> None:
    entry.write_bytes(b"")


def unreadable(entry: Path) -> None:
    entry.unlink()
    entry.mkdir()


@pytest.mark.parametrize("damage", [cut, flip, empty, unreadable])
def test_a_damaged_entry_is_not_used(cache: Path, tree: Path, damage: Callable[[Path], None]) -> None:
    wanted = iops(tree)
    (entry,) = cache.iterdir()
    damage(entry)
    assert iops(tree) == wanted


def test_an_entry_is_mended(cache: Path, tree: Path, nothing_is_read: Callable[[], None]) -> None:
    wanted = iops(tree)
    (entry,) = cache.iterdir()
    cut(entry)
    iops(tree)
    nothing_is_read()
    assert iops(tree) == wanted


@pytest.mark.usefixtures("cache")
def test_what_other_code_read_is_read_again(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = iops(tree)
    monkeypatch.setattr(table_cache, "_readers", lambda: "another version")
    monkeypatch.setattr(table_cache, "store", lambda *_arguments: None)
    add(tree)
    assert iops(tree) == [777.0, *wanted]


@pytest.mark.usefixtures("cache")
def test_what_may_change_unseen_is_not_kept(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.adapters.results.listing._MOMENT_NS", LONG_AGO_NS)
    iops(tree)
    assert not cache_directory().exists()


def test_a_cache_that_cannot_be_written_harms_nothing(cache: Path, tree: Path) -> None:
    cache.parent.parent.mkdir()
    cache.parent.write_text("a file where a directory should be")
    assert iops(tree) == fresh(tree)


def test_no_cache_means_none(
    cache: Path, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(["compare", str(tree), str(tmp_path / "new"), "--no-cache"]) == 0
    assert not cache.exists()
    assert NO_CACHE not in os.environ
    assert run_cli(["compare", str(tree), str(tmp_path / "new")]) == 0
    assert len(list(cache.iterdir())) == 2
    tables = capsys.readouterr().out.split("NEW against OLD")
    assert tables[1] == tables[2]


def test_a_damaged_output_is_found_beside_its_entry(cache: Path, tmp_path: Path) -> None:
    write_run(tmp_path / "run", 1)
    run = RunDirectory.open(tmp_path / "run")
    read_samples(run)
    assert len(list(cache.iterdir())) == 1
    file = next((tmp_path / "run/sessions/002-NEW").glob("0*.json"))
    file.write_bytes(file.read_bytes().replace(b"randread", b"randread", 1)[:-2] + b" \n")
    with pytest.raises(DamagedError) as caught:
        read_samples(run)
    assert caught.value.problems[0].where == str(file)


def test_the_least_recently_used_goes_first(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trees = [write_trees(tmp_path / str(number), 2 * FILES)[0] for number in range(3)]
    iops(trees[0])
    (first,) = cache.iterdir()
    monkeypatch.setattr(table_cache, "_MOST_BYTES", 2 * first.stat().st_size + 1000)
    iops(trees[1])
    os.utime(first, ns=(1, 1))
    iops(trees[0])  # used again
    os.utime(table_cache.entry_of(trees[1]), ns=(2, 2))
    iops(trees[2])
    kept = {table_cache.entry_of(trees[number]) for number in (0, 2)}
    assert set(cache.iterdir()) == kept


def test_two_may_write_at_once(cache: Path, tree: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from harness.adapters.results import table_cache, listing;"
        "table_cache.WORTH_IT = 2; listing._MOMENT_NS = -10**10;"
        "from harness.adapters.results.imports import read_results;"
        "print(list(read_results(Path(sys.argv[1]), 'OLD').samples['iops']))"
    )
    every = [
        subprocess.Popen([sys.executable, "-c", program, str(tree)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert len({process.communicate()[0] for process in every}) == 1
    assert [process.returncode for process in every] == [0, 0, 0]
    assert [entry.suffix for entry in cache.iterdir()] == [".samples"]
    assert iops(tree) == fresh(tree)


SETUPS = st.lists(
    st.builds(
        Setup,
        st.dictionaries(st.text(st.characters(codec="utf-8")), st.integers(0, 2**40) | st.just("4k")),
        st.dictionaries(st.text(st.characters(codec="utf-8")), st.just("1")),
    ),
    min_size=1,
    max_size=3,
)


@given(SETUPS, st.data())
def test_a_table_comes_back_to_the_bit(setups: list[Setup], data: st.DataObject) -> None:
    rows = data.draw(st.integers(0, 20))

    def column(elements: st.SearchStrategy[int]) -> list[int]:
        return data.draw(st.lists(elements, min_size=rows, max_size=rows))

    table = FioTable(
        tuple(setups),
        np.array(column(st.integers(0, len(setups) - 1)), dtype=np.int64),
        np.array(column(st.integers(0, 99)), dtype=np.int64),
        np.array(column(st.integers(0, 2**64 - 1)), dtype=np.uint64),
        {
            name: np.array(column(st.integers(0, 2**64 - 1)), dtype=np.uint64).view(np.float64)
            for name in data.draw(st.lists(st.sampled_from(["iops", "ü", "a\nb"]), unique=True))
        },
        ((3, "why\n"),),
    )
    found = table_cache.unpacked(table_cache.packed(table, "key"), "key", 100)
    assert found is not None
    assert (found.setups, found.problems) == (table.setups, table.problems)
    assert list(found.numbers) == list(table.numbers)
    assert found.setup.tolist() == table.setup.tolist()
    assert found.file.tolist() == table.file.tolist()
    assert found.identity.tolist() == table.identity.tolist()
    for name, values in table.numbers.items():
        assert found.numbers[name].tobytes() == values.tobytes(), "NaN too"
    assert table_cache.unpacked(table_cache.packed(table, "key"), "another", 100) is None


def test_a_forged_entry_points_at_nothing_else() -> None:
    """An entry whose checksum is right, and whose rows belong to no file, is none."""
    one = np.array([7], dtype=np.int64)
    table = FioTable((), one * 0, one, one.view(np.uint64), {}, ())
    assert table_cache.unpacked(table_cache.packed(table, "key"), "key", 7) is None


def find_files(root: Path) -> Iterator[str]:
    """What `list_tree` has to find, one directory after another."""
    for directory, names, files in os.walk(root):
        names[:] = sorted(name for name in names if not name.startswith("."))
        yield from (f"{directory}/{name}" for name in sorted(files) if not name.startswith("."))


def test_many_files_are_listed_as_few_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = (
        "b/1.json",
        "a/x/2.json",
        "a/3.json",
        "4.json",
        "c/6.json",
        "a/-8.json",
        "-y/9.json",
        "~z/10.json",
    )
    for name in (*plain, ".hidden/5.json", "a/.7.json", "a/..11.json", "a/..."):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "link").symlink_to(tmp_path / "b")
    (tmp_path / "c/gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "linked").symlink_to(tmp_path / "b/1.json")
    few = list_tree(tmp_path)
    assert list(few.files) == list(find_files(tmp_path))
    assert few.key() == listing_of(list(few.files)).key()
    monkeypatch.setattr("harness.adapters.results.listing._FEW", 1)
    many = list_tree(tmp_path)
    assert list(many.files) == list(few.files)
    assert many.key() == few.key()
    assert not few.is_settled(), "one of them leads nowhere"


def test_equal_names_elsewhere_are_other_files(tree: Path, tmp_path: Path) -> None:
    shutil.copytree(tree, tmp_path / "copy")
    one, other = list_tree(tree), list_tree(tmp_path / "copy")
    assert one.key() != other.key() != listing_of(list(other.files)[:-1]).key()


letters = st.characters(exclude_characters="/\0", exclude_categories=["Cs"])
names = st.text(letters, min_size=1, max_size=8).filter(lambda name: not name.startswith("."))


@given(st.dictionaries(names, st.lists(names, min_size=1, max_size=4, unique=True), max_size=4))
def test_paths_are_the_same_one_by_one_and_all_at_once(tree: dict[str, list[str]]) -> None:
    files = [f"{directory}/{name}" for directory, names in tree.items() for name in names]
    paths = listing_of(files).files
    assert list(paths) == files
    assert [paths[number] for number in range(len(paths))] == files
    assert paths[1:3] == files[1:3]
    where, places = paths.directories_of(np.arange(len(files)))
    assert [places[code] for code in where] == [file.rpartition("/")[0] for file in files]
    for name in ("run.json", *(file.rpartition("/")[2] for file in files[:1])):
        wanted = [file.removesuffix(f"/{name}") for file in files if file.endswith(f"/{name}")]
        assert paths.called(name) == wanted
    with pytest.raises(IndexError):
        paths[len(files)]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what other processes are asked to do, as it is asked; eight files are many."""
    found: list[str] = []
    submit = workers.Workers.submit

    def noted(self: workers.Workers, function: Any, argument: Any) -> Any:
        found.append(getattr(function, "func", function).__name__)
        return submit(self, function, argument)

    monkeypatch.setattr(workers.Workers, "submit", noted)
    monkeypatch.setattr(fio_trees, "WORTH_A_FORK", 8)
    # Where other tests left threads, nothing is forked.
    monkeypatch.setattr(workers, "WORTH_A_FORK", 8)
    monkeypatch.setattr(workers, "WORTH_IT", 8)
    return found


@pytest.mark.usefixtures("cache")
def test_large_trees_begin_to_be_read_before_anybody_asks(tmp_path: Path, asked: list[str]) -> None:
    few, many = write_trees(tmp_path / "few", 6)[0], write_trees(tmp_path / "many", 40)[0]
    write_run(tmp_path / "run", 100)
    with reading_ahead(tmp_path / "nowhere", few, tmp_path / "run", None):
        assert asked == []
    with reading_ahead(few, many) as ahead:
        assert asked == ["read_and_look"]
        found = read_results(many, "OLD", ahead=ahead)
        assert [float(value) for value in found.samples["iops"]] == fresh(many)
        assert read_results(few, "OLD", ahead=ahead).samples["iops"].tolist() == fresh(few)
    asked.clear()
    with reading_ahead(many) as ahead:
        assert asked == ["_scan"], "what is kept is looked at, and not read"
        again = read_results(many, "OLD", ahead=ahead)
    pd.testing.assert_frame_equal(found.samples, again.samples, check_exact=True)
    assert asked == ["_scan"]


def test_what_was_begun_is_left_when_nobody_wants_it(tmp_path: Path, asked: list[str]) -> None:
    tree = write_trees(tmp_path, 40)[0]
    with pytest.raises(KeyError), reading_ahead(tree):
        raise KeyError
    assert asked
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(("files", "processes"), [(1500, 2), (10_000, 7)])
def test_few_files_start_few_of_many_possible_processes(files: int, processes: int) -> None:
    program = (
        "import os, sys; from multiprocessing import active_children\n"
        "from harness.adapters.results import workers\n"
        "os.sched_getaffinity = lambda _pid: set(range(64))\n"
        "with workers.pool() as pool:\n"
        "    pool.fork(int(sys.argv[1]))\n"
        "    print(len(active_children()))\n"
        "print(len(active_children()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(files)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(processes), "0"]


@pytest.mark.parametrize("forked", [True, False])
def test_who_reads_ends_with_who_is_killed(*, forked: bool) -> None:
    program = (
        "import os, sys, time; from harness.adapters.results import workers\n"
        "with workers.pool() as pool:\n"
        "    if sys.argv[1] == 'True': pool.fork(10_000)\n"
        "    begun = [pool.submit(time.sleep, 0.2) for _ in range(4)]\n"
        "    [one.result() for one in begun]\n"
        "    print(*pool._executor._processes, flush=True)\n"
        "    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", program, str(forked)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        readers = [int(pid) for pid in process.stdout.readline().split()]
        process.kill()
    assert readers
    deadline = time.monotonic() + 60
    while any(is_running(reader) for reader in readers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    head = head_of(pid)
    return head is not None and not head.has_ended


@pytest.mark.usefixtures("cache", "asked")
def test_a_tree_that_changed_is_read_again_though_it_was_looked_at_ahead(tmp_path: Path) -> None:
    tree = write_trees(tmp_path, 40)[0]
    with reading_ahead(tree) as ahead:
        read_results(tree, "OLD", ahead=ahead)
    edit(tree)
    with reading_ahead(tree) as ahead:
        found = read_results(tree, "OLD", ahead=ahead).samples["iops"]
    assert [float(value) for value in found] == fresh(tree)


@pytest.mark.parametrize("how", ["gone", "a pipe", "no text", "a link to nothing"])
def test_what_cannot_be_read_is_looked_at_all_the_same(cache: Path, tree: Path, how: str) -> None:
    """Kept or not, the second time says what the first one said."""
    file = min(tree.rglob("*.json"))
    file.unlink()
    if how == "a pipe":
        os.mkfifo(file)
    elif how == "no text":
        file.write_bytes(b"\0" * 100)
    elif how == "a link to nothing":
        file.symlink_to("nowhere")
    first, second = (read_results(tree, "OLD") for _ in range(2))
    pd.testing.assert_frame_equal(first.samples, second.samples, check_exact=True)
    assert first.warnings == second.warnings
    assert len(list(cache.glob("*"))) == (how != "a link to nothing")


@given(st.lists(st.tuples(*[st.integers(-(2**63), 2**64 - 1)] * 5), max_size=3))
def test_any_state_a_file_system_tells_has_a_row(states: list[State]) -> None:
    """Some give inodes numbers that need all 64 bits."""
    rows = states_array(states)
    assert rows.shape == (len(states), 5)
    for row, state in zip(rows.tolist(), states, strict=True):
        assert all((told - kept) % 2**64 == 0 for told, kept in zip(state, row, strict=True))


def test_a_cache_where_nobody_may_look_is_none(
    cache: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    iops(tree)

    def refuse(*_arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "stat", refuse)
    assert not table_cache.has_entry(tree)
    assert cache.name == "samples"
