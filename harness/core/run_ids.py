"""What a run is called: its experiment, when it began, and its host, so that those of a fleet differ."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

_LONGEST_HOST = 32
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9-]")


def run_id_of(experiment: str, began: datetime, host: str) -> str:
    """Return the id of a run.

    Args:
        experiment: its name.
        began: when, in UTC.
        host: the machine's name, short or full.
    """
    return f"{experiment}-{began:%Y%m%dT%H%M%SZ}-{host_in_run_id(host)}"


def host_in_run_id(host: str) -> str:
    """Return how a machine is called in a run's id, which domains and directories are named after, too."""
    return _NOT_IN_A_NAME.sub("-", host.partition(".")[0])[:_LONGEST_HOST]
