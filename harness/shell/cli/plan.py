"""``harness plan``."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import click

from harness.shell.cli.options import (
    alpha_option,
    budget_option,
    experiment_argument,
    json_option,
    print_json,
    state_dir_option,
)

if TYPE_CHECKING:
    from pathlib import Path

    from harness.core.planning import Plan
    from harness.shell.declare import Declared
    from harness.shell.expectation import Expectation

_SHOWN_COUNTS = 14


@click.command()
@experiment_argument
@click.option("--blocks", type=click.IntRange(1), help="Plan this many blocks instead of the experiment's.")
@click.option("--seed", type=click.IntRange(0), help="Order by this seed instead of the experiment's.")
@budget_option
@alpha_option
@click.option("--all", "show_all", is_flag=True, help="List every session, not only the first two pairs.")
@state_dir_option
@json_option
def command(
    experiment: Path,
    *,
    blocks: int | None,
    seed: int | None,
    budget: str | None,
    alpha: float | None,
    show_all: bool,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Show what would run, in order, and how long it would take; nothing is touched.

    \b
      harness plan fio/quick.yml
      harness plan fio/coroutine-pool.yml --budget 40m
      harness plan fio/coroutine-pool.yml --blocks 60 --json
    """
    from harness.adapters.workspace import Workspace
    from harness.core.model import Workload
    from harness.core.planning import plan_to_json
    from harness.shell.declare import Changes, declare, declare_within, plan_of, read_experiment
    from harness.shell.expectation import expect

    workspace, changes = Workspace.at(state_dir), Changes(blocks=blocks, seed=seed, alpha=alpha)
    file = read_experiment(experiment)
    if (counted := declare(file)).experiment.workload is Workload.INSTRUCTIONS:
        given = {"--blocks": blocks, "--seed": seed, "--budget": budget, "--alpha": alpha}
        if wrong := [name for name, value in given.items() if value is not None]:
            raise click.UsageError(
                f"{', '.join(wrong)}: counts of instructions have neither blocks nor order"
            )
        _plan_counts(counted, as_json=as_json, show_all=show_all)
        return
    if budget is None:
        declared = declare(file, changes)
    else:
        declared = declare_within(file, changes, budget=budget, workspace=workspace)
    plan = plan_of(declared.experiment)
    expected = expect(declared.experiment, plan, workspace)
    if as_json:
        print_json(plan_to_json(plan) | {"expected": expected.to_json()})
        return
    _print(plan, expected, show_all=show_all)


def _plan_counts(declared: Declared, *, as_json: bool, show_all: bool) -> None:
    from harness.core.counting.planning import count_plan_to_json
    from harness.core.model import Counter
    from harness.core.units import format_duration
    from harness.shell.counting import count_plan_of, expected_seconds

    plan = count_plan_of(declared.experiment)
    expected = expected_seconds(plan, cycles=declared.experiment.instructions.cycles)
    if as_json:
        print_json(count_plan_to_json(plan) | {"expected": {"wall_seconds": expected}})
        return
    shown = plan.counts if show_all else plan.counts[:_SHOWN_COUNTS]
    for count in shown:
        served = f"{count.requests} requests" + (", system calls" if count.counter is Counter.STRACE else "")
        click.echo(f"count {count.number:>4}  {count.variant:<12} {count.cell.label}  {served}")
    if len(shown) < len(plan.counts):
        click.echo(f"... {len(plan.counts) - len(shown)} more counts (--all)")
    click.echo(f"\n{len(plan.counts)} counts, about {format_duration(expected)} on this host")


def _times(label: str, count: int) -> str:
    return label if count == 1 else f"{label} x{count}"


def _print(plan: Plan, expected: Expectation, *, show_all: bool) -> None:
    shown = [session for session in plan.sessions if show_all or session.block < 4]  # noqa: PLR2004 - two pairs
    for session in shown:
        labels = groupby(iteration.cell.label for iteration in session.iterations)
        cells = " ".join(_times(label, len(list(again))) for label, again in labels)
        click.echo(f"block {session.block:>3}  session {session.number:>4}  {session.variant:<12} {cells}")
    if len(shown) < len(plan.sessions):
        click.echo(f"... {len(plan.sessions) - len(shown)} more sessions (--all)")
    click.echo("")
    click.echo(
        f"{plan.blocks} blocks, {len(plan.sessions)} sessions, {plan.iteration_count} iterations, "
        f"{plan.runtime:g} s each after {plan.ramp:g} s of ramp, seed {plan.seed}"
    )
    for line in expected.lines():
        click.echo(line)
