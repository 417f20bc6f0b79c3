"""``harness nightly``."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import click

from harness.core.units import parse_duration, parse_size
from harness.shell.cli.options import (
    PATH,
    experiment_argument,
    reading,
    state_dir_option,
    stopping_on_signals,
)


@click.command()
@experiment_argument
@click.option(
    "--follow", required=True, metavar="BUILD", help="The build whose git branch is followed: {git:, ref:}."
)
@click.option(
    "--directory",
    type=PATH,
    default=Path("nightly"),
    show_default=True,
    help="Where the nights are kept, a directory each.",
)
@click.option(
    "--limit",
    default="8h",
    show_default=True,
    metavar="TIME",
    callback=reading(parse_duration, "8h"),
    help="End a run that takes longer.",
)
@click.option(
    "--when-unchanged",
    type=click.Choice(["measure", "skip"]),
    default="measure",
    show_default=True,
    help="What to do when the branch has not moved: measuring shows how much this host drifts.",
)
@click.option("--keep-days", type=click.IntRange(1), metavar="N", help="Remove nights older than this.")
@click.option(
    "--keep-size",
    metavar="SIZE",
    callback=reading(parse_size, "50GiB"),
    help="Remove the oldest nights when all take more (50GiB).",
)
@click.option("--fail-on", type=click.Choice(["slower", "unclear"]), multiple=True, help="Exit with 3 or 4.")
@state_dir_option
def command(
    experiment: Path,
    *,
    follow: str,
    directory: Path,
    limit: float,
    when_unchanged: str,
    keep_days: int | None,
    keep_size: int | None,
    fail_on: tuple[str, ...],
    state_dir: Path | None,
) -> int:
    """Measure the newest commit of a branch against the baseline and the night before.

    Runs the experiment with the build BUILD at its branch's newest commit, and the commit of the last night
    beside it as LAST; files the run into the history; leaves report.html, junit.xml and table.md in the
    night's directory; removes nights that are too old. playbooks/nightly.yml installs it as a systemd timer.

    \b
      harness nightly nightly.yml --follow NEW --fail-on slower --keep-days 30
    """
    from harness.adapters.workspace import Workspace
    from harness.shell.console import Console
    from harness.shell.nightly import Job, Nightly

    job = Job(
        experiment=experiment,
        follow=follow,
        directory=directory,
        state=Workspace.at(state_dir).state,
        limit_seconds=limit,
        fail_on=fail_on,
        skip_unchanged=when_unchanged == "skip",
        keep=None if keep_days is None else timedelta(days=keep_days),
        keep_bytes=keep_size,
    )
    with stopping_on_signals() as stop:
        return Nightly(job, stop, Console().say).run()
