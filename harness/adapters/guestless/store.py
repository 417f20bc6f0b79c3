"""The run directory of counts: written as they end, atomically; read again by resume and by the analysis."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from harness.adapters.files import (
    inside,
    is_there,
    make_directory,
    read_bytes,
    read_json,
    write_atomic,
    write_json,
)
from harness.adapters.results.store import (
    RunDirectory,
    check_builds,
    damaged,
    is_run_directory,
    lay_out_run,
    read_record,
)
from harness.core.counting.callgrind import CallgrindFormatError, Profile, parse_callgrind, parse_total
from harness.core.counting.planning import CountPlan, PlannedCount, count_plan_from_json, count_plan_to_json
from harness.core.counting.records import CountingRun, CountRecord, ThreadRecord, why_not_planned
from harness.core.errors import InputError
from harness.core.model import Workload
from harness.core.records import RunState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

_HEAD = TypeAdapter(CountingRun)
_COUNT = TypeAdapter(CountRecord)


class CountDirectory:
    """One run of counts on disk.

    ``run.json``, ``experiment.yml``, ``plan.json`` and ``environment.json`` as every run has them, and
    ``counts/<NNN>-<variant>/`` with ``count.json`` and callgrind's untouched output of every thread.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._base = RunDirectory(path)

    @classmethod
    def create(
        cls, path: Path, *, head: CountingRun, experiment: str, plan: CountPlan, environment: dict[str, Any]
    ) -> CountDirectory:
        """Make a new run directory.

        Raises:
            InputError: it exists and is not empty, is no directory, or may not be made.
        """
        lay_out_run(
            path,
            parts="counts",
            head=asdict(head),
            experiment=experiment,
            plan=count_plan_to_json(plan),
            environment=environment,
        )
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> CountDirectory:
        """Open a run directory of counts that exists.

        Raises:
            InputError: it is none, or one of a newer format.
        """
        RunDirectory.open(path)
        return cls(path)

    def writing(self) -> AbstractContextManager[None]:
        """Be this directory's only writer.

        Raises:
            BusyError: somebody else is; names the process.
        """
        return self._base.writing()

    @property
    def head(self) -> CountingRun:
        """The head of the run."""
        head = read_record(_HEAD, self.path / "run.json")
        check_builds(head.builds, self.path / "run.json")
        return head

    @property
    def experiment(self) -> str:
        """The experiment's text, as it was run."""
        return self._base.experiment

    @property
    def environment(self) -> dict[str, Any]:
        """What was recorded of the host."""
        return self._base.environment

    @property
    def plan(self) -> CountPlan:
        """The plan."""
        path = self.path / "plan.json"
        try:
            return count_plan_from_json(read_json(path))
        except ValueError as error:
            raise InputError.single(str(path), str(error), "restore the file") from error

    def load(self, planned: PlannedCount) -> CountRecord | None:
        """Return what is kept of a count; None when it never took place."""
        path = self._directory(planned) / "count.json"
        if not is_there(path):
            return None
        record = read_record(_COUNT, path)
        if wrong := why_not_planned(record, planned):
            raise damaged(path, wrong[1], at=wrong[0])
        return record

    def keep_outputs(
        self, planned: PlannedCount, outputs: Iterable[tuple[int, str, bool, Path]]
    ) -> list[ThreadRecord]:
        """Put callgrind's files on disk.

        Args:
            planned: what was counted.
            outputs: number, name, whether it is counted, and file of each thread.

        Returns:
            Their records, for `save`.
        """
        directory = self._directory(planned)
        # What a count that failed or was interrupted left behind is of no use.
        shutil.rmtree(directory, ignore_errors=True)
        make_directory(directory)
        kept = []
        for number, name, counted, path in outputs:
            data = read_bytes(path)
            file = f"callgrind.out-{number:02d}"
            write_atomic(directory / file, data)
            kept.append(ThreadRecord(number, name, counted, file, hashlib.sha256(data).hexdigest()))
        return kept

    def save(self, planned: PlannedCount, record: CountRecord) -> None:
        """Put a count's record on disk before returning."""
        write_json(make_directory(self._directory(planned)) / "count.json", asdict(record))

    def read_output(self, planned: PlannedCount, thread: ThreadRecord) -> str:
        """Return callgrind's output of one thread, as it was saved.

        Raises:
            InputError: the file is missing, or is not what was saved.
        """
        path = inside(self._directory(planned), thread.file)
        data = read_bytes(path)
        if hashlib.sha256(data).hexdigest() != thread.sha256:
            raise InputError.single(
                str(path),
                "is not what callgrind wrote: its SHA-256 differs from the record",
                "restore the file",
            )
        return data.decode(errors="replace")

    def total_of(self, planned: PlannedCount, thread: ThreadRecord) -> int:
        """Return the instructions of one thread.

        Raises:
            InputError: the file is missing, damaged, or not what was saved.
        """
        with self._naming(planned, thread):
            return parse_total(self.read_output(planned, thread))

    def profile_of(self, planned: PlannedCount, thread: ThreadRecord) -> Profile:
        """Return what one thread executed.

        Raises:
            InputError: the file is missing, damaged, or not what was saved.
        """
        with self._naming(planned, thread):
            return parse_callgrind(self.read_output(planned, thread))

    @contextlib.contextmanager
    def _naming(self, planned: PlannedCount, thread: ThreadRecord) -> Iterator[None]:
        try:
            yield
        except CallgrindFormatError as error:
            where = self._directory(planned) / thread.file
            raise InputError.single(str(where), str(error), "restore the file") from error

    def set_state(self, state: RunState, *, stopped: str | None, wall_seconds: float) -> None:
        """Put the run's state on disk; ``wall_seconds`` are added to what earlier parts took."""
        head = self.head
        head.state = state
        head.stopped = stopped
        head.wall_seconds += wall_seconds
        head.ended = None if state is RunState.RUNNING else datetime.now(UTC).isoformat(timespec="seconds")
        write_json(self.path / "run.json", asdict(head))

    def _directory(self, planned: PlannedCount) -> Path:
        return inside(self.path / "counts", planned.directory)


def holds_counts(path: Path) -> bool:
    """Return whether a path is a run directory of counts."""
    if not is_run_directory(path):
        return False
    head = read_json(path / "run.json")
    return isinstance(head, dict) and head.get("workload") == Workload.INSTRUCTIONS
