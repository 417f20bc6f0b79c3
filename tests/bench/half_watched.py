"""The harness command, with telemetry for one of two variants only: does watching change what is measured?

usage: python half_watched.py VARIANT ARGUMENT...     VARIANT goes unwatched
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from harness.adapters import lab
from harness.adapters.telemetry.sampler import TelemetryRecorder
from harness.shell.cli import main

if TYPE_CHECKING:
    from pathlib import Path

_UNWATCHED = sys.argv.pop(1)


def _recorder(path: Path, pid: int | None, *others: Any, **options: Any) -> TelemetryRecorder:
    unwatched = path.parent.name.partition("-")[2] == _UNWATCHED
    return TelemetryRecorder(path, None if unwatched else pid, *others, **options)


if __name__ == "__main__":
    vars(lab)["TelemetryRecorder"] = _recorder
    main()
