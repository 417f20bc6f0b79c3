"""The run directory: written as the run goes, atomically; read again by resume and by the analysis."""

from __future__ import annotations

import contextlib
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from harness.adapters.files import (
    inside,
    is_there,
    make_directory,
    read_bytes,
    sha256_of,
    text_of,
    write_atomic,
)
from harness.adapters.results.record_files import (
    RESTORE,
    check_digest,
    damaged,
    read_record,
    validated,
    write_record,
)
from harness.adapters.results.run_files import CUT_OFF, RunFiles
from harness.adapters.results.run_layout import check_new, is_run_directory
from harness.core import seals
from harness.core.errors import DamagedError, InputError
from harness.core.model import TABLE_FACTORS
from harness.core.planning import (
    Plan,
    PlannedIteration,
    PlannedSession,
    plan_from_json,
    plan_to_json,
)
from harness.core.records import (
    IterationRecord,
    IterationState,
    RunRecord,
    SessionRecord,
    SessionState,
    boot_file,
    why_not_planned,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CUT_OFF", "RunDirectory", "check_new", "is_run_directory"]

_CEILING = "ceiling.json"
_DOMAIN = "domain.xml"
_LEFT_BESIDE = (_DOMAIN, "console.log", "qemu.log")
"""What a boot leaves beside its session's record."""


class RunDirectory(RunFiles[RunRecord]):
    """One run on disk.

    ``run.json`` (format version, ids, state), ``experiment.yml``, ``plan.json``, ``environment.json`` and
    ``sessions/<NNN>-<variant>/`` with the domain XML, the console log, ``session.json`` and one untouched
    fio JSON per iteration.
    """

    _head = RunRecord

    @classmethod
    def create(
        cls, path: Path, *, record: RunRecord, experiment: str, plan: Plan, environment: dict[str, Any]
    ) -> RunDirectory:
        """Make a new run directory.

        Raises:
            InputError: as `check_new`.
        """
        return cls.lay_out(
            path,
            parts="sessions",
            record=record,
            experiment=experiment,
            plan=plan_to_json(plan),
            environment=environment,
        )

    def _known_seconds(self) -> float:
        known = 0.0
        for planned in self.plan.sessions:
            # Of one that is damaged nothing is known; nor of a boot without a moment, or with one that nobody
            # lives to see.
            with contextlib.suppress(InputError):
                session = self.load_session(planned)
                for boot in range(len(session.boots)):
                    with contextlib.suppress(ValueError, OverflowError, TypeError):
                        known += session.boot_seconds(boot)
        return known

    @property
    def plan(self) -> Plan:
        """The plan."""
        return self._read_plan(plan_from_json)

    def session_directory(self, planned: PlannedSession) -> Path:
        """Return the session's directory, made."""
        return make_directory(self._session(planned))

    def load_session(self, planned: PlannedSession) -> SessionRecord:
        """Return what is kept of a session; an empty record when it never started.

        Raises:
            DamagedError: its record was torn, edited or taken away.
        """
        path = self._session(planned) / "session.json"
        if is_there(path):
            record = read_record(SessionRecord, path, sealed=self.sealed, remedy=self._measure_again)
            if wrong := why_not_planned(record, planned):
                raise damaged(path, wrong[1], at=wrong[0], remedy=self._measure_again)
            return record
        self._check_not_lost(path.parent, path.name, self._measure_again)
        return _unmeasured(planned, SessionState.RUNNING)

    def save_session(self, planned: PlannedSession, record: SessionRecord) -> None:
        """Put a session's record on disk before returning."""
        write_record(self.session_directory(planned) / "session.json", asdict(record))
        self._keep_begun(planned.directory)

    def left_beside(self, planned: PlannedSession, *, boot: int) -> dict[str, str]:
        """Return the SHA-256 of what a boot that ended left beside its session's record, by name."""
        files = [self._session(planned) / boot_file(name, boot) for name in _LEFT_BESIDE]
        # libvirt's own console logs may be for root alone: what failed must not be hidden by that.
        return {file.name: sha256_of(file) for file in files if file.is_file() and os.access(file, os.R_OK)}

    def save_output(
        self, planned: PlannedSession, iteration: PlannedIteration, output: str, *, boot: int
    ) -> tuple[str, str]:
        """Put fio's untouched output on disk; return its file name and SHA-256."""
        cell = iteration.cell
        # What an earlier boot printed stays: a repeat never overwrites it.
        again = f"-boot{boot}" if boot else ""
        name = f"{iteration.number:05d}-{cell.rw}-{cell.bs}-{cell.iodepth}{again}.json"
        data = output.encode()
        write_atomic(self.session_directory(planned) / name, data)
        return name, seals.digest(data)

    def read_output(self, planned: PlannedSession, file: str, sha256: str) -> str:
        """Return fio's output as it was saved.

        Raises:
            InputError: the file is missing, or is not what was saved.
        """
        path = inside(self._session(planned), file)
        data = read_bytes(path)
        check_digest(data, sha256, path, "fio printed", self._measure_again)
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise DamagedError.single(str(path), "is not UTF-8 text", RESTORE) from error

    def read_domain_xml(self, planned: PlannedSession, record: SessionRecord, boot: int) -> str | None:
        """Return the domain XML of a session's boot, or None when it is not kept.

        Raises:
            DamagedError: it is not what was written.
        """
        directory = self._session(planned)
        # Older harnesses kept only that of the last boot.
        for name in dict.fromkeys((boot_file(_DOMAIN, boot), _DOMAIN)):
            # One that the record names has to be there.
            if name in record.files or is_there(directory / name):
                break
        else:
            return None
        path = directory / name
        data = read_bytes(path)
        check_digest(data, record.files.get(name), path, "was written", self._measure_again)
        return text_of(path, data)

    @property
    def _measure_again(self) -> str:
        return f"restore it from a copy; or have it measured again: harness run --resume {self.path}"

    def mend(self) -> Iterator[str]:
        """Have what is damaged measured again: it is put aside, nothing is thrown away.

        For the directory's writer. What the analysis could not read without its session's record or domain
        XML is put aside with all of the session; of an iteration only its output is damaged, and only it
        counts no longer.

        Yields:
            A sentence for each part that was damaged.
        """
        for planned in self.plan.sessions:
            try:
                record = self.load_session(planned)
                for boot in record.telling_boots():
                    self.read_domain_xml(planned, record, boot)
            except InputError as error:
                yield f"{error.message}: {self._begin_again(planned, error)}the session is measured again"
                continue
            lost = [entry for entry in record.iterations if self._is_lost(planned, entry)]
            for entry in lost:
                entry.state, entry.reason = IterationState.FAILED, "its output was damaged afterwards"
                yield f"session {planned.directory}: {entry.file} is damaged: it is measured again"
            if lost:
                record.state = SessionState.INTERRUPTED
                self.save_session(planned, record)

    def _begin_again(self, planned: PlannedSession, error: InputError) -> str:
        """Put aside what there is of a session, and mark it as measured again; say where it is."""
        directory, problem = self._session(planned), error.problems[0]
        told = f"put aside in {self.put_aside(directory)}, " if directory.exists() else ""
        record = _unmeasured(planned, SessionState.INTERRUPTED)
        record.replaces = f"its {Path(problem.where).name} {problem.message}"
        self.save_session(planned, record)
        return told

    def _is_lost(self, planned: PlannedSession, entry: IterationRecord) -> bool:
        """Return whether an iteration counts whose output is gone, or is not what was saved."""
        if entry.state is not IterationState.OK or not entry.file or not entry.sha256:
            return False
        try:
            self.read_output(planned, entry.file, entry.sha256)
        except InputError:
            return True
        return False

    def _session(self, planned: PlannedSession) -> Path:
        return inside(self.path / "sessions", planned.directory)

    def keep_host_log(self, seal: str) -> None:
        """Put on disk how far the log of the host's settings has come; see `RunRecord`."""
        with self._changed_head() as record:
            record.host_log = seal

    def write_ceilings(self, ceilings: list[dict[str, Any]]) -> None:
        """Keep what the host reached without a guest: a cell's factors and its ``iops`` each."""
        self._write_file(_CEILING, orjson.dumps(ceilings, option=orjson.OPT_INDENT_2))

    def read_ceilings(self) -> list[dict[str, Any]]:
        """Return what ``write_ceilings`` kept; nothing when it was not measured.

        Raises:
            InputError: the file is damaged.
        """
        if not self.has_file(_CEILING):
            return []
        path = self.path / _CEILING
        ceilings = validated(list[dict[str, Any]], self.read_json(_CEILING), path)
        for index, ceiling in enumerate(ceilings):
            if type(ceiling.get("iops")) not in {int, float} or not _is_cell(ceiling):
                raise damaged(path, "is no ceiling of a cell", at=str(index))
        return ceilings


def _unmeasured(planned: PlannedSession, state: SessionState) -> SessionRecord:
    return SessionRecord(planned.number, planned.block, planned.variant, dict(planned.guest), state)


def _is_cell(ceiling: dict[str, Any]) -> bool:
    values = [value for name, value in ceiling.items() if name != "iops"]
    named = all(name in ceiling for name in TABLE_FACTORS)
    return named and all(isinstance(value, str | int | float) for value in values)
