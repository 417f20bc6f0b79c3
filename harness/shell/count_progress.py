"""What people see while instructions are counted: a bar on a terminal, a line a tenth elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from harness.shell.console import progress_bar
from harness.shell.terminal import redraws

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from rich.progress import Progress, TaskID

    from harness.shell.console import Console
    from harness.shell.counting import CountProgress

_LINES = 10


class CountDisplay:
    """Shows how far a run of counts is; use as a context manager.

    Args:
        console: takes the lines.
        bar: draw a progress bar, for a terminal.
    """

    def __init__(self, console: Console, *, bar: bool | None = None) -> None:
        self._console = console
        self._shown = -1
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        if redraws(sys.stderr) if bar is None else bar:
            self._progress = progress_bar(sys.stderr)

    def __enter__(self) -> Self:
        if self._progress is not None:
            self._progress.start()
            self._console.print_above(self._progress)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the display."""
        if self._progress is not None:
            self._console.print_above(None)
            self._progress.stop()

    def emit(self, progress: CountProgress) -> None:
        """Show one count."""
        last = progress.last
        if last is not None and last.reason:
            self._console.warn(f"count {last.number:03d} of {last.variant} FAILED: {last.reason}")
        if self._progress is None:
            self._line(progress)
            return
        if self._task is None:
            self._task = self._progress.add_task("counting", total=progress.total)
        self._progress.update(self._task, completed=progress.done)

    def _line(self, progress: CountProgress) -> None:
        tenth = progress.done * _LINES // progress.total if progress.total else _LINES
        if tenth != self._shown:
            self._shown = tenth
            self._console.say(f"counted {progress.done} of {progress.total}")
