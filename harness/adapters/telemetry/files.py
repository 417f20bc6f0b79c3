"""The telemetry files of a run directory, read again; one that is damaged spoils nothing else."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from harness.adapters.files import inside, is_there, read_bytes
from harness.adapters.telemetry.sampler import telemetry_file
from harness.core.errors import InputError
from harness.core.telemetry import parse_telemetry

if TYPE_CHECKING:
    from harness.adapters.results.store import RunDirectory
    from harness.core.planning import PlannedSession
    from harness.core.records import SessionRecord
    from harness.core.telemetry import Telemetry, TelemetryRecord


def read_telemetry(
    run: RunDirectory, planned: PlannedSession, record: SessionRecord
) -> tuple[dict[int, Telemetry], list[str]]:
    """Read the telemetry of a session.

    A boot whose record names no file, since the harness was killed, has one all the same; one that was
    measured before there was telemetry has none.

    Returns:
        By boot, what could be read; and what could not, a sentence each that names the file.
    """
    found: dict[int, Telemetry] = {}
    warnings: list[str] = []
    directory = inside(run.path / "sessions", planned.directory)
    for boot, entry in enumerate(record.boots):
        kept = entry.telemetry
        path = inside(directory, kept.file if kept else telemetry_file(boot))
        if kept is None and not is_there(path):
            continue
        where = f"session {planned.directory}: its telemetry {path.name}"
        try:
            found[boot] = _parsed(read_bytes(path), kept)
        except InputError as error:
            warnings.append(f"{where} {error.problems[0].message}, and is left out")
        except ValueError as error:
            warnings.append(f"{where} {error}, and is left out")
        if kept and kept.problem:
            warnings.append(f"session {planned.directory}: {kept.problem}")
    return found, warnings


def _parsed(data: bytes, kept: TelemetryRecord | None) -> Telemetry:
    if kept is not None and hashlib.sha256(data).hexdigest() != kept.sha256:
        raise ValueError("is not what was recorded (its SHA-256 differs)")
    return parse_telemetry(data)
