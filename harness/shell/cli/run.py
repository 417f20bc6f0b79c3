"""``harness run``."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.core.errors import InputError, Interrupted
from harness.shell.cli.options import (
    PATH,
    budget_option,
    noise_floor_option,
    quiet_option,
    state_dir_option,
    stopping_on_signals,
)

if TYPE_CHECKING:
    from harness.adapters.provision import Manifest
    from harness.adapters.store import RunDirectory
    from harness.adapters.waiting import Stop
    from harness.adapters.workspace import Workspace
    from harness.shell.campaign import Outcome
    from harness.shell.console import Console
    from harness.shell.declare import Declared
    from harness.shell.runner import RunOptions


@click.command()
@click.argument("experiment", type=PATH, required=False)
@click.option("--resume", "resume_dir", type=PATH, help="Go on with what is missing of this run directory.")
@click.option("--run-dir", type=PATH, help="The new run directory [default: runs/NAME-TIME].")
@click.option("--no-provision", is_flag=True, help="Trust what `harness provision` made before.")
@click.option("--blocks", type=click.IntRange(1), help="Run this many blocks instead of the experiment's.")
@click.option("--seed", type=click.IntRange(0), help="Order by this seed instead of the experiment's.")
@budget_option
@click.option("--accel", type=click.Choice(["auto", "kvm", "tcg"]), help="Instead of the experiment's.")
@click.option("--aa", is_flag=True, help="Measure the baseline against itself: the host's noise floor.")
@click.option("--ceiling", is_flag=True, help="First measure the disk on the host without a guest.")
@noise_floor_option
@click.option("--fail-on", type=click.Choice(["slower", "unclear"]), multiple=True, help="Exit with 3 or 4.")
@state_dir_option
@quiet_option
def command(
    experiment: Path | None,
    *,
    resume_dir: Path | None,
    run_dir: Path | None,
    no_provision: bool,
    blocks: int | None,
    seed: int | None,
    budget: str | None,
    accel: str | None,
    aa: bool,
    ceiling: bool,
    noise_floor: Path | None,
    fail_on: tuple[str, ...],
    state_dir: Path | None,
    quiet: bool,
) -> int:
    """Run an experiment and print its table.

    Provisions what is missing, decides whether KVM works here, boots the guests in the plan's order and
    keeps everything in a run directory. Ctrl-C ends the guest and keeps what was measured.

    \b
      harness run fio/quick.yml
      harness run fio/quick.yml --aa --blocks 10
      harness run fio/instructions.yml
      harness run --resume runs/quick-20260101T120000
    """
    from harness.adapters.ceiling import check_ceiling
    from harness.adapters.store import check_new
    from harness.adapters.workspace import Workspace
    from harness.shell.comparing import Judgement, compare_run
    from harness.shell.console import Console
    from harness.shell.declare import Changes, declare, declare_within
    from harness.shell.runner import RunOptions

    kept: dict[str, object] = {"--run-dir": run_dir, "--blocks": blocks, "--seed": seed, "--budget": budget}
    kept |= {"--accel": accel, "--aa": aa or None, "--ceiling": ceiling or None, "--noise-floor": noise_floor}
    _check_usage(experiment, resume_dir, kept)
    console, workspace = Console(quiet=quiet), Workspace.at(state_dir)
    with stopping_on_signals() as stop:
        if _counts(experiment, resume_dir):
            _refuse(kept, "counts of instructions have neither blocks, order nor accelerator")
            counted = _count(
                experiment, resume_dir, run_dir, workspace, console, stop, provision=not no_provision, aa=aa
            )
            return _report_counts(*counted, console, fail_on)
        if experiment is not None:
            changes = Changes(blocks=blocks, seed=seed, accel=accel, aa=aa)
            if budget is None:
                declared = declare(experiment, changes)
            else:
                declared = declare_within(experiment, changes, budget=budget, workspace=workspace)
            options = RunOptions(ceiling=ceiling, noise_floor=noise_floor)
            if noise_floor is not None:
                compare_run(noise_floor, Judgement())  # a damaged one is found before the run, not after
            if ceiling:
                check_ceiling(declared.experiment, declared.source)
            directory = run_dir or _new_directory(declared.experiment.name)
            check_new(directory)  # provisioning may take minutes
            found = _provisioned(declared, workspace, console, stop, no_provision=no_provision)
            run, outcome = _start(declared, found, directory, workspace, console, stop, options)
        else:
            assert resume_dir is not None  # noqa: S101 - _check_usage saw to it
            run, outcome = _resume(resume_dir, workspace, console, stop)
    return _report(run, outcome, workspace, console, fail_on)


def _check_usage(experiment: Path | None, resume_dir: Path | None, options: dict[str, object]) -> None:
    if (experiment is None) == (resume_dir is None):
        raise click.UsageError(
            "name an experiment, or a run directory with --resume; see `harness run --help`"
        )
    wrong = [name for name, value in options.items() if value is not None]
    if resume_dir is not None and wrong:
        raise click.UsageError(f"{', '.join(wrong)}: a run that goes on keeps its plan and its directory")


def _counts(experiment: Path | None, resume_dir: Path | None) -> bool:
    """Return whether it is instructions that are to be counted."""
    from harness.adapters.count_store import holds_counts
    from harness.core.model import Workload
    from harness.shell.declare import declare

    if experiment is not None:
        return declare(experiment).experiment.workload is Workload.INSTRUCTIONS
    return resume_dir is not None and holds_counts(resume_dir)


def _refuse(options: dict[str, object], why: str) -> None:
    wrong = [
        name for name, value in options.items() if value is not None and name not in {"--run-dir", "--aa"}
    ]
    if wrong:
        raise click.UsageError(f"{', '.join(wrong)}: {why}")


def _count(
    experiment: Path | None,
    resume_dir: Path | None,
    run_dir: Path | None,
    workspace: Workspace,
    console: Console,
    stop: Stop,
    *,
    provision: bool,
    aa: bool,
) -> tuple[Path, Outcome]:
    from harness.adapters.count_store import CountDirectory
    from harness.adapters.store import check_new
    from harness.shell.count_progress import CountDisplay
    from harness.shell.counting import CountRunner
    from harness.shell.declare import Changes, declare

    if experiment is None:
        assert resume_dir is not None  # noqa: S101 - _check_usage saw to it
        with CountDisplay(console) as display:
            outcome = CountRunner(workspace, stop, display.emit).resume(CountDirectory.open(resume_dir))
        return resume_dir, outcome
    declared = declare(experiment, Changes(aa=aa))
    directory = run_dir or _new_directory(declared.experiment.name)
    check_new(directory)
    found = _provisioned(declared, workspace, console, stop, no_provision=not provision)
    with CountDisplay(console) as display:
        _store, outcome = CountRunner(workspace, stop, display.emit).start(declared, found, directory)
    return directory, outcome


def _new_directory(name: str) -> Path:
    return Path("runs") / f"{name}-{datetime.now():%Y%m%dT%H%M%S}"  # noqa: DTZ005 - people read it


def _report_counts(directory: Path, outcome: Outcome, console: Console, fail_on: tuple[str, ...]) -> int:
    from harness.analysis.cost_tables import render_costs
    from harness.core.records import RunState
    from harness.shell.cli.compare import cost_exit_code
    from harness.shell.costing import compare_counts

    console.say(f"run directory: {directory}")
    if outcome.state is RunState.INTERRUPTED:
        console.say(f"interrupted; go on with: harness run --resume {directory}")
        return Interrupted.exit_code
    code = 0
    try:
        comparison = compare_counts(directory)
        click.echo(render_costs(comparison), nl=False)
        code = cost_exit_code(comparison, fail_on)
    except InputError as error:
        console.error(error)
        code = error.exit_code
    for failure in outcome.failures:
        console.warn(f"failed: {failure}")
    return 1 if outcome.state is RunState.FAILED else code


def _provisioned(
    declared: Declared, workspace: Workspace, console: Console, stop: Stop, *, no_provision: bool
) -> Manifest:
    from harness.adapters.provision import Manifest, read_manifest
    from harness.shell.runner import provision_for

    if no_provision:
        path = workspace.manifest(declared.experiment.name)
        found = read_manifest(path)
        if set(found.builds) != set(declared.experiment.builds):
            raise InputError.single(
                str(path),
                f"has the builds {', '.join(found.builds)}, not {', '.join(declared.experiment.builds)}",
                f"run `harness provision {declared.source}`, or leave --no-provision out",
            )
        return found
    result = provision_for(declared, workspace, on_task=console.task, stop=stop)
    console.say(f"provisioned: changed={result.changed} ok={result.ok}")
    return Manifest(result.builds, result.guest_image)


def _start(
    declared: Declared,
    found: Manifest,
    directory: Path,
    workspace: Workspace,
    console: Console,
    stop: Stop,
    options: RunOptions,
) -> tuple[RunDirectory, Outcome]:
    from harness.shell.runner import Runner

    with console.progress() as progress:
        runner = Runner(workspace, stop, console.say, progress.emit)
        return runner.start(declared, found, directory, options)


def _resume(
    directory: Path, workspace: Workspace, console: Console, stop: Stop
) -> tuple[RunDirectory, Outcome]:
    from harness.adapters.store import RunDirectory
    from harness.shell.runner import Runner

    run = RunDirectory.open(directory)
    with console.progress() as progress:
        return run, Runner(workspace, stop, console.say, progress.emit).resume(run)


def _report(
    run: RunDirectory, outcome: Outcome, workspace: Workspace, console: Console, fail_on: tuple[str, ...]
) -> int:
    from harness.core.records import RunState
    from harness.shell.cli.compare import exit_code
    from harness.shell.comparing import Judgement, compare_run
    from harness.shell.learning import learn

    console.say(f"run directory: {run.path}")
    if outcome.state is RunState.INTERRUPTED:
        console.say(f"interrupted; go on with: harness run --resume {run.path}")
        return Interrupted.exit_code
    code = 0
    try:
        from harness.analysis.tables import render

        comparison = compare_run(run.path, Judgement())
        click.echo(render(comparison, "text"), nl=False)
        code = exit_code(comparison, fail_on)
        learn(run, workspace.experience)
    except InputError as error:
        console.error(error)
        code = error.exit_code
    for failure in outcome.failures:
        console.warn(f"failed: {failure}")
    return 1 if outcome.state is RunState.FAILED else code
