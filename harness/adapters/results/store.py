"""The run directory: written as the run goes, atomically; read again by resume and by the analysis."""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from harness.adapters.files import (
    half_written,
    inside,
    make_directory,
    read_bytes,
    read_json,
    read_text,
    remove_tree,
    write_atomic,
    write_json,
)
from harness.adapters.host.locks import exclusive, holder_of
from harness.core.errors import InputError
from harness.core.planning import (
    Plan,
    PlannedIteration,
    PlannedSession,
    plan_from_json,
    plan_to_json,
)
from harness.core.records import FORMAT_VERSION, RunRecord, RunState, SessionRecord, SessionState

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_T = TypeVar("_T")
_RUN = TypeAdapter(RunRecord)
_SESSION = TypeAdapter(SessionRecord)
_ENVIRONMENT = TypeAdapter(dict[str, Any])
LOCK = ".lock"
_PARTS = frozenset({"sessions", "counts"})
_FIRST = _PARTS | {"experiment.yml", "plan.json", "environment.json"}
"""What `lay_out_run` makes before run.json; its own temporary files aside."""
CUT_OFF = "cut off: it was killed, or could not write how it ended"


class RunDirectory:
    """One run on disk.

    ``run.json`` (format version, ids, state), ``experiment.yml``, ``plan.json``, ``environment.json`` and
    ``sessions/<NNN>-<variant>/`` with the domain XML, the console log, ``session.json`` and one untouched
    fio JSON per iteration.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(
        cls, path: Path, *, record: RunRecord, experiment: str, plan: Plan, environment: dict[str, Any]
    ) -> RunDirectory:
        """Make a new run directory.

        Raises:
            InputError: as `check_new`.
        """
        lay_out_run(
            path,
            parts="sessions",
            head=asdict(record),
            experiment=experiment,
            plan=plan_to_json(plan),
            environment=environment,
        )
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """Open a run directory that exists.

        Raises:
            InputError: it is none, or one of a newer format.
        """
        if not is_run_directory(path):
            raise InputError.single(
                str(path),
                "is not a run directory (no run.json in it)",
                "other results are compared two by two: harness compare OLD NEW",
            )
        data = read_json(path / "run.json")
        version = data.get("format_version") if isinstance(data, dict) else None
        if not isinstance(version, int):
            raise InputError.single(f"{path}/run.json", "has no format_version", "this is no run directory")
        if version > FORMAT_VERSION:
            raise InputError.single(
                f"{path}/run.json",
                f"has format version {version}; this harness reads up to {FORMAT_VERSION}",
                "use a newer qemu-ab-harness",
            )
        return cls(path)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Be this directory's only writer.

        Raises:
            BusyError: somebody else is; names the process.
        """
        with exclusive(
            self.path / LOCK, what=f"the run directory {self.path}", remedy="wait for the other run to end"
        ):
            for file in half_written(self.path):
                remove_tree(file)
            yield

    @property
    def writer(self) -> str | None:
        """Who is writing it at the moment; None when nobody is."""
        return holder_of(self.path / LOCK)

    @property
    def record(self) -> RunRecord:
        """The head of the run."""
        return _read(_RUN, self.path / "run.json")

    @property
    def present(self) -> RunRecord:
        """The head of the run as it is now: one that says ``running`` while nobody writes it was cut off.

        A process that is killed, or whose disk is full, cannot write how it ended; its wall time is then what
        its sessions are known to have taken.
        """
        record = self.record
        if record.state is RunState.RUNNING and self.writer is None:
            # Read again: it may just have ended.
            record = self.record
            if record.state is RunState.RUNNING:
                record.state, record.stopped = RunState.INTERRUPTED, CUT_OFF
                record.wall_seconds = max(record.wall_seconds, self._known_seconds())
        return record

    def _known_seconds(self) -> float:
        known = 0.0
        for planned in self.plan.sessions:
            session = self.load_session(planned)
            for boot in range(len(session.boots)):
                with contextlib.suppress(ValueError):  # no moment at all is known of it
                    known += session.boot_seconds(boot)
        return known

    @property
    def experiment(self) -> str:
        """The experiment's text, as it was run."""
        return read_text(self.path / "experiment.yml")

    @property
    def plan(self) -> Plan:
        """The plan."""
        path = self.path / "plan.json"
        try:
            return plan_from_json(read_json(path))
        except ValueError as error:
            raise InputError.single(str(path), str(error), "restore the file") from error

    @property
    def environment(self) -> dict[str, Any]:
        """What was recorded of the host."""
        return _read(_ENVIRONMENT, self.path / "environment.json")

    def session_directory(self, planned: PlannedSession) -> Path:
        """Return the session's directory, made."""
        return make_directory(self._session(planned))

    def load_session(self, planned: PlannedSession) -> SessionRecord:
        """Return what is kept of a session; an empty record when it never started."""
        path = self._session(planned) / "session.json"
        if path.exists():
            return _read(_SESSION, path)
        return SessionRecord(
            planned.number, planned.block, planned.variant, dict(planned.guest), SessionState.RUNNING
        )

    def save_session(self, planned: PlannedSession, record: SessionRecord) -> None:
        """Put a session's record on disk before returning."""
        write_json(self.session_directory(planned) / "session.json", asdict(record))

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
        return name, hashlib.sha256(data).hexdigest()

    def read_output(self, planned: PlannedSession, file: str, sha256: str) -> str:
        """Return fio's output as it was saved.

        Raises:
            InputError: the file is missing, or is not what was saved.
        """
        path = inside(self._session(planned), file)
        data = read_bytes(path)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise InputError.single(
                str(path), "is not what fio printed: its SHA-256 differs from the record", "restore the file"
            )
        return data.decode()

    def read_domain_xml(self, planned: PlannedSession) -> str | None:
        """Return the session's domain XML, or None when it is not kept."""
        path = self._session(planned) / "domain.xml"
        return read_text(path) if path.exists() else None

    def _session(self, planned: PlannedSession) -> Path:
        return inside(self.path / "sessions", planned.directory)

    def write_ceilings(self, ceilings: list[dict[str, Any]]) -> None:
        """Keep what the host reached without a guest: a cell's factors and its ``iops`` each."""
        write_json(self.path / "ceiling.json", ceilings)

    def read_ceilings(self) -> list[dict[str, Any]]:
        """Return what ``write_ceilings`` kept; nothing when it was not measured."""
        path = self.path / "ceiling.json"
        return list(read_json(path)) if path.exists() else []

    def keep_lost_time(self, present: RunRecord) -> None:
        """Put on disk what a run that was cut off is known to have taken; others are left as they are.

        Args:
            present: what ``present`` said before there was a writer again.
        """
        written = self.record
        if present.state is not written.state:
            lost = present.wall_seconds - written.wall_seconds
            self.set_state(present.state, stopped=present.stopped, wall_seconds=lost)

    def set_state(self, state: RunState, *, stopped: str | None, wall_seconds: float) -> None:
        """Put the run's state on disk; ``wall_seconds`` are added to what earlier parts took."""
        record = self.record
        record.state = state
        record.stopped = stopped
        record.wall_seconds += wall_seconds
        record.ended = None if state is RunState.RUNNING else datetime.now(UTC).isoformat(timespec="seconds")
        write_json(self.path / "run.json", asdict(record))


