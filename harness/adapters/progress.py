"""Whether a playbook still goes on: what it did last, and how long ago that was."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.core.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable

_SHOWN_TASKS = 5


@dataclass(slots=True)
class Progress:
    """Hears what a playbook does, and says when it has done nothing for too long.

    Attributes:
        limit: seconds that may pass between two steps.
        clock: seconds that never go back.
    """

    limit: float
    clock: Callable[[], float] = time.monotonic
    current: str = ""
    _done: deque[str] = field(default_factory=lambda: deque(maxlen=_SHOWN_TASKS))
    _last: float = field(init=False)

    def __post_init__(self) -> None:
        self._last = self.clock()

    def step(self) -> None:
        """Take note that something happened."""
        self._last = self.clock()

    def begins(self, task: str) -> None:
        """Take note that a task begins."""
        self.step()
        self.current = task

    def ends(self, task: str, how: str) -> None:
        """Take note that a task ended on a host."""
        self.step()
        self._done.append(f"{how} {task}")

    def is_stuck(self) -> bool:
        """Return whether nothing happened for too long."""
        return self.clock() - self._last > self.limit

    def words(self) -> str:
        """Return what it is stuck at, with the last tasks that ended."""
        where = f"task '{self.current}'" if self.current else "the playbook, before its first task,"
        last = "".join(f"\n  {line}" for line in self._done)
        return f"{where} made no progress for {format_duration(self.limit)}" + (
            f"; the last that ended:{last}" if last else ""
        )
