"""What makes an iteration's output count, by workload."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from harness.core.fio_output import why_rejected

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.core.planning import Plan, PlannedIteration
    from harness.core.protocols import Execution

Judge: TypeAlias = "Callable[[Execution, PlannedIteration, Plan], str | None]"
"""Says why an execution does not count as the iteration that was planned; None when it does."""


def fio_judge(execution: Execution, iteration: PlannedIteration, plan: Plan) -> str | None:
    """Say why a fio run does not count as the iteration that was planned; None when it does."""
    return why_rejected(
        execution.stdout,
        execution.stderr,
        exit_code=execution.exit_code,
        cell=iteration.cell,
        runtime=plan.runtime,
        ramp=plan.ramp,
    )


def round_judge(execution: Execution, iteration: PlannedIteration, _plan: Plan) -> str | None:
    """Say why a round of pool-growth does not count; None when it does.

    Its burst ends when the late disks have answered, so how long fio ran says nothing.
    """
    unseen = mappings_judge(execution, iteration, _plan)
    return unseen or why_rejected(
        execution.stdout,
        execution.stderr,
        exit_code=execution.exit_code,
        cell=iteration.cell,
        runtime=None,
    )


def mappings_judge(execution: Execution, _iteration: PlannedIteration, _plan: Plan) -> str | None:
    """Say why a round of a driver outside does not count: its mappings are all that it has."""
    if execution.mappings is None:
        return "the mappings of the QEMU process could not be read"
    return None
