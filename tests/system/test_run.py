"""The whole way: two builds, libvirt, guests, fio, run directory, table; and what goes wrong on it."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from support import EXPERIMENT, ROOT, harness
from tiny import accepted, guests, sessions, wait_until

from chromium import chromium
from harness.adapters.results.unpacking import unpacked
from harness.adapters.workspace import default_state_directory
from harness.core.records import FORMAT_VERSION

pytestmark = pytest.mark.system


def emulators() -> list[int]:
    return guests("quick")


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "harness", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def measuring(run: Path) -> bool:
    """Return whether a session's guest is up and its iteration under way."""
    return any(
        record["state"] == "running" and record["boots"][-1]["ready_seconds"] is not None
        for record in sessions(run)
    )


def boots(run: Path) -> int:
    return sum(len(record["boots"]) for record in sessions(run))


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Provisioned by the same command that people use; a host that cannot be is a failure, not a skip."""
    path = tmp_path_factory.mktemp("experiment") / "tiny.yml"
    path.write_text(EXPERIMENT)
    done = harness("provision", str(path), timeout=900)
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture(scope="module")
def finished(experiment: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    run = tmp_path_factory.mktemp("runs") / "run"
    done = harness("run", str(experiment), "--run-dir", str(run))
    assert done.returncode == 0, done.stderr
    return run, done.stdout


def test_the_table_has_both_builds(finished: tuple[Path, str]) -> None:
    _run, out = finished
    assert "      RW BLKSIZE IODEPTH" in out
    assert "QEMU emulator version 7.2" in out
    assert "QEMU emulator version 10.0" in out
    accel = json.loads((_run / "run.json").read_text())["accel"]
    assert ("TCG" in out) == (accel == "tcg")


def test_each_session_ran_the_build_that_was_asked_for(finished: tuple[Path, str]) -> None:
    run, _out = finished
    head = json.loads((run / "run.json").read_text())
    assert (head["format_version"], head["state"]) == (FORMAT_VERSION, "finished")
    directories = sorted((run / "sessions").iterdir())
    assert len(directories) == 4
    for directory in directories:
        assert (directory / "domain.xml").exists()
        assert (directory / "console.log").read_text()
        record = json.loads((directory / "session.json").read_text())
        facts = record["boots"][0]["facts"]
        assert facts["sha256"] == head["builds"][record["variant"]]["sha256"]
        assert facts["guest_fio"].startswith("fio-")
        assert any("virtio-blk-pci" in argument for argument in facts["argv"])


def test_the_numbers_are_those_of_the_raw_json(finished: tuple[Path, str]) -> None:
    run, _out = finished
    iops: dict[str, list[float]] = {"OLD": [], "NEW": []}
    for record in map(Path, run.glob("sessions/*/session.json")):
        session = json.loads(record.read_text())
        raw = json.loads((record.parent / session["iterations"][0]["file"]).read_text())
        iops[session["variant"]].append(raw["jobs"][0]["read"]["iops"])
    done = harness("compare", str(run), "--format", "json")
    (cell,) = json.loads(done.stdout)["cells"]
    assert cell["baseline"] == pytest.approx(statistics.median(iops["OLD"]))
    assert cell["contender"] == pytest.approx(statistics.median(iops["NEW"]))


@pytest.mark.browser
def test_the_report_of_a_real_run_opens(finished: tuple[Path, str], tmp_path: Path) -> None:
    run, _out = finished
    page = tmp_path / "report.html"
    assert harness("report", str(run), "-o", str(page)).returncode == 0
    cells = json.loads(harness("compare", str(run), "--json").stdout)["cells"]
    with chromium(tmp_path / "profile") as browser:
        browser.emulate(width=1200)
        browser.open(page)
        shown = browser.run(
            "return [...document.querySelectorAll('[data-table] [data-column=baseline] data')]"
            ".map((data) => Number(data.value))"
        )
        drawn = browser.run("return [...document.querySelectorAll('section:has(svg)')].map((s) => s.id)")
        assert browser.complaints() == []
        assert set(browser.requests()) == {page.as_uri()}
    assert shown == [cell["baseline"] for cell in cells]
    assert drawn == ["change", "iodepth", "latency", "sessions", "mappings"]


def test_nothing_is_left_running(finished: tuple[Path, str]) -> None:
    assert finished
    assert emulators() == []


def test_show_tells_what_happened(finished: tuple[Path, str]) -> None:
    summary = json.loads(harness("show", str(finished[0]), "--json").stdout)
    assert (summary["planned"], summary["accepted"]) == (4, 4)


def test_the_host_and_its_accelerator_are_remembered(finished: tuple[Path, str]) -> None:
    assert finished
    done = harness("doctor", "--json")
    kvm = next(finding for finding in json.loads(done.stdout) if finding["what"] == "KVM")
    assert "not tried" not in kvm["found"]


def test_interrupt_keeps_what_was_measured_and_resume_finishes(experiment: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start("run", str(experiment), "--no-provision", "--run-dir", str(run))
    wait_until(lambda: run.exists() and accepted(run))
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    assert emulators() == []
    kept = accepted(run)
    assert kept
    assert json.loads((run / "run.json").read_text())["state"] == "interrupted"
    second = harness("run", str(experiment), "--no-provision", "--run-dir", str(run))
    assert second.returncode == 2, "a run directory that exists is not overwritten"
    done = harness("run", "--resume", str(run))
    assert done.returncode == 0, done.stderr
    assert accepted(run) == [0, 1, 2, 3]


def test_killed_harness_and_killed_guest(experiment: Path, tmp_path: Path) -> None:
    """The harness is killed, its guest is cleaned up by the next start; there a guest is killed in turn."""
    run, slow = tmp_path / "run", tmp_path / "slow.yml"
    # What is done before the harness is killed takes seconds: its first guest has to be there as long.
    slow.write_text(experiment.read_text().replace("runtime: 1s", "runtime: 8s"))
    process = start("run", str(slow), "--no-provision", "--run-dir", str(run))
    wait_until(emulators)
    rival = harness("run", str(experiment), "--no-provision", "--run-dir", str(tmp_path / "rival"))
    assert rival.returncode == 1
    assert f"process {process.pid}" in rival.stderr
    doctor = harness("doctor")
    assert doctor.returncode == 0, doctor.stdout
    assert f"a run is going on: process {process.pid}" in doctor.stdout
    table = harness("compare", str(run))
    assert (table.returncode, table.stdout) == (2, "")
    assert "is still being measured" in table.stderr
    process.kill()
    process.communicate()
    assert emulators(), "a killed harness cannot clean up"
    assert "interrupted (cut off: " in harness("show", str(run)).stdout
    orphans, before = emulators(), boots(run)
    resumed = start("run", "--resume", str(run))
    wait_until(lambda: boots(run) > before and measuring(run))
    assert not set(orphans) & set(emulators())
    victim = emulators()[0]
    os.kill(victim, signal.SIGKILL)
    out, err = resumed.communicate(timeout=200)
    assert resumed.returncode == 1
    assert "stopped by itself" in err
    assert "left behind by a run that was killed" in err
    assert "RW BLKSIZE IODEPTH" in out, "the table is printed all the same"
    assert len(accepted(run)) == 3
    assert emulators() == []
    (twice,) = (path.parent for path in run.glob("sessions/*/domain-boot1.xml"))
    assert (twice / "domain.xml").exists(), "what the boot left that was killed stays"
    assert "console-boot1.log" in (twice / "domain-boot1.xml").read_text()
    assert (twice / "console-boot1.log").read_text()


def test_a_guest_that_does_not_boot_stops_the_run(experiment: Path, tmp_path: Path) -> None:
    manifest = Path("/var/lib/qemu-ab-harness/manifests/quick.json")
    if "HARNESS_STATE_DIR" in os.environ:
        manifest = Path(os.environ["HARNESS_STATE_DIR"]) / "manifests" / "quick.json"
    kernel = json.loads(manifest.read_text())["guest_image"]["kernel"]
    assert experiment.exists()
    empty = tmp_path / "empty.cpio"
    empty.write_bytes(b"")
    path = tmp_path / "x.yml"
    path.write_text(
        EXPERIMENT.replace("vcpus: 1", f"vcpus: 1, kernel: {kernel}, initrd: {empty}").replace(
            "baseline: OLD", "baseline: OLD\naccel: tcg\ntimeouts: {boot: 20s}"
        )
    )
    done = harness("run", str(path), "--no-provision", "--run-dir", str(tmp_path / "run"))
    assert done.returncode == 1
    assert "its console ends:" in done.stderr
    assert "in a row gave nothing" in done.stderr


def test_a_run_travels_as_one_file_that_tells_nobodys_name(
    finished: tuple[Path, str], tmp_path: Path
) -> None:
    run, _out = finished
    bundle = tmp_path / "run.tar.zst"
    packed = harness("export", str(run), "--bundle", str(bundle), "--anonymous", "--logs")
    assert packed.returncode == 0, packed.stderr
    ours, theirs = (harness("compare", str(path)) for path in (run, bundle))
    assert theirs.stdout == ours.stdout
    with unpacked(bundle) as directory:
        files = [file.read_text() for file in directory.rglob("*") if file.is_file()]
    state = default_state_directory()
    assert len(files) > 10
    for private in (str(run), str(state), f"{Path.home()}/"):
        assert not any(private in text for text in files), private
