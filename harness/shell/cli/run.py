"""``harness run``."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.core.errors import InputError
from harness.shell.cli.options import (
    PATH,
    Waits,
    alpha_option,
    budget_option,
    margin_option,
    noise_floor_option,
    patience_of,
    quiet_option,
    state_dir_option,
    stopping_on_signals,
    wait_option,
)
from harness.shell.cli.run_result import count_result, guest_result, report

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.adapters.host.locks import Patience
    from harness.adapters.manifest import Manifest
    from harness.adapters.results.store import RunDirectory
    from harness.adapters.waiting import Stop
    from harness.adapters.workspace import Workspace
    from harness.core.experiment import Experiment
    from harness.shell.beginning import RunOptions
    from harness.shell.campaign import Outcome
    from harness.shell.console import Console
    from harness.shell.declare import Declared, ExperimentFile
    from harness.shell.events import Event
    from harness.shell.guestless import GuestlessRunner
    from harness.shell.runner import Runner


@click.command(cls=Waits)
@click.argument("experiment", type=PATH, required=False)
@click.option("--resume", "resume_dir", type=PATH, help="Go on with what is missing of this run directory.")
@click.option("--run-dir", type=PATH, help="The new run directory [default: runs/NAME-TIME].")
@click.option("--no-provision", is_flag=True, help="Trust what `harness provision` made before.")
@click.option("--blocks", type=click.IntRange(1), help="Run this many blocks instead of the experiment's.")
@click.option("--seed", type=click.IntRange(0), help="Order by this seed instead of the experiment's.")
@budget_option
@margin_option
@alpha_option
@click.option("--accel", type=click.Choice(["auto", "kvm", "tcg"]), help="Instead of the experiment's.")
@click.option("--aa", is_flag=True, help="Measure the baseline against itself: the host's noise floor.")
@click.option("--ceiling", is_flag=True, help="First measure the disk on the host without a guest.")
@noise_floor_option
@click.option("--to-the-limit", is_flag=True, help="pool-growth: go on until QEMU aborts or the rounds end.")
@click.option(
    "--max-map-count",
    type=click.IntRange(1024, 2**31 - 1),
    metavar="N",
    help="Set vm.max_map_count for this run; put back afterwards, also after a crash.",
)
@click.option("--fail-on", type=click.Choice(["slower", "unclear"]), multiple=True, help="Exit with 3 or 4.")
@wait_option
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
    margin: float | None,
    alpha: float | None,
    accel: str | None,
    aa: bool,
    ceiling: bool,
    noise_floor: Path | None,
    to_the_limit: bool,
    max_map_count: int | None,
    fail_on: tuple[str, ...],
    wait: float | None,
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
      harness run fio/quick.yml --wait 2h
    """
    from harness.adapters.ceiling import check_ceiling
    from harness.adapters.host.locks import host_alone
    from harness.adapters.results.store import check_new
    from harness.adapters.workspace import Workspace
    from harness.core.model import Workload
    from harness.shell.beginning import RunOptions
    from harness.shell.console import Console
    from harness.shell.declare import Changes, declare, declare_within, read_experiment
    from harness.shell.quieting import check_tuning

    kept: dict[str, object] = {"--run-dir": run_dir, "--blocks": blocks, "--seed": seed, "--budget": budget}
    kept |= {"--margin": margin, "--alpha": alpha}
    kept |= {"--accel": accel, "--aa": aa or None, "--ceiling": ceiling or None, "--noise-floor": noise_floor}
    kept |= {"--to-the-limit": to_the_limit or None, "--max-map-count": max_map_count}
    _check_usage(experiment, resume_dir, kept)
    file = None if experiment is None else read_experiment(experiment)
    console, workspace = Console(quiet=quiet), Workspace.at(state_dir)
    workspace.check_sockets()
    with stopping_on_signals() as stop:
        patience = patience_of(wait, console.say, stop)
        if _counts(file, resume_dir):
            _refuse(kept, "counts of instructions have neither blocks, order nor accelerator")
            counted = _count(
                file,
                resume_dir,
                run_dir,
                workspace,
                console,
                stop,
                patience,
                provision=not no_provision,
                aa=aa,
            )
            return report(*counted, console, lambda: count_result(counted[0], fail_on))
        if file is not None:
            changes = Changes(
                blocks=blocks,
                seed=seed,
                margin=margin,
                alpha=alpha,
                accel=accel,
                aa=aa,
                to_the_limit=to_the_limit,
            )
            if budget is None:
                declared = declare(file, changes)
            else:
                declared = declare_within(file, changes, budget=budget, workspace=workspace)
            if declared.experiment.workload is Workload.POOL_GROWTH:
                meaningless: dict[str, object] = {
                    "--fail-on": fail_on or None,
                    "--margin": margin,
                    "--alpha": alpha,
                }
                _refuse(meaningless, "pool-growth is judged by its rounds, and gives no verdict on cells")
            options = RunOptions(ceiling=ceiling, noise_floor=noise_floor, max_map_count=max_map_count)
            check_tuning(declared.experiment, declared.source, max_map_count)
            if noise_floor is not None:
                _check_noise_floor(noise_floor, declared)
            if ceiling:
                check_ceiling(declared.experiment, declared.source)
            directory = run_dir or _new_directory(declared.experiment.name)
            check_new(directory)  # provisioning may take minutes
            with host_alone(patience):
                pass  # nothing is installed or compiled while somebody else measures
            found = _provisioned(declared, workspace, console, stop, no_provision=no_provision)
            run, outcome = _start(declared, found, directory, workspace, console, stop, patience, options)
        else:
            assert resume_dir is not None  # noqa: S101 - _check_usage saw to it
            run, outcome = _resume(resume_dir, workspace, console, stop, patience)
    return report(run.path, outcome, console, lambda: guest_result(run, workspace, console, fail_on))


