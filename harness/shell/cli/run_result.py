"""How ``harness run`` ends: what it says, the table it prints, the exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from harness.core.errors import InputError, Interrupted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.adapters.results.store import RunDirectory
    from harness.adapters.workspace import Workspace
    from harness.shell.campaign import Outcome
    from harness.shell.console import Console


def report(directory: Path, outcome: Outcome, console: Console, result: Callable[[], int]) -> int:
    """Say how a run ended, print its result, and return the exit code.

    Args:
        directory: the run directory.
        outcome: how the run ended.
        console: takes what is no result.
        result: prints it and returns the exit code that it asks for.
    """
    from harness.core.records import RunState

    console.say(f"run directory: {directory}")
    if outcome.state is RunState.INTERRUPTED:
        console.say(f"interrupted; go on with: harness run --resume {directory}")
        return Interrupted.exit_code
    try:
        code = result()
    except InputError as error:
        console.error(error)
        code = error.exit_code
    for failure in outcome.failures:
        console.warn(f"failed: {failure}")
    return 1 if outcome.state is RunState.FAILED else code


def guest_result(run: RunDirectory, workspace: Workspace, console: Console, fail_on: tuple[str, ...]) -> int:
    """Print the table of a run with guests; return the exit code that ``--fail-on`` asks for."""
    from harness.core.model import Workload
    from harness.shell.results import workload_of

    if workload_of(run.path) is Workload.POOL_GROWTH:
        return _pool_result(run, console)
    return _fio_result(run, workspace, fail_on)


def _fio_result(run: RunDirectory, workspace: Workspace, fail_on: tuple[str, ...]) -> int:
    from harness.analysis.tables import render
    from harness.shell.cli.exit_codes import exit_code
    from harness.shell.comparing import compare_run
    from harness.shell.judging import Judgement
    from harness.shell.learning import learn

    comparison = compare_run(run.path, Judgement())
    click.echo(render(comparison, "text"), nl=False)
    learn(run, workspace.experience)
    return exit_code([comparison], fail_on)


def _pool_result(run: RunDirectory, console: Console) -> int:
    from harness.analysis.pool_tables import render_pool
    from harness.shell.pool_plot import write_pool_plot
    from harness.shell.pool_report import pool_report

    report = pool_report(run.path)
    click.echo(render_pool(report), nl=False)
    picture = run.path / "pool.svg"
    write_pool_plot(report, picture)
    console.say(f"plot: {picture}")
    return 0


def count_result(directory: Path, fail_on: tuple[str, ...]) -> int:
    """Print the table of a run of counts; return the exit code that ``--fail-on`` asks for."""
    from harness.analysis.cost_tables import render_costs
    from harness.shell.cli.exit_codes import cost_exit_code
    from harness.shell.costing import compare_counts

    comparison = compare_counts(directory)
    click.echo(render_costs(comparison), nl=False)
    return cost_exit_code(comparison, fail_on)
