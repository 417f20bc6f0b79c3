"""The run directory's ``host.jsonl``: the host's settings when the run began, and what changed after that."""

from __future__ import annotations

import os
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import TypeAdapter

from harness.adapters.files import is_there, read_bytes
from harness.core.errors import HarnessError
from harness.core.quiet.drift import Look, Moment, changed, drift_sentences
from harness.core.quiet.snapshot import Change

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from harness.adapters.host.settings import HostSettings
    from harness.core.quiet.drift import Values

HOST_LOG = "host.jsonl"
_LOOK = TypeAdapter(Look)
_TUNED = TypeAdapter(list[Change])


class HostLog:
    """Reads the host's settings at the moments it is told, and keeps what changed.

    Args:
        directory: the run directory.
        host: whose settings.
    """

    def __init__(self, directory: Path, host: HostSettings) -> None:
        self._path = directory / HOST_LOG
        self._host = host
        self._last: Values = {}

    def begin(self, tuned: Iterable[Change]) -> None:
        """Keep all settings, and what of them the run changed itself."""
        self._last = self._host.values()
        self._append(Moment.BEGAN, "", self._last, tuned=[asdict(change) for change in tuned])

    def look(self, moment: Moment, session: str = "") -> None:
        """Read all settings, and keep those that changed since they were last read.

        Raises:
            HarnessError: it could not be kept.
        """
        now = self._host.values()
        news = changed(self._last, now)
        self._last = now
        if news:
            self._append(moment, session, news)

    def _append(self, moment: Moment, session: str, values: Values, **more: Any) -> None:
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = {"at": at, "moment": moment, "session": session, "values": values, **more}
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                # One that a crash tore ends here.
                begin = b"" if os.fstat(descriptor).st_size == 0 else b"\n"
                os.write(descriptor, begin + orjson.dumps(line))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise HarnessError(f"cannot write {self._path}: {error.strerror}") from error


def read_looks(directory: Path) -> tuple[list[Look], list[Change]]:
    """Return what was kept of the host's settings, and what the run changed itself, newest part of it.

    A run of an older harness has none; a line that is torn is left out.
    """
    path = directory / HOST_LOG
    looks: list[Look] = []
    tuned: list[Change] = []
    for line in read_bytes(path).splitlines() if is_there(path) else ():
        try:
            raw = orjson.loads(line)
            look = _LOOK.validate_python(raw)
            if "tuned" in raw:
                tuned = _TUNED.validate_python(raw["tuned"])
        except ValueError:  # pydantic's and orjson's errors are such
            continue
        looks.append(look)
    return looks, tuned


def drift_of(directory: Path) -> list[str]:
    """Return a sentence for each host setting that changed during the run."""
    return drift_sentences(read_looks(directory)[0])
