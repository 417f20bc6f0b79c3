"""QEMUs that die, for real: in the middle of a measurement, at once, and for lack of a feature."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, harness
from tiny import NAME, TINY, guests, sessions, wait_until

pytest_plugins = ["tiny_fixtures"]
pytestmark = [pytest.mark.system, pytest.mark.usefixtures("provisioned", "no_guest_left")]


def measuring(run: Path) -> bool:
    """Return whether a guest is up and its fio under way."""
    return run.exists() and any(
        record["state"] == "running" and record["boots"][-1]["ready_seconds"] is not None
        for record in sessions(run)
    )


def test_a_qemu_killed_in_mid_fio_is_evidence_and_the_run_goes_on(place: Path) -> None:
    run, experiment = place / "run", place / "experiment.yml"
    experiment.write_text(TINY.replace("runtime: 1s", "runtime: 4s").replace("blocks: 1", "blocks: 2"))
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", "run", str(experiment), "--no-provision", "--run-dir", str(run)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: measuring(run))
    os.kill(guests()[0], signal.SIGSEGV)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 1, err
    first, *others = sessions(run)
    assert (first["state"], {other["state"] for other in others}) == ("crashed", {"done"})
    crash = first["boots"][0]["crash"]
    assert (crash["signal"], crash["qemu_failed"]) == ("SIGSEGV", True)
    assert crash["iteration"] == first["iterations"][0]["number"]
    assert any("init:" in line for line in crash["console"])
    assert crash["mappings"]["vmas"] > 100
    assert first["iterations"][0]["state"] == "crashed"
    assert f"{first['variant']} crashed 1x" in out
    assert "QEMU died: SIGSEGV" in err
    # Asked again, the same is said; and what is missing can still be measured.
    again = harness("compare", str(run))
    assert f"{first['variant']} crashed 1x" in again.stdout
    assert harness("run", "--resume", str(run)).returncode == 0
    assert sessions(run)[0]["state"] == "done"
    assert f"{first['variant']} crashed 1x" in harness("compare", str(run)).stdout


FALSE_QEMU = """\
#include <stdio.h>
#include <string.h>
int main(int argc, char **argv)
{
    if (argc > 1 && strstr(argv[1], "version")) {
        puts("QEMU emulator version 9.9.9");
        return 0;
    }
    fputs("qemu: this one ends at once\\n", stderr);
    return 3;
}
"""


def use_build(manifest: Path, name: str, binary: Path, emulator: Path) -> None:
    """Put a binary in the place of a provisioned build."""
    record = json.loads(manifest.read_text())
    sha256 = hashlib.sha256(binary.read_bytes()).hexdigest()
    record["builds"][name] |= {"binary": str(binary), "emulator": str(emulator), "sha256": sha256}
    manifest.write_text(json.dumps(record))


def run_fails(place: Path, state: Path, text: str = TINY) -> tuple[dict[str, Any], str]:
    """Run with a NEW that is good for nothing; return its session and what was said."""
    experiment = place / "experiment.yml"
    experiment.write_text(text)
    run = place / "run"
    options = ("--no-provision", "--accel", "tcg", "--run-dir", str(run), "--state-dir", str(state))
    done = harness("run", str(experiment), *options)
    assert done.returncode == 1, done.stderr
    (new,) = (record for record in sessions(run) if record["variant"] == "NEW")
    (old,) = (record for record in sessions(run) if record["variant"] == "OLD")
    assert (old["state"], new["state"]) == ("done", "failed")
    return new, done.stderr


def test_a_qemu_that_exits_at_once_is_named_with_its_own_words(place: Path, fresh_state: Path) -> None:
    source, binary = place / "qemu.c", place / "qemu-false"
    source.write_text(FALSE_QEMU)
    subprocess.run(["gcc", "-o", str(binary), str(source)], check=True)
    use_build(fresh_state / "manifests" / f"{NAME}.json", "NEW", binary, binary)
    session, said = run_fails(place, fresh_state)
    assert "NEW: the guest could not be started" in session["boots"][0]["failure"]
    assert "this one ends at once" in said


def test_a_qemu_without_iothreads_is_named_with_its_own_words(place: Path, fresh_state: Path) -> None:
    """The real binary, in which the type of IOThreads has another name."""
    manifest = fresh_state / "manifests" / f"{NAME}.json"
    build = json.loads(manifest.read_text())["builds"]["NEW"]
    binary, launcher = place / "qemu-system-x86_64", place / "launcher"
    data = Path(build["binary"]).read_bytes()
    assert b"iothread\0" in data
    binary.write_bytes(data.replace(b"iothread\0", b"iothreaX\0"))
    binary.chmod(0o755)
    launcher.write_text(Path(build["emulator"]).read_text().replace(build["binary"], str(binary)).replace(
        'exec "$prefix/usr/bin/qemu-system-x86_64"', f'exec "{binary}"'))  # fmt: skip
    shutil.copymode(build["emulator"], launcher)
    use_build(manifest, "NEW", binary, launcher)
    text = TINY.replace("matrix:", "disk: {iothreads: 1}\nmatrix:")
    session, said = run_fails(place, fresh_state, text)
    assert "IOThreads not supported for this QEMU" in session["boots"][0]["failure"]
    assert "NEW: the guest could not be started" in said
