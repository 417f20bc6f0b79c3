"""Every fuzz target by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuzz import (
    bundle_target,
    callgrind_target,
    counts_target,
    csv_target,
    experiment_target,
    fio_target,
    guest_target,
    history_target,
    run_target,
)

if TYPE_CHECKING:
    from fuzz.target import Target

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        experiment_target.TARGET,
        fio_target.TARGET,
        guest_target.AGENT,
        guest_target.FACTS,
        run_target.TARGET,
        counts_target.TARGET,
        bundle_target.TARGET,
        callgrind_target.TARGET,
        csv_target.TARGET,
        history_target.TARGET,
    )
}
