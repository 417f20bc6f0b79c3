"""``harness tune``."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.core.model import Tuning
from harness.shell.cli.options import (
    PATH,
    Waits,
    json_option,
    patience_of,
    print_json,
    state_dir_option,
    stopping_on_signals,
    wait_option,
)

if TYPE_CHECKING:
    from harness.shell.tuning import Tuned


@click.command(cls=Waits)
@click.argument("experiment", type=PATH, required=False)
@click.option(
    "--set",
    "names",
    type=click.Choice([name.value for name in Tuning if name is not Tuning.NONE]),
    multiple=True,
    help="Change this, instead of what an experiment allows; can be given several times.",
)
@click.option("--restore", is_flag=True, help="Put back what this, or a run that was killed, changed.")
@click.option(
    "--restore-run",
    is_flag=True,
    help="Put back only what a run that was killed changed; what is held by hand stays.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be changed.")
@click.option("--root", type=PATH, default=Path("/"), hidden=True, help="What stands for /, to try it out.")
@wait_option
@state_dir_option
@json_option
def command(
    experiment: Path | None,
    *,
    names: tuple[str, ...],
    restore: bool,
    restore_run: bool,
    dry_run: bool,
    root: Path,
    wait: float | None,
    state_dir: Path | None,
    as_json: bool,
) -> int:
    """Make this host quiet by hand, until --restore puts it back.

    A run does this itself where its experiment has `tuning:`, and puts it back at its end, also when it is
    killed. This is for a series of runs on a host, and for playbooks. A snapshot is taken before the first
    change; what somebody else changed since is left alone, and named.

    \b
      harness tune my.yml --dry-run
      harness tune --set governor --set turbo
      harness tune --restore
    """
    from harness.adapters.host.locks import host_alone
    from harness.adapters.workspace import Workspace
    from harness.shell.declare import declare
    from harness.shell.tuning import Tuner

    if sum((experiment is not None, bool(names), restore, restore_run)) != 1:
        raise click.UsageError(
            "name an experiment, or give --set, --restore or --restore-run; see `harness tune --help`"
        )
    tuner = Tuner(Workspace.at(state_dir).state, root)
    with contextlib.ExitStack() as stack:
        if not dry_run and root == Path("/"):
            # Only the wait can be stopped: what is begun is brought to its end.
            with stopping_on_signals() as stop:
                stack.enter_context(host_alone(patience_of(wait, _say, stop)))
        if restore or restore_run:
            done = tuner.restore(dry_run=dry_run, run_only=restore_run)
        else:
            asked = [Tuning(name) for name in names]
            source = "--set"
            if experiment is not None:
                asked, source = list(declare(experiment).experiment.tuning), f"{experiment}: tuning"
            done = tuner.hold(asked, source, dry_run=dry_run)
    _print(done, as_json=as_json, dry_run=dry_run)
    return 0


def _say(sentence: str) -> None:
    click.echo(f"harness: {sentence}", err=True)


def _print(done: Tuned, *, as_json: bool, dry_run: bool) -> None:
    if as_json:
        found: dict[str, Any] = done.as_json()
        print_json(found)
        return
    for line in done.lines(dry_run=dry_run):
        click.echo(line)
