"""Waiting that ends at once when the user interrupts or the guest stops, without polling meanwhile."""

from __future__ import annotations

import contextlib
import queue
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from harness.core.errors import Interrupted

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from harness.core.errors import GuestError
    from harness.core.protocols import StopSignal


class Stop:
    """The user's wish to end the run; set from a signal handler."""

    def __init__(self) -> None:
        self._wanted = False
        self._listeners: list[Callable[[], None]] = []

    def set(self) -> None:
        """Ask everything that waits to end."""
        self._wanted = True
        for listener in self._listeners:
            listener()

    def is_set(self) -> bool:
        """Return whether the run should end."""
        return self._wanted

    def listen(self, listener: Callable[[], None]) -> None:
        """Call a function when the wish is made; at once if it was made already."""
        self._listeners.append(listener)
        if self.is_set():
            listener()

    def forget(self, listener: Callable[[], None]) -> None:
        """Stop calling a function."""
        self._listeners.remove(listener)


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        """Return the wall clock's time, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds of a clock that never goes back."""
        return time.monotonic()


class Waiter:
    """Waits on behalf of one guest.

    Args:
        stop: the user's wish to end the run.
        stopped: set when the guest has stopped.
        died: makes the error for a guest that stopped by itself.
    """

    def __init__(self, stop: StopSignal, stopped: threading.Event, died: Callable[[], GuestError]) -> None:
        self._stop = stop
        self._stopped = stopped
        self._died = died
        # Not an Event: its lock is not reentrant, and a signal handler that wakes whoever is just taking
        # it would wait for itself for ever.
        self._wakes: queue.SimpleQueue[None] = queue.SimpleQueue()
        stop.listen(self.wake)

    def close(self) -> None:
        """Stop listening."""
        self._stop.forget(self.wake)

    def wake(self) -> None:
        """Have the waiting one look again."""
        self._wakes.put(None)

    def until(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Wait until a condition holds, looking only when woken; return False when time ran out.

        Raises:
            Interrupted: the user stopped the run.
            GuestError: the guest stopped.
        """
        deadline = time.monotonic() + timeout
        while True:
            self._forget_wakes()
            self.check()
            if condition():
                return True
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            with contextlib.suppress(queue.Empty):
                self._wakes.get(timeout=remaining)

    def _forget_wakes(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._wakes.get_nowait()

    def sleep(self, seconds: float) -> None:
        """Wait for a time.

        Raises:
            Interrupted: the user stopped the run.
            GuestError: the guest stopped.
        """
        self.until(lambda: False, seconds)

    def check(self) -> None:
        """Raise what ended the wait, if anything did."""
        if self._stop.is_set():
            raise Interrupted("interrupted")
        if self._stopped.is_set():
            raise self._died()
