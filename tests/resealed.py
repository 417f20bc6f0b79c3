"""Run directories that a test changed by hand, signed again: as if they had been written so."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from harness.adapters.files import sha256_of
from harness.adapters.results.run_layout import HEAD
from harness.core import seals

if TYPE_CHECKING:
    from pathlib import Path


def write_sealed(path: Path, record: dict[str, Any]) -> None:
    """Write a record (run.json, session.json, count.json) as the harness does, whatever it says."""
    path.write_bytes(seals.seal({key: value for key, value in record.items() if key != seals.KEY}))


def reseal(run: Path) -> None:
    """Let the head of a run name the checksums of the files as they are now, and every record its own."""
    for path in [*run.glob("sessions/*/session.json"), *run.glob("counts/*/count.json")]:
        record = json.loads(path.read_bytes())
        record["files"] = {name: sha256_of(path.parent / name) for name in record.get("files", {})}
        write_sealed(path, record)
    head = json.loads((run / HEAD).read_bytes())
    head["files"] = {name: sha256_of(run / name) for name in head["files"]}
    write_sealed(run / HEAD, head)


def rewrite(run: Path, name: str, content: str | dict[str, Any]) -> None:
    """Replace one of a run's files that never change, or a record, as if it had been written so."""
    (run / name).write_text(content if isinstance(content, str) else json.dumps(content))
    reseal(run)
