"""The run directory's ``host.jsonl``: the host's settings when the run began, and what changed after that.

Each line has a checksum (`core.seals`), and ``run.json`` knows one of the last: no line can change or vanish
unnoticed. No number depends on it, so what is damaged of it is left out, and told.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from harness.adapters.files import is_there, read_bytes
from harness.adapters.results.run_layout import HOST_LOG
from harness.core import seals
from harness.core.errors import HarnessError
from harness.core.quiet.drift import Look, Moment, changed, drift_sentences
from harness.core.quiet.snapshot import Change
from harness.core.type_adapters import adapter_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from harness.adapters.host.settings import HostSettings
    from harness.core.quiet.drift import Values


class HostLog:
    """Reads the host's settings at the moments it is told, and keeps what changed.

    Args:
        directory: the run directory.
        host: whose settings.

    Attributes:
        seal: the checksum in the last line.
    """

    def __init__(self, directory: Path, host: HostSettings) -> None:
        self._path = directory / HOST_LOG
        self._host = host
        self._last: Values = {}
        self.seal = read_looks(directory).seal

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
        record = {"at": at, "moment": moment, "session": session, "values": values, **more}
        line = seals.seal_line(record, self.seal)
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                # One that a crash tore ends here.
                begin = b"" if os.fstat(descriptor).st_size == 0 else b"\n"
                os.write(descriptor, begin + line)
                os.fsync(descriptor)
                self.seal = seals.look_at_line(line, self.seal)[1]
            finally:
                os.close(descriptor)
        except OSError as error:
            raise HarnessError(f"cannot write {self._path}: {error.strerror}") from error


@dataclass(slots=True)
class HostHistory:
    """What was kept of the host's settings.

    Attributes:
        looks: the readings, in order.
        tuned: what the run changed itself, newest part of it.
        remarks: what is damaged of the log, a sentence each.
        seal: the checksum in the last line that has one.
    """

    looks: list[Look] = field(default_factory=list)
    tuned: list[Change] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    seal: str = ""

    @property
    def drift(self) -> list[str]:
        """A sentence for each host setting that changed during the run."""
        return drift_sentences(self.looks)

    def add(self, line: bytes, number: int) -> seals.Seal:
        """Take a line, or remark why not; return what its checksum says."""
        state, seal = seals.look_at_line(line, self.seal)
        # A line without one is of an older harness, but not behind one that has one.
        strange = state is seals.Seal.BROKEN or (state is seals.Seal.ABSENT and bool(self.seal))
        self.seal = seal or self.seal
        try:
            raw = orjson.loads(line)
            look = adapter_of(Look).validate_python(raw)
            tuned = adapter_of(list[Change]).validate_python(raw["tuned"]) if "tuned" in raw else self.tuned
        except ValueError:  # pydantic's and orjson's errors are such
            self.remarks.append(f"line {number} of {HOST_LOG} is torn, as a crash leaves it")
            return seals.Seal.BROKEN
        if strange:
            self.remarks.append(f"line {number} of {HOST_LOG}, or the one before it, is not what was written")
        else:
            self.looks.append(look)
            self.tuned = tuned
        return state


def read_looks(directory: Path, kept: str | None = None) -> HostHistory:
    """Return what was kept of the host's settings; of a run of an older harness there may be nothing.

    Args:
        directory: the run directory.
        kept: the checksum in a line that has to be there, by the run's head.
    """
    path, found = directory / HOST_LOG, HostHistory()
    if not is_there(path):
        found.remarks += [f"{HOST_LOG} is missing"] if kept else []
        return found
    whole = set()
    for number, line in enumerate(read_bytes(path).split(b"\n"), start=1):
        if found.add(line, number) is seals.Seal.WHOLE:
            whole.add(found.seal)
    if kept and kept not in whole and not found.remarks:
        found.remarks.append(f"{HOST_LOG} lacks its end")
    return found
