"""What a disturbed run is at: seen from outside, in its run directory and its processes."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fault_plan import Fault, Phase
from fault_world import CELLS
from tiny import guests

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fault_world import Pace

LOOK_SECONDS = 0.01


@dataclass(slots=True)
class Watch:
    """One start of the harness, watched.

    Attributes:
        run: its run directory.
        ended: whether the process has ended.
        pace: how long things take undisturbed.
    """

    run: Path
    ended: Callable[[], bool]
    pace: Pace
    _before: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._before = {name: len(record["boots"]) for name, record in self._records().items()}

    def reaches(self, fault: Fault) -> bool:
        """Wait for the moment of a fault; return False when the harness has ended before."""
        if fault.phase is Phase.ANY:
            return self._sleep(fault.after * self.pace.run_seconds)
        scale = self.pace.boot_seconds if fault.phase is Phase.BOOTING else 1.0
        return self._until(lambda: self._is_at(fault)) and self._sleep(fault.after * scale)

    def _is_at(self, fault: Fault) -> bool:
        if fault.phase is Phase.REPORTING:
            return self._state() not in {"running", None}
        booted = self._booted()
        if len(booted) <= fault.session:
            return False
        record, directory = booted[fault.session]
        done = [entry for entry in record["iterations"] if entry["boot"] == len(record["boots"]) - 1]
        if fault.phase is Phase.BOOTING:
            return bool(guests()) or record["state"] != "running"
        if record["boots"][-1]["ready_seconds"] is None:
            return False
        if fault.phase is Phase.WRITING:
            # From the moment on that something of it is there, under whatever name.
            return any(directory.glob("*.json*.tmp")) or bool(done)
        return fault.phase is Phase.MEASURING or _is_over(record)

    def _booted(self) -> list[tuple[dict[str, Any], Path]]:
        """Return the sessions that were booted by this start of the harness, in order of their number."""
        return [
            (record, self.run / "sessions" / name)
            for name, record in self._records().items()
            if len(record["boots"]) > self._before.get(name, 0)
        ]

    def _records(self) -> dict[str, dict[str, Any]]:
        return {path.parent.name: json.loads(path.read_text()) for path in records_of(self.run)}

    def _state(self) -> str | None:
        with contextlib.suppress(OSError):
            return str(json.loads((self.run / "run.json").read_text())["state"])
        return None

    def _sleep(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        return self._until(lambda: time.monotonic() >= deadline)

    def _until(self, condition: Callable[[], bool]) -> bool:
        while not condition():
            if self.ended():
                return False
            time.sleep(LOOK_SECONDS)
        return not self.ended()


def _is_over(record: dict[str, Any]) -> bool:
    """Return whether nothing is left to be measured in a session's last boot, which ends now."""
    last = len(record["boots"]) - 1
    ran = {
        entry["number"] for entry in record["iterations"] if entry["boot"] == last or entry["state"] == "ok"
    }
    return len(ran) == CELLS or record["state"] != "running"


def records_of(run: Path) -> list[Path]:
    """Return the files of a run's session records, in order."""
    return sorted(run.glob("sessions/*/session.json"))
