"""What every run directory has, whatever was measured: head, experiment, plan, host, and one writer.

Records are JSON with a checksum in them (`core.seals`); the head names the checksums of the files that never
change. Whatever is read is held against them.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import threading
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

import orjson

from harness.adapters.files import (
    half_written,
    is_there,
    make_directory,
    read_bytes,
    read_json,
    remove_tree,
    sync_directory,
    text_of,
    write_atomic,
)
from harness.adapters.host.locks import exclusive, holder_of
from harness.adapters.results.record_files import (
    RESTORE,
    check_digest,
    damaged,
    parsed,
    read_record,
    validated,
    write_record,
)
from harness.adapters.results.run_layout import (
    DAMAGED,
    ENVIRONMENT,
    EXPERIMENT,
    HEAD,
    LOCK,
    PLAN,
    check_new,
    half_written_in_run,
    is_run_directory,
)
from harness.core import seals
from harness.core.counting.records import CountingRun
from harness.core.errors import DamagedError, InputError
from harness.core.records import FORMAT_VERSION, SEALED_SINCE, RunRecord, RunState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_Plan = TypeVar("_Plan")
_Head = TypeVar("_Head", RunRecord, CountingRun)
CUT_OFF = "cut off: it was killed, or could not write how it ended"


class RunFiles(Generic[_Head]):
    """The files that every run directory has.

    Attributes:
        path: the run directory.
    """

    _head: ClassVar[type[Any]]

    def __init__(self, path: Path) -> None:
        self.path = path
        self._changes = threading.RLock()

    @classmethod
    def lay_out(
        cls,
        path: Path,
        *,
        parts: str,
        record: _Head,
        experiment: str,
        plan: dict[str, Any],
        environment: dict[str, Any],
    ) -> Self:
        """Write what a run directory begins with.

        Args:
            path: the new directory.
            parts: the directory in it for what will be measured.
            record: becomes the head; is told the checksums of the others.
            experiment: the experiment's text, as it is run.
            plan: as JSON.
            environment: what is recorded of the host.

        Raises:
            InputError: as `check_new`.
        """
        check_new(path)
        for file in half_written(path, deep=False):
            remove_tree(file)
        # The user of QEMU need not get in: libvirt opens the console log for it.
        make_directory(path)
        make_directory(path / parts)
        for name, data in (
            (EXPERIMENT, experiment.encode()),
            (PLAN, _json(plan)),
            (ENVIRONMENT, _json(environment)),
        ):
            record.files[name] = seals.digest(data)
            write_atomic(path / name, data)
        # Last: a directory with a head is a whole one.
        write_record(path / HEAD, asdict(record))
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a run directory that exists.

        Raises:
            InputError: it is not there, is none, or one of a newer format.
        """
        if not is_run_directory(path):
            if not is_there(path):
                raise InputError.single(str(path), "does not exist", "check the path")
            raise InputError.single(
                str(path),
                "is not a run directory (no run.json in it)",
                "other results are compared two by two: harness compare OLD NEW",
            )
        data = read_json(path / HEAD)
        version = data.get("format_version") if isinstance(data, dict) else None
        if not isinstance(version, int):
            raise InputError.single(f"{path}/{HEAD}", "has no format_version", "this is no run directory")
        if version > FORMAT_VERSION:
            raise InputError.single(
                f"{path}/{HEAD}",
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
            for file in half_written_in_run(self.path):
                remove_tree(file)
            yield

    @property
    def writer(self) -> str | None:
        """Who is writing it at the moment; None when nobody is."""
        return holder_of(self.path / LOCK)

    @property
    def record(self) -> _Head:
        """The head of the run."""
        head: _Head = read_record(self._head, self.path / HEAD, sealed=self.sealed, remedy=RESTORE)
        for name, build in head.builds.items():
            for key in ("version", "sha256"):
                if not isinstance(build.get(key), str):
                    raise damaged(self.path / HEAD, f"it has no {key}", at=f"builds.{name}")
        return head

    @property
    def present(self) -> _Head:
        """The head of the run as it is now: one that says ``running`` while nobody writes it was cut off.

        A process that is killed, or whose disk is full, cannot write how it ended; its wall time is then what
        its parts are known to have taken.
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
        """Return the wall time that its parts are known to have taken."""
        return 0.0

    @property
    def sealed(self) -> bool:
        """Whether every record of the run has to carry a checksum: those of format 1 need not."""
        return self._known[0] >= SEALED_SINCE

    @functools.cached_property
    def _known(self) -> tuple[int, dict[str, str], list[str]]:
        """The run's format, the checksums of the files that never change, and which parts have begun.

        Of any workload's head.
        """
        raw = read_record(dict[str, Any], self.path / HEAD, sealed=False, remedy=RESTORE)
        version, files, begun = raw.get("format_version"), raw.get("files"), raw.get("begun")
        return (
            version if isinstance(version, int) else 0,
            files if isinstance(files, dict) else {},
            begun if isinstance(begun, list) else [],
        )

    def _keep_begun(self, name: str, *, begun: bool = True) -> None:
        """Keep in the head that a part has a record, or has none any more."""
        if (name in self._known[2]) is begun:
            return
        with self._changed_head() as record:
            others: list[str] = [one for one in record.begun if one != name]
            record.begun = [*others, name] if begun else others

    @contextlib.contextmanager
    def _changed_head(self) -> Iterator[_Head]:
        """Change the head, and put it on disk: one at a time, as counts end in several threads."""
        with self._changes:
            record = self.record
            yield record
            write_record(self.path / HEAD, asdict(record))
            self.__dict__.pop("_known", None)

    def _check_not_lost(self, part: Path, file: str, remedy: str) -> None:
        """Refuse to take a part whose record is gone for one that was never measured.

        Raises:
            DamagedError: the head says that it has a record.
        """
        if part.name in self._known[2]:
            raise DamagedError.single(
                str(part / file), f"is missing, and {HEAD} says that it was written", remedy
            )

    def has_file(self, name: str) -> bool:
        """Return whether one of the files that never change ought to be there, or is."""
        return name in self._known[1] or is_there(self.path / name)

    def read_file(self, name: str) -> bytes:
        """Return one of the files that never change, as it was written.

        Raises:
            InputError: it cannot be read, or is not what was written.
        """
        data = read_bytes(self.path / name)
        check_digest(data, self._known[1].get(name), self.path / name, "was written", RESTORE)
        return data

    def _write_file(self, name: str, data: bytes) -> None:
        """Add one of the files that never change."""
        write_atomic(self.path / name, data)
        with self._changed_head() as record:
            record.files[name] = seals.digest(data)

    def _names_file(self, name: str) -> bool:
        """Return whether the head names one of the files that never change."""
        return name in self._known[1]

    def _forget_file(self, name: str) -> None:
        """Put a damaged one of those files aside, where it is there, so that it can be written again."""
        if (self.path / name).exists():
            self.put_aside(self.path / name)
        with self._changed_head() as record:
            del record.files[name]

    @property
    def experiment(self) -> str:
        """The experiment's text, as it was run."""
        return text_of(self.path / EXPERIMENT, self.read_file(EXPERIMENT))

    @property
    def environment(self) -> dict[str, Any]:
        """What was recorded of the host."""
        path = self.path / ENVIRONMENT
        environment = validated(dict[str, Any], self.read_json(ENVIRONMENT), path)
        host = environment.get("host", {})
        if not isinstance(host, dict) or not isinstance(host.get("cpu", {}), dict):
            raise damaged(path, "is no description of a host", at="host")
        return environment

    def _read_plan(self, parse: Callable[[Any], _Plan]) -> _Plan:
        """Return the plan, by what makes one of JSON.

        Raises:
            DamagedError: it is none.
        """
        try:
            return parse(self.read_json(PLAN))
        except ValueError as error:
            raise DamagedError.single(f"{self.path}/{PLAN}", str(error), RESTORE) from error

    def read_json(self, name: str) -> Any:
        """Return the content of one of the files that never change."""
        return parsed(self.read_file(name), self.path / name, RESTORE)

    def set_state(self, state: RunState, *, stopped: str | None, wall_seconds: float) -> None:
        """Put the run's state on disk; ``wall_seconds`` are added to what earlier parts took."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with self._changed_head() as record:
            record.state = state
            record.stopped = stopped
            record.wall_seconds += wall_seconds
            record.ended = None if state is RunState.RUNNING else now

    def keep_lost_time(self, present: _Head) -> None:
        """Put on disk what a run that was cut off is known to have taken; others are left as they are.

        Args:
            present: what ``present`` said before there was a writer again.
        """
        written = self.record
        if present.state is not written.state:
            lost = present.wall_seconds - written.wall_seconds
            self.set_state(present.state, stopped=present.stopped, wall_seconds=lost)

    def put_aside(self, part: Path) -> Path:
        """Move what is damaged out of the way, so that it can be measured again; return where it is now."""
        place = make_directory(self.path / DAMAGED)
        free = (place / f"{part.name}-{number}" for number in itertools.count(1))
        target = next(path for path in free if not path.exists())
        part.rename(target)
        sync_directory(place)
        sync_directory(part.parent)
        return target


def _json(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
