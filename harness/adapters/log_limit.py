"""What a guest or its QEMU writes to the host's disk, bounded: gigabytes on a console would fill it."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING

from harness.core.errors import GuestError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

MAX_LOG_BYTES = 16 * 2**20
"""Of one log of one session; a boot that says everything it can takes a hundredth of it."""

_LOOK_SECONDS = 1.0


class LogLimit:
    """Ends a guest whose logs grow beyond a limit.

    Looking takes some 10 us a second, on no core of the guest's.

    Args:
        logs: the files; one that is not there yet is empty.
        end: called once, in another thread, when a file is too large: ends whoever writes it.
        limit_bytes: of each.
        interval: seconds between two looks.
    """

    def __init__(
        self,
        logs: Iterable[Path],
        end: Callable[[], None],
        *,
        limit_bytes: int = MAX_LOG_BYTES,
        interval: float = _LOOK_SECONDS,
    ) -> None:
        self._logs, self._end = tuple(logs), end
        self._limit, self._interval = limit_bytes, interval
        self._closing = threading.Event()
        self._exceeded: Path | None = None
        self._thread = threading.Thread(target=self._run, name="log-limit", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """Stop looking; once is enough, and it need not have begun."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join()

    def cut(self) -> None:
        """Cut off what was written beyond the limit; whoever wrote it has to have ended."""
        for log in self._logs:
            with contextlib.suppress(FileNotFoundError):
                if log.stat().st_size > self._limit:
                    os.truncate(log, self._limit)

    def error(self, guest: str) -> GuestError | None:
        """Return why a guest was ended, or None if it was not for this."""
        if self._exceeded is None:
            return None
        return GuestError(
            f"{guest} was ended: it wrote more than {self._limit >> 20} MiB to {self._exceeded.name}",
            remedy="look at the beginning of that file, which is kept",
        )

    def _run(self) -> None:
        while not self._closing.wait(self._interval):
            self._exceeded = next((log for log in self._logs if self._is_large(log)), None)
            if self._exceeded is not None:
                self._end()
                return

    def _is_large(self, log: Path) -> bool:
        with contextlib.suppress(OSError):
            return log.stat().st_size > self._limit
        return False
