"""The run directory of counts: written as they end, atomically; read again by resume and by the analysis."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import orjson

from harness.adapters.files import inside, is_there, make_directory, read_bytes, write_atomic
from harness.adapters.results.record_files import (
    check_digest,
    damaged,
    read_record,
    validated,
    write_record,
)
from harness.adapters.results.run_files import RunFiles
from harness.core import seals
from harness.core.counting.callgrind import CallgrindFormatError, Profile, parse_callgrind, parse_total
from harness.core.counting.planning import CountPlan, PlannedCount, count_plan_from_json, count_plan_to_json
from harness.core.counting.records import CountingRun, CountRecord, ThreadRecord, TimeRecord, why_not_planned
from harness.core.errors import DamagedError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_TIMES_FILE = "times.json"


class CountDirectory(RunFiles[CountingRun]):
    """One run of counts on disk.

    ``run.json``, ``experiment.yml``, ``plan.json`` and ``environment.json`` as every run has them, and
    ``counts/<NNN>-<variant>/`` with ``count.json`` and callgrind's untouched output of every thread.
    """

    _head = CountingRun

    @classmethod
    def create(
        cls, path: Path, *, record: CountingRun, experiment: str, plan: CountPlan, environment: dict[str, Any]
    ) -> CountDirectory:
        """Make a new run directory.

        Raises:
            InputError: it exists and is not empty, is no directory, or may not be made.
        """
        return cls.lay_out(
            path,
            parts="counts",
            record=record,
            experiment=experiment,
            plan=count_plan_to_json(plan),
            environment=environment,
        )

    @property
    def plan(self) -> CountPlan:
        """The plan."""
        return self._read_plan(count_plan_from_json)

    def load(self, planned: PlannedCount) -> CountRecord | None:
        """Return what is kept of a count; None when it never took place.

        Raises:
            DamagedError: its record was torn, edited or taken away.
        """
        path = self._directory(planned) / "count.json"
        if not is_there(path):
            self._check_not_lost(path.parent, path.name, self._count_again)
            return None
        record = read_record(CountRecord, path, sealed=self.sealed, remedy=self._count_again)
        if wrong := why_not_planned(record, planned):
            raise damaged(path, wrong[1], at=wrong[0], remedy=self._count_again)
        return record

    @property
    def _count_again(self) -> str:
        return f"restore it from a copy; or have it counted again: harness run --resume {self.path}"

    def mend(self) -> Iterator[str]:
        """Have what is damaged counted, or timed, again: it is put aside, nothing is thrown away.

        For the directory's writer.

        Yields:
            A sentence for each count that was damaged, and for times.
        """
        for planned in self.plan.counts:
            try:
                record = self.load(planned)
                for thread in record.threads if record else ():
                    self.read_output(planned, thread)
            except InputError as error:
                directory = self._directory(planned)
                told = f"put aside in {self.put_aside(directory)}, " if directory.exists() else ""
                self._keep_begun(directory.name, begun=False)
                yield f"{error.message}: {told}it is counted again"
        try:
            _found = self.times
        except InputError as error:
            self._forget_file(_TIMES_FILE)
            yield f"{error.message}: what it held is timed again"

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
            kept.append(ThreadRecord(number, name, counted, file, seals.digest(data)))
        return kept

    def save(self, planned: PlannedCount, record: CountRecord) -> None:
        """Put a count's record on disk before returning."""
        write_record(make_directory(self._directory(planned)) / "count.json", asdict(record))
        self._keep_begun(planned.directory)

    @property
    def times(self) -> list[TimeRecord]:
        """What was timed; nothing where the load has no clock, or before the counts are done.

        Raises:
            DamagedError: the file was torn, edited or taken away.
        """
        if not self._names_file(_TIMES_FILE):
            return []
        return validated(list[TimeRecord], self.read_json(_TIMES_FILE), self.path / _TIMES_FILE)

    def save_times(self, times: Iterable[TimeRecord]) -> None:
        """Put what was timed on disk."""
        records = [asdict(record) for record in times]
        self._write_file(_TIMES_FILE, orjson.dumps(records, option=orjson.OPT_INDENT_2))

    def read_output(self, planned: PlannedCount, thread: ThreadRecord) -> str:
        """Return callgrind's output of one thread, as it was saved.

        Raises:
            InputError: the file is missing, or is not what was saved.
        """
        path = inside(self._directory(planned), thread.file)
        data = read_bytes(path)
        check_digest(data, thread.sha256, path, "callgrind wrote", self._count_again)
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
            raise DamagedError.single(str(where), str(error), self._count_again) from error

    def _directory(self, planned: PlannedCount) -> Path:
        return inside(self.path / "counts", planned.directory)
