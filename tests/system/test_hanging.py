"""What hangs, for real: a QEMU that stops answering, and a playbook that waits for ever."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import ROOT, harness
from tiny import NAME, TINY, accepted, guests, sessions, wait_until

from stand_in import runs

pytest_plugins = ["tiny_fixtures"]
pytestmark = [pytest.mark.system, pytest.mark.usefixtures("provisioned", "no_guest_left")]

HASTY = "timeouts: {agent: 20s, task: 30s}\n"


def measured(run: Path) -> bool:
    """Return whether the guest of the first session is up."""
    return any(record["boots"][-1]["ready_seconds"] for record in sessions(run)) if run.exists() else False


def test_a_guest_that_falls_silent_is_ended_its_session_repeated_and_the_reader_told(place: Path) -> None:
    """SIGSTOP: libvirt, the agent and fio answer nobody, and asking QEMU to end does not help."""
    run, experiment = place / "run", place / "tiny.yml"
    # Long enough for the guest to be there still when it is stopped.
    longer = TINY.replace("runtime: 1s", "runtime: 5s")
    assert longer != TINY
    experiment.write_text(longer.replace("baseline: OLD", "accel: tcg\nbaseline: OLD") + HASTY)
    argv = [sys.executable, "-m", "harness", "run", str(experiment), "--no-provision", "--run-dir", str(run)]
    with subprocess.Popen(
        argv, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        try:
            wait_until(lambda: measured(run) or process.poll() is not None, 400)
            (guest,) = guests()
            os.kill(guest, signal.SIGSTOP)
            out, err = process.communicate(timeout=600)
        finally:
            process.kill()
    assert process.returncode == 0, err
    assert "FAILED, and is tried again: " in err
    assert "its console ends:" in err
    first, *_others = sessions(run)
    assert [boot["cause"] for boot in first["boots"]] == ["first", "repeated"]
    assert "did not" in first["boots"][0]["failure"] or "agent" in first["boots"][0]["failure"]
    assert accepted(run) == [0, 1]
    assert "warning: 1 session was repeated, after the host had failed it: " in out
    assert guest not in guests()
    shown = harness("show", str(run)).stdout
    assert "repeated  000-" in shown


HANGS = """\
#!/bin/sh
case "$*" in *-version*) echo "QEMU emulator version 9.9.9"; exit 0;; esac
trap '' TERM
echo $$ > "$0.pid"
while :; do sleep 1; done
"""


def test_a_playbook_that_hangs_is_ended_with_what_it_was_at(place: Path) -> None:
    """A QEMU of the user's that hangs when it is asked what it is."""
    emulator = place / "qemu-system-x86_64"
    emulator.write_text(HANGS)
    emulator.chmod(0o755)
    experiment = place / "hangs.yml"
    builds = "".join(f"  {name}: {{path: {emulator}}}\n" for name in ("OLD", "NEW"))
    text = re.sub(r"(?<=builds:\n).*(?=baseline)", builds, TINY, flags=re.DOTALL)
    experiment.write_text(text.replace(f"name: {NAME}", "name: hangs") + HASTY)
    done = harness("provision", str(experiment), timeout=300)
    assert done.returncode == 1, done.stderr
    assert "made no progress for 30 s; the last that ended:\n  " in done.stderr
    assert "error: task '" in done.stderr
    assert "timeouts.task" in done.stderr
    assert "Traceback" not in done.stderr
    # It does not listen to SIGTERM, and is gone all the same.
    pid = Path(f"{emulator}.pid").read_text().strip()
    deadline = time.monotonic() + 10
    while runs(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    left = runs(pid)
    if left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    assert not left
