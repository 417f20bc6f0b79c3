"""What an experiment cannot ask of its host's settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.core.experiment.finding import Finding
from harness.core.model import Tuning, Workload

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.core.experiment.model import Experiment


def contradictions(experiment: Experiment) -> Iterator[Finding]:
    """Find what contradicts itself in the settings that a run may change."""
    tuning = experiment.tuning
    if tuning == (Tuning.NONE,):
        return
    if Tuning.NONE in tuning:
        yield Finding((("tuning",),), "none beside settings", "remove none, or the settings")
    # Halt polling is no part of `all`: it is asked for beside it.
    included = [name for name in tuning if name not in {Tuning.ALL, Tuning.NONE, Tuning.HALT_POLL}]
    if Tuning.ALL in tuning and included:
        yield Finding((("tuning",),), f"all includes {included[0]}", "write all, or a list without it")
    if experiment.workload is Workload.INSTRUCTIONS:
        yield Finding(
            (("tuning",), ("workload",)),
            "counts of instructions do not depend on the host's settings",
            "remove tuning",
        )
