"""What a command takes, with all processes that it starts: wall time, CPU time, memory."""

from __future__ import annotations

import ctypes
import os
import statistics
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PR_SET_CHILD_SUBREAPER = 36
_EVERY_S = 0.05


@dataclass(frozen=True, slots=True)
class Taken:
    """What a command took.

    Attributes:
        wall: seconds.
        cpu: seconds of all its processes.
        peak_mb: the most memory of all its processes at a time, what they share counted once; 0 where it
            was not looked at.
    """

    wall: float
    cpu: float
    peak_mb: float = 0.0


def take(
    command: Sequence[str | Path], *, memory: bool = False, environment: Mapping[str, str] | None = None
) -> Taken:
    """Run a command to its end.

    Args:
        command: what to run.
        memory: whether to look at its memory; that disturbs its time.
        environment: variables beside this process's.

    Raises:
        SystemExit: it failed.
    """
    # What it leaves behind becomes this process's child, and its time is counted, too.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before, began = _children_cpu(), time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, env={**os.environ, **(environment or {})}
    ) as process:
        peak = _Peak(process.pid, process) if memory else None
        status = process.wait()
    wall = time.perf_counter() - began
    _reap()
    if status:
        raise SystemExit(f"bench: {' '.join(map(str, command))} failed: {status}")
    return Taken(wall, _children_cpu() - before, peak.most_mb if peak else 0.0)


def _children_cpu() -> float:
    times = os.times()
    return times.children_user + times.children_system


def _reap() -> None:
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def walls_by_turns(commands: Sequence[Sequence[str | Path]], repeats: int) -> list[float]:
    """Return the median wall time of each; by turns, so that what disturbs one disturbs all."""
    took: list[list[float]] = [[] for _ in commands]
    for _ in range(repeats + 1):
        for command, times in zip(commands, took, strict=True):
            times.append(take(command).wall)
    # The first of each finds cold disks.
    return [statistics.median(times[1:]) for times in took]


class _Peak:
    """Looks at the memory of a process and of its children until it ends."""

    def __init__(self, pid: int, process: subprocess.Popen[bytes]) -> None:
        self.most_mb = 0.0
        self._pid, self._process = pid, process
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while self._process.returncode is None:
            self.most_mb = max(self.most_mb, _memory_mb(self._pid))
            time.sleep(_EVERY_S)


def _memory_mb(pid: int) -> float:
    """Return the proportional memory of a process and of all below it."""
    place = Path("/proc") / str(pid)
    try:
        lines = (place / "smaps_rollup").read_text().splitlines()
        children = [child for task in (place / "task").iterdir() for child in _children(task)]
    except OSError:  # it has ended
        return 0.0
    own = next((float(line.split()[1]) for line in lines if line.startswith("Pss:")), 0.0)
    return own / 1000 + sum(_memory_mb(child) for child in children)


def _children(task: Path) -> list[int]:
    try:
        return [int(child) for child in (task / "children").read_text().split()]
    except OSError:
        return []