def lay_out_run(
    path: Path,
    *,
    parts: str,
    head: dict[str, Any],
    experiment: str,
    plan: dict[str, Any],
    environment: dict[str, Any],
) -> None:
    """Write what every run directory begins with.

    Args:
        path: the new directory.
        parts: the directory in it for what will be measured.
        head: becomes ``run.json``.
        experiment: the experiment's text, as it is run.
        plan: as JSON.
        environment: what is recorded of the host.

    Raises:
        InputError: as `check_new`.
    """
    check_new(path)
    for file in half_written(path, deep=False):
        remove_tree(file)
    make_directory(path / parts)
    write_atomic(path / "experiment.yml", experiment.encode())
    write_json(path / "plan.json", plan)
    write_json(path / "environment.json", environment)
    # Last: a directory with a run.json is a whole one.
    write_json(path / "run.json", head)


def check_new(path: Path) -> None:
    """Refuse what cannot become a new run directory.

    Raises:
        InputError: it exists and is not empty, is no directory, or may not be made.
    """
    existing = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    if not existing.is_dir():
        raise InputError.single(str(path), f"{existing} is not a directory", "name a new directory")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError.single(
            str(path), f"{existing} is not writable for this user", "name another directory"
        )
    if existing == path and any(path.iterdir()) and not is_unborn(path):
        raise InputError.single(
            str(path), "is not empty", "name a new directory, or continue this one with --resume"
        )


def is_run_directory(path: Path) -> bool:
    """Return whether a path looks like a run directory."""
    return (path / "run.json").is_file()


def is_unborn(path: Path) -> bool:
    """Return whether a directory is what remains of a start that was killed before it had a run.json."""
    try:
        names = {entry.name for entry in path.iterdir()}
        parts = [path / name for name in names & _PARTS]
        if not parts or any(any(part.iterdir()) for part in parts):
            return False
    except OSError:  # no directory, or not this user's
        return False
    return names - {file.name for file in half_written(path, deep=False)} <= _FIRST


def _read(adapter: TypeAdapter[_T], path: Path) -> _T:
    try:
        return adapter.validate_python(read_json(path))
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise InputError.single(
            str(path), f"is damaged at {where or 'its top'}: {error.errors()[0]['msg']}", "restore the file"
        ) from error