def _check_usage(experiment: Path | None, resume_dir: Path | None, options: dict[str, object]) -> None:
    from harness.adapters.results.bundle import was_unpacked
    from harness.adapters.results.run_layout import is_bundle

    if (experiment is None) == (resume_dir is None):
        raise click.UsageError(
            "name an experiment, or a run directory with --resume; see `harness run --help`"
        )
    wrong = [name for name, value in options.items() if value is not None]
    if resume_dir is not None and wrong:
        raise click.UsageError(f"{', '.join(wrong)}: a run that goes on keeps its plan and its directory")
    if resume_dir is not None and (is_bundle(resume_dir) or was_unpacked(resume_dir)):
        raise InputError.single(
            str(resume_dir), "is a bundle: a copy to be read", "resume the run directory it was made of"
        )


def _counts(file: ExperimentFile | None, resume_dir: Path | None) -> bool:
    """Return whether it is instructions that are to be counted."""
    from harness.adapters.results.run_layout import holds_counts
    from harness.core.model import Workload
    from harness.shell.declare import declare

    if file is not None:
        return declare(file).experiment.workload is Workload.INSTRUCTIONS
    return resume_dir is not None and holds_counts(resume_dir)


def _refuse(options: dict[str, object], why: str) -> None:
    wrong = [
        name for name, value in options.items() if value is not None and name not in {"--run-dir", "--aa"}
    ]
    if wrong:
        raise click.UsageError(f"{', '.join(wrong)}: {why}")


