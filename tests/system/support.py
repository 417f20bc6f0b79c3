"""Real builds and a real guest: by the same command that people use."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from harness.adapters.host.locks import host_holder

ROOT = Path(__file__).resolve().parents[2]

STALLED = "fio measured for "
"""How the harness begins to say that an iteration took longer than it was asked to."""

EXPERIMENT = """\
name: quick
builds:
  OLD: {package: qemu-system-x86, suite: bookworm}
  NEW: {package: qemu-system-x86, suite: bookworm-backports}
baseline: OLD
guest: {memory: 512MiB, vcpus: 1}
matrix: {rw: randread, bs: 4k, iodepth: 8}
protocol: {blocks: 2, runtime: 1s, ramp: 0s}
"""


def harness(*arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run the command as people do."""
    return subprocess.run(
        [sys.executable, "-m", "harness", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        cwd=ROOT,
    )


def wait_for_host(patience: float = 600) -> None:
    """Wait until nobody measures on this host: a run beside another one is refused."""
    deadline = time.monotonic() + patience
    while holder := host_holder():
        assert time.monotonic() < deadline, f"the host is still in use by {holder}"
        time.sleep(1)


def run_alone(*arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run ``harness run`` once whoever measures on this host is done.

    Where the machine stood still so long that fio measured for longer than it was asked to, the iteration
    does not count, and the run goes on once more.
    """
    while True:
        wait_for_host()
        done = harness("run", *arguments, timeout=timeout)
        if done.returncode == 1 and STALLED in done.stderr and "--run-dir" in arguments:
            run = arguments[arguments.index("--run-dir") + 1]
            state = arguments.index("--state-dir") if "--state-dir" in arguments else len(arguments)
            return harness("run", "--resume", run, *arguments[state : state + 2], timeout=timeout)
        if done.returncode != 1 or "this host is in use by" not in done.stderr:
            return done
