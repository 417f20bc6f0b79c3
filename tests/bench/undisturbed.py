"""Does the harness disturb what it measures? Its CPU time while fio runs, and its telemetry by an A/A run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from bench.figures import Target, Who, Work
from bench.guests import Plan

if TYPE_CHECKING:
    from collections.abc import Iterator

_HARNESS = Path(sys.executable).with_name("harness")
_AGAIN = "OLD-again"
"""What an A/A run calls the baseline's other self."""

_AFTER_S, _BEFORE_S = 2, 2
"""After an iteration's beginning, and before its end, that are not looked at: they are not fio's."""


def measure(*, quick: bool) -> Iterator[Work]:
    """Watch the harness while fio measures; then let its statistics judge its telemetry."""
    with TemporaryDirectory(prefix="bench-") as place:
        yield _cpu(Path(place), seconds=8 if quick else 30)
        yield from _telemetry(Path(place), blocks=1 if quick else 20)


def _cpu(place: Path, *, seconds: int) -> Work:
    experiment = _experiment(place / "cpu.yml", blocks=1, runtime=seconds)
    argv = [str(_HARNESS), "run", str(experiment), "--no-provision", "--run-dir", f"{place}/cpu"]
    shares = []
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if ": up in " in line:
                time.sleep(_AFTER_S)
                began, used = time.monotonic(), _cpu_seconds(process.pid)
                time.sleep(seconds - _AFTER_S - _BEFORE_S)
                shares.append((_cpu_seconds(process.pid) - used) / (time.monotonic() - began))
    assert process.returncode == 0, f"{argv} ended with {process.returncode}"
    return Work(
        "the harness and its telemetry, while fio measures",
        "% of a core",
        {Who.HARNESS: 100 * max(shares)},
        [Target(None, 1.0)],
        f"CPU time of the harness's process within {seconds - _AFTER_S - _BEFORE_S} s of fio, the larger of "
        f"{len(shares)} sessions; the kernel counts it in hundredths of a second.",
    )


def _telemetry(place: Path, *, blocks: int) -> Iterator[Work]:
    experiment = _experiment(place / "half.yml", blocks=blocks, runtime=1)
    script, run = Path(__file__).with_name("half_watched.py"), place / "half"
    argv = [sys.executable, str(script), _AGAIN, "run", str(experiment), "--aa", "--run-dir", str(run)]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    argv = [str(_HARNESS), "compare", str(run), "--format", "json"]
    found = json.loads(subprocess.run(argv, check=True, capture_output=True).stdout)
    yield Work(
        "IOPS without telemetry against with it, an A/A run",
        "% apart",
        {Who.HARNESS: abs(100 * found["pooled"]["change"])},
        (),
        f"{blocks} blocks; change and verdict, by the project's own statistics: {_said(found)}.",
    )


def _said(found: dict[str, Any]) -> str:
    pooled = found["pooled"]
    ends = [pooled["ci_low"], pooled["ci_high"]]
    interval = "no interval" if None in ends else f"[{ends[0]:+.1%}, {ends[1]:+.1%}]"
    return f"{pooled['change']:+.1%}, {interval}, {pooled['verdict']}"


def _experiment(path: Path, *, blocks: int, runtime: int) -> Path:
    plan = Plan(sizes=("4k",), depths=(8,), blocks=blocks)
    path.write_text(plan.experiment(runtime=runtime))
    return path


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
