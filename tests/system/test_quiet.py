"""A run that tunes this very host: put back at its end, by its guard, by the next start; drift is named."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import ROOT, harness, wait_for_host
from tiny import NAME, TINY, guests, sessions, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest_plugins = ["tiny_fixtures"]
pytestmark = pytest.mark.system

QUIET = "quiet"
THP = Path("/sys/kernel/mm/transparent_hugepage/enabled")
KSM = Path("/sys/kernel/mm/ksm/run")


def chosen() -> str:
    return THP.read_text().partition("[")[2].partition("]")[0]


@pytest.fixture(autouse=True)
def noisy() -> Iterator[None]:
    """A host whose huge pages are to be tuned; as it was before afterwards."""
    assert os.access(THP, os.W_OK), (
        f"{THP} cannot be changed here: these tests need root, outside a container"
    )
    wait_for_host()
    before, ksm = chosen(), KSM.read_text()
    THP.write_text("madvise")
    yield
    end_guests()
    THP.write_text(before)
    KSM.write_text(ksm)


def start(experiment: Path, state: Path, run: Path) -> subprocess.Popen[str]:
    options = ["--no-provision", "--accel", "tcg", "--state-dir", str(state), "--run-dir", str(run)]
    return subprocess.Popen(
        [sys.executable, "-m", "harness", "run", str(experiment), *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def command_line(pid: int) -> bytes:
    """Return a process's arguments; none of one that has just ended, as what libvirt asks a QEMU does."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def kill(process: subprocess.Popen[str], *, guard: bool) -> None:
    """Kill a run as a power cut would; with its guard, or without."""
    children = [
        int(pid)
        for task in Path(f"/proc/{process.pid}/task").iterdir()
        for pid in (task / "children").read_text().split()
    ]
    guards = [pid for pid in children if b"\0guard\0" in command_line(pid)]
    assert len(guards) == 1
    if guard:
        os.kill(guards[0], signal.SIGKILL)
    process.kill()
    process.communicate()
    end_guests()


def end_guests() -> None:
    for pid in guests(QUIET):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_whoever_is_left_puts_the_host_back(place: Path, fresh_state: Path) -> None:
    experiment, snapshot = place / "tuned.yml", fresh_state / "snapshot" / "run.json"
    experiment.write_text(TINY.replace(f"name: {NAME}", f"name: {QUIET}") + "tuning: thp\n")
    manifests = fresh_state / "manifests"
    shutil.copy(manifests / f"{NAME}.json", manifests / f"{QUIET}.json")

    # The run is killed: its guard puts it back.
    process = start(experiment, fresh_state, place / "first")
    wait_until(lambda: chosen() == "never" or process.poll() is not None)
    kill(process, guard=False)
    wait_until(lambda: chosen() == "madvise" and not snapshot.exists())

    # Both are killed: it stays, is pointed out, and the next start puts it back.
    process = start(experiment, fresh_state, place / "second")
    wait_until(lambda: chosen() == "never" or process.poll() is not None)
    kill(process, guard=True)
    assert (chosen(), snapshot.exists()) == ("never", True)
    told = harness("doctor", "--state-dir", str(fresh_state)).stdout
    assert "a run that was killed left changed: transparent_hugepage (since " in told

    process = start(experiment, fresh_state, place / "run")
    wait_until(lambda: (place / "run").exists() and len(sessions(place / "run")) > 1)
    # Somebody changes another setting, before or while the second session measures.
    KSM.write_text("0" if KSM.read_text().strip() == "2" else "2")
    out, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert "a snapshot is waiting, of a run that was killed: transparent_hugepage" in said
    assert "put transparent_hugepage back to madvise" in said
    assert (chosen(), snapshot.exists()) == ("madvise", False)
    assert "warning: the host changed: ksm changed from " in out
    assert guests(QUIET) == []
    assert re.search("ksm changed from . to . (before|during) session 001-", out)
    shown = harness("show", str(place / "run")).stdout
    assert "tuned     transparent_hugepage never (was madvise)" in shown
    assert "changed   ksm changed from " in shown
