"""What people see on stderr: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

from harness.adapters.files import printable_lines
from harness.core.errors import HarnessError, InputError
from harness.core.units import format_duration
from harness.shell.events import (
    Event,
    IterationDone,
    RunEnded,
    RunStarted,
    SessionCrashed,
    SessionFailed,
    SessionReady,
    SessionStarted,
)
from harness.shell.terminal import lasting, redraws, unfiltered

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from rich.progress import Progress, TaskID

    from harness.adapters.playbook_events import TaskEvent
    from harness.core.planning import Plan


class Console:
    """Prints messages, provisioning tasks and the progress of a run.

    Args:
        stream: where to; a progress bar only if it is a terminal that can draw one.
        quiet: print errors only.
    """

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        # Messages that nobody reads, or a full disk behind them, end no measurement.
        self._stream = lasting(stream or sys.stderr)
        self._quiet = quiet
        self._bar: Progress | None = None

    def say(self, text: str) -> None:
        """Print one message."""
        if not self._quiet:
            self.warn(text)

    def warn(self, text: str) -> None:
        """Print what went wrong without ending the command, also when quiet."""
        line = f"harness: {printable_lines(text)}"
        if self._bar is None:
            print(line, file=self._stream, flush=True)
        else:
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def error(self, error: HarnessError) -> None:
        """Print an error: the cause first, then the remedy."""
        if isinstance(error, InputError):
            for problem in error.problems:
                self._print(f"error: {problem.where}: {problem.message}", problem.remedy)
        else:
            self._print(f"error: {error.message}", error.remedy)

    def task(self, event: TaskEvent) -> None:
        """Show what provisioning does, a line a task that starts or changes something."""
        if event.status == "changed":
            self.say(f"changed [{event.host}] {event.task}")
        elif event.status == "started" and not event.task.startswith("Validating arguments"):
            self.say(f"{event.role}: {event.task}" if event.role else event.task)

    def progress(self) -> RunProgress:
        """Return what shows a run's events; use as a context manager."""
        if self._quiet:
            return RunProgress(self)
        return BarProgress(self, self._stream) if redraws(self._stream) else LineProgress(self)

    def print_above(self, bar: Progress | None) -> None:
        """Print messages above a progress bar as long as there is one, not into its line."""
        self._bar = bar

    def _print(self, text: str, remedy: str | None) -> None:
        # Messages may quote a guest or a file: nothing in them commands the terminal.
        print(printable_lines(text), file=self._stream)
        if remedy:
            print(f"  remedy: {printable_lines(remedy)}", file=self._stream)
        self._stream.flush()


class RunProgress:
    """Takes a run's events and shows failures only."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the display."""

    def emit(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, SessionFailed):
            again = ", and is tried again" if event.again else ""
            self._console.warn(f"session {event.session.directory} FAILED{again}: {event.reason}")
        elif isinstance(event, SessionCrashed):
            self._console.say(f"session {event.session.directory}: QEMU died: {event.cause}")
        elif isinstance(event, IterationDone) and event.reason:
            label = event.iteration.cell.label
            if event.round is not None:
                label = f"round {event.iteration.repeat + 1}: {event.round.vmas:,} VMAs"
            self._console.warn(f"session {event.session.directory}, {label} FAILED: {event.reason}")


class Estimate:
    """How far a run is, and how long it has to go: from the time that iterations took so far."""

    def __init__(self, plan: Plan, remaining: int) -> None:
        self.plan = plan
        self.total = plan.iteration_count
        self.done = self.total - remaining
        self.step = 0

    def count(self) -> None:
        """Count one iteration."""
        self.done += 1
        self.step += 1

    def left(self, elapsed: float) -> str:
        """Return the time left for people, after ``elapsed`` seconds of this run."""
        if not self.step:
            return "?"
        return format_duration(elapsed / self.step * (self.total - self.done))


class LineProgress(RunProgress):
    """A line a session: for logs."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._estimate: Estimate | None = None
        self._elapsed = 0.0

    def emit(self, event: Event) -> None:
        """Show one event."""
        super().emit(event)
        if isinstance(event, RunStarted):
            self._estimate = Estimate(event.plan, event.remaining)
            plan = event.plan
            self._console.say(
                f"{len(plan.sessions)} sessions in {plan.blocks} blocks, {event.remaining} of "
                f"{plan.iteration_count} iterations to do"
            )
        elif isinstance(event, SessionReady):
            self._elapsed += event.seconds
            self._session(event)
        elif isinstance(event, IterationDone) and self._estimate:
            self._elapsed += event.seconds
            self._estimate.count()
            self._round(event)
        elif isinstance(event, RunEnded):
            self._console.say(f"ended: {event.stopped}")

    def _round(self, event: IterationDone) -> None:
        if event.round is not None and not event.reason:
            self._console.say(
                f"{event.session.variant} round {event.iteration.repeat + 1}: "
                f"{event.round.coroutines:,} coroutines, {event.round.vmas:,} VMAs"
            )

    def _session(self, event: SessionReady) -> None:
        if self._estimate is None:
            return
        session, plan = event.session, self._estimate.plan
        guest = "".join(f" {name}={value}" for name, value in session.guest)
        self._console.say(
            f"block {session.block + 1}/{plan.blocks}, session {session.number + 1}/{len(plan.sessions)} "
            f"{session.variant}{guest}: up in {event.seconds:.1f} s, "
            f"left {self._estimate.left(self._elapsed)}"
        )


class BarProgress(RunProgress):
    """A progress bar: block, session, cell, time left."""

    def __init__(self, console: Console, stream: TextIO) -> None:
        super().__init__(console)
        # Drawn when something happens: nothing of the harness runs while fio measures.
        self._progress = progress_bar(stream, auto_refresh=False)
        self._task: TaskID | None = None
        self._plan: Plan | None = None

    def __enter__(self) -> Self:
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
        self._console.print_above(None)
        self._progress.stop()

    def emit(self, event: Event) -> None:
        """Show one event."""
        super().emit(event)
        if isinstance(event, RunStarted):
            self._plan = event.plan
            total = event.plan.iteration_count
            self._task = self._progress.add_task("starting", total=total, completed=total - event.remaining)
        elif self._task is not None and self._plan is not None:
            self._update(event, self._task, self._plan)
        self._progress.refresh()

    def _update(self, event: Event, task: TaskID, plan: Plan) -> None:
        if isinstance(event, SessionStarted):
            session = event.session
            where = f"block {session.block + 1}/{plan.blocks}"
            self._progress.update(task, description=f"{where} {session.variant}: booting")
        elif isinstance(event, SessionReady):
            self._describe(task, event.session.block, event.session.variant, plan, "measuring")
        elif isinstance(event, IterationDone):
            label = event.iteration.cell.label
            if event.round is not None:
                label = f"round {event.iteration.repeat + 1}: {event.round.vmas:,} VMAs"
            self._describe(task, event.session.block, event.session.variant, plan, label)
            self._progress.advance(task)

    def _describe(self, task: TaskID, block: int, variant: str, plan: Plan, what: str) -> None:
        self._progress.update(task, description=f"block {block + 1}/{plan.blocks} {variant}: {what}")


def progress_bar(stream: TextIO, *, auto_refresh: bool = True) -> Progress:
    """Return a bar that tells what is done, how far it is and how long it will take; it leaves no trace."""
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=RichConsole(file=unfiltered(lasting(stream))),
        transient=True,
        auto_refresh=auto_refresh,
    )
