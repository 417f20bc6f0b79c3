"""Real builds and a real guest: by the same command that people use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

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
