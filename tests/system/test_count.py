"""Instructions really counted: with real builds, callgrind, and the command that people use."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import ROOT, harness
from tiny import wait_until

from harness.adapters.guestless.callgrind import Valgrind
from harness.adapters.guestless.coroutine_load import run_counted
from harness.adapters.waiting import Stop
from harness.adapters.workspace import Workspace
from harness.core.counting.callgrind import parse_total
from harness.core.model import CoroutineTest
from source_builds import Builder
from stand_in import repository

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.system

BUILDS = """\
builds:
  OLD: {package: qemu-system-x86, suite: bookworm}
  NEW: {package: qemu-system-x86, suite: bookworm-backports}
baseline: OLD
workload: instructions
"""
# Sequential reads, 80 a kick: the figures of docs/instruments.md.
SEQUENTIAL = f"""\
name: count
{BUILDS}
disk: {{backend: null-co, queue_size: 256}}
instructions: {{repeats: 2, requests: 1600}}
matrix: {{rw: read, bs: 4k, iodepth: 80}}
"""
KNOWN = {"OLD": 4318, "NEW": 22680}
KNOWN_BENCH = {"OLD": 3503, "NEW": 4110}


def write(directory: Path, text: str) -> str:
    path = directory / "experiment.yml"
    path.write_text(text)
    return str(path)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The host's own state directory, where the builds are; with every experiment's manifest."""
    done = harness("provision", write(tmp_path_factory.mktemp("provision"), SEQUENTIAL), timeout=900)
    assert done.returncode == 0, done.stderr
    manifest = Workspace.at().manifest("count")
    assert json.loads(manifest.read_text())["guest_image"] is None, "no guest is needed, none is made"
    return manifest


@dataclass(frozen=True)
class Counted:
    """A real run that was killed after its first count, and gone on with.

    Attributes:
        kept: when each count was written that was there when the run was killed.
        table: what the resumed run printed.
    """

    run: Path
    kept: dict[Path, int]
    table: str


@pytest.fixture(scope="module")
def counted(state: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counted]:
    """One real run with its table."""
    assert state.exists()
    directory = tmp_path_factory.mktemp("counted")
    run = directory / "run"
    kill_after_the_first_count(write(directory, SEQUENTIAL), run)
    kept = {path: path.stat().st_mtime_ns for path in run.glob("counts/*/count.json")}
    assert kept
    # The kernel ends them; a process of such a size takes a moment to go.
    wait_until(lambda: not counted_processes(run), 30)
    done = harness("run", "--resume", str(run))
    assert done.returncode == 0, done.stderr
    yield Counted(run, kept, done.stdout)
    shutil.rmtree(directory)


def kill_after_the_first_count(experiment: str, run: Path) -> None:
    argv = [sys.executable, "-m", "harness", "run", experiment, "--no-provision", "--run-dir", str(run)]

    def attempt() -> bool:
        """Return False when somebody measured on this host."""
        with subprocess.Popen(argv, stderr=subprocess.PIPE, cwd=ROOT, text=True) as process:
            wait_until(lambda: any(run.glob("counts/*/count.json")) or process.poll() is not None, 120)
            process.kill()
            _out, err = process.communicate()
        return "is in use by" not in err

    wait_until(attempt, 600)


def counted_processes(run: Path) -> list[str]:
    """Return the processes that a run's counts left behind."""
    argv = [json.loads(path.read_text())["argv"][0] for path in run.glob("counts/*/count.json")]
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if "--tool=callgrind" in words and set(argv) & set(words):
            found.append(" ".join(words))
    return found


def run_when_free(experiment: str, run: Path, *more: str) -> subprocess.CompletedProcess[str]:
    done: list[subprocess.CompletedProcess[str]] = []

    def attempt() -> bool:
        done.append(harness("run", experiment, "--no-provision", "--run-dir", str(run), *more))
        return "is in use by" not in done[-1].stderr

    wait_until(attempt, 600)
    return done[-1]


