"""The smallest experiment, and what its tests look at."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

from support import EXPERIMENT

NAME = "tiny"
TINY = EXPERIMENT.replace("name: quick", f"name: {NAME}").replace("blocks: 2", "blocks: 1")


def guests(name: str = NAME) -> list[int]:
    """Return the processes of the guests of one experiment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if f"guest=qemu-ab-{name}-".encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
    return found


def wait_until(condition: object, seconds: float = 120) -> None:
    """Wait for something that has to happen."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def sessions(run: Path) -> list[dict[str, Any]]:
    """Return a run's session records, in order."""
    return [json.loads(path.read_text()) for path in sorted(run.glob("sessions/*/session.json"))]


def accepted(run: Path) -> list[int]:
    """Return the numbers of the iterations that count, in order."""
    return [e["number"] for record in sessions(run) for e in record["iterations"] if e["state"] == "ok"]