def _count(
    file: ExperimentFile | None,
    resume_dir: Path | None,
    run_dir: Path | None,
    workspace: Workspace,
    console: Console,
    stop: Stop,
    patience: Patience,
    *,
    provision: bool,
    aa: bool,
) -> tuple[Path, Outcome]:
    from harness.adapters.guestless.store import CountDirectory
    from harness.adapters.host.locks import host_shared
    from harness.adapters.results.store import check_new
    from harness.shell.count_progress import CountDisplay
    from harness.shell.counting import CountRunner
    from harness.shell.declare import Changes, declare

    if file is None:
        assert resume_dir is not None  # noqa: S101 - _check_usage saw to it
        with CountDisplay(console) as display:
            runner = CountRunner(workspace, stop, display.emit, console.say, patience)
            outcome = runner.resume(CountDirectory.open(resume_dir))
        return resume_dir, outcome
    declared = declare(file, Changes(aa=aa))
    directory = run_dir or _new_directory(declared.experiment.name)
    check_new(directory)
    with host_shared(patience):
        pass  # nothing is installed or compiled while somebody measures
    found = _provisioned(declared, workspace, console, stop, no_provision=not provision)
    with CountDisplay(console) as display:
        runner = CountRunner(workspace, stop, display.emit, console.say, patience)
        _store, outcome = runner.start(declared, found, directory)
    return directory, outcome


def _check_noise_floor(noise_floor: Path, declared: Declared) -> None:
    """Refuse one that says nothing of this run: before it, not after."""
    from harness.adapters.host.facts import environment
    from harness.shell.comparing import read_noise_floor
    from harness.shell.judging import Judgement
    from harness.shell.noise_floor import place_of

    read_noise_floor(noise_floor, declared.experiment, place_of(environment()), Judgement())


def _new_directory(name: str) -> Path:
    return Path("runs") / f"{name}-{datetime.now():%Y%m%dT%H%M%S}"  # noqa: DTZ005 - people read it


def _provisioned(
    declared: Declared, workspace: Workspace, console: Console, stop: Stop, *, no_provision: bool
) -> Manifest:
    from harness.adapters.manifest import Manifest, read_manifest
    from harness.shell.provisioning import provision_for

    if no_provision:
        # Of an A/A run only the baseline is wanted, which the experiment's own provisioning made.
        path = workspace.manifest(declared.experiment.name)
        found = read_manifest(path)
        if declared.aa:
            found = _against_itself(found, declared.experiment)
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


def _against_itself(found: Manifest, experiment: Experiment) -> Manifest:
    """Return the baseline's build in every role."""
    build = found.builds.get(experiment.baseline)
    if build is None:
        return found
    return replace(found, builds={name: replace(build, name=name) for name in experiment.variants})


def _start(
    declared: Declared,
    found: Manifest,
    directory: Path,
    workspace: Workspace,
    console: Console,
    stop: Stop,
    patience: Patience,
    options: RunOptions,
) -> tuple[RunDirectory, Outcome]:
    with console.progress() as progress:
        runner = _runner(declared.experiment, workspace, console, stop, patience, progress.emit)
        return runner.start(declared, found, directory, options)


def _runner(
    experiment: Experiment,
    workspace: Workspace,
    console: Console,
    stop: Stop,
    patience: Patience,
    emit: Callable[[Event], None],
) -> Runner | GuestlessRunner:
    from harness.core.model import Workload
    from harness.shell.guestless import GuestlessRunner
    from harness.shell.runner import Runner

    guestless = experiment.workload is Workload.POOL_GROWTH and experiment.pool.guestless
    if guestless:
        return GuestlessRunner(workspace, stop, console.say, emit, patience)
    return Runner(workspace, stop, console.say, emit, on_task=console.task, patience=patience)


def _resume(
    directory: Path, workspace: Workspace, console: Console, stop: Stop, patience: Patience
) -> tuple[RunDirectory, Outcome]:
    from harness.adapters.results.store import RunDirectory
    from harness.core.experiment import load_experiment

    run = RunDirectory.open(directory)
    experiment = load_experiment(run.experiment, f"{directory}/experiment.yml")
    with console.progress() as progress:
        return run, _runner(experiment, workspace, console, stop, patience, progress.emit).resume(run)