def cells(run: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(harness("compare", str(run), "--json").stdout)["cells"]
    return found


def test_the_known_regression_is_found_to_the_percent(counted: Counted) -> None:
    run = counted.run
    (cell,) = cells(run)
    assert cell["verdict"] == "costlier"
    for variant, side in (("OLD", "baseline"), ("NEW", "contender")):
        assert abs(cell[side] / KNOWN[variant] - 1) < 0.02, cell
    # The promise of this ruler, on whatever else the host does meanwhile.
    assert cell["resolution"] < 0.005
    assert "costlier" in counted.table
    commit = harness("compare", str(run), "--format", "commit").stdout
    assert re.fullmatch(
        r"  RW BLKSIZE IODEPTH  OLD   NEW CHANGE\n"
        r"read      4k      80 4[0-9]{3} 2[0-9]{4} \+4[0-9]{2}\.[0-9]%\n",
        commit,
    ), commit


def test_the_culprit_is_named(counted: Counted) -> None:
    text = harness("compare", str(counted.run), "--explain").stdout
    first = text.splitlines()[5].split()
    assert "memset" in first[3], text
    assert first[-1].startswith("virtqueue_"), text
    assert 0.6 < float(first[1]) / KNOWN["NEW"] < 0.9, "most of NEW's instructions"
    assert "`rep stos`" in text
    assert "dbgsym" in text, "the packages are stripped"


def test_every_count_is_kept_as_callgrind_wrote_it(counted: Counted) -> None:
    run = counted.run
    records = [json.loads(path.read_text()) for path in sorted(run.glob("counts/*/count.json"))]
    assert len(records) == 10
    for record in records:
        (thread,) = [thread for thread in record["threads"] if thread["counted"]]
        assert thread["name"] == "IO io0"
        assert "virtio-blk-pci" in " ".join(record["argv"])
    shown = harness("show", str(run)).stdout
    assert "10 of 10 counts" in shown


def test_a_run_that_was_killed_went_on_where_it_was(counted: Counted) -> None:
    now = {path: path.stat().st_mtime_ns for path in counted.kept}
    assert now == counted.kept, "what was counted is not counted again"


def test_qemu_img_is_counted_too_and_three_builds_are_a_trend(state: Path, tmp_path: Path) -> None:
    """OLD, NEW and OLD again: up, and down to where it was."""
    text = SEQUENTIAL.replace("80", "64").replace("repeats: 2", "load: qemu-img, repeats: 2")
    third = "  AGAIN: {package: qemu-system-x86, suite: bookworm}\nbaseline:"
    text = text.replace("name: count", "name: count-trend").replace("baseline:", third)
    assert state.exists()
    experiment, run = write(tmp_path, text), tmp_path / "run"
    provisioned = harness("provision", experiment, timeout=900)
    assert provisioned.returncode == 0, provisioned.stderr
    done = run_when_free(experiment, run)
    assert done.returncode == 0, done.stderr
    new, again = cells(run)
    for cell, side, known in (
        (new, "baseline", "OLD"),
        (new, "contender", "NEW"),
        (again, "contender", "OLD"),
    ):
        assert abs(cell[side] / KNOWN_BENCH[known] - 1) < 0.02, cell
    assert new["resolution"] < 0.001
    trend = json.loads(harness("compare", str(run), "--trend", "--json").stdout)
    (followed,) = trend["cells"]
    assert [point["verdict"] for point in followed["points"]] == [None, "costlier", "cheaper"]
    assert abs(followed["points"][-1]["since_baseline"]) < 0.001
    assert [(step["before"], step["build"]) for step in trend["steps"]] == [("OLD", "NEW"), ("NEW", "AGAIN")]


def test_packed_rings_indirect_descriptors_and_a_file(state: Path, tmp_path: Path) -> None:
    """On the other machine, from a qcow2 image that QEMU's workers read."""
    text = SEQUENTIAL.replace("repeats: 2", "repeats: 1, ring: packed, indirect: true")
    text = text.replace("iodepth: 80", "iodepth: 100, machine: pc").replace("rw: read", "rw: randread")
    text = text.replace("backend: null-co", "backend: file, size: 16MiB, aio: threads, format: qcow2")
    assert state.exists()
    done = run_when_free(write(tmp_path, text), tmp_path / "run")
    assert done.returncode == 0, done.stderr
    (cell,) = cells(tmp_path / "run")
    assert cell["machine"] == "pc"
    assert cell["contender"] > cell["baseline"] > KNOWN["OLD"], "qcow2 on a file costs more than null-co"


def test_an_emulator_without_qtest_fails_with_the_cause(state: Path, tmp_path: Path) -> None:
    manifest = json.loads(state.read_text())
    fake = tmp_path / "qemu-system-x86_64"
    fake.write_text('#!/bin/sh\necho "qemu-system-x86_64: -qtest: invalid option" >&2\nexit 1\n')
    fake.chmod(0o755)
    for build in manifest["builds"].values():
        build["emulator"] = str(fake)
    own = Workspace.at(tmp_path / "state").manifest("count")
    own.parent.mkdir(parents=True)
    own.write_text(json.dumps(manifest))
    experiment = write(tmp_path, SEQUENTIAL.replace("repeats: 2", "repeats: 1"))
    done = run_when_free(experiment, tmp_path / "run", "--state-dir", str(tmp_path / "state"))
    assert done.returncode == 1, done.stdout
    assert "this QEMU has no -qtest option" in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads((tmp_path / "run" / "run.json").read_text())["state"] == "failed"


def test_benchmarks_of_coroutines_are_counted_to_the_instruction(tmp_path: Path) -> None:
    """On a stand-in of QEMU's source, whose loop of 128 rounds costs the same each time."""
    tree = repository(tmp_path / "qemu")
    made = Builder(tmp_path / "state", further=("tests/unit/test-coroutine",)).make(git=str(tree))
    emulator = str(made["directory"] / "bin" / "qemu-system")
    few, middle, many = (
        _counted(emulator, iterations, tmp_path / str(iterations)) for iterations in (400, 800, 1200)
    )
    assert middle - few == pytest.approx(many - middle, rel=0.002)
    assert 128 * 3 <= (many - few) / 800 <= 128 * 12


def _counted(emulator: str, iterations: int, directory: Path) -> int:
    directory.mkdir()
    test, valgrind = CoroutineTest.LIFECYCLE, Valgrind.find()
    done = run_counted(test, iterations, emulator, valgrind, directory, stop=Stop(), timeout=60)
    return sum(parse_total(path.read_text()) for path in done.outputs.values())
