"""``harness history``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.shell.cli.options import (
    PATH,
    cache_option,
    file_of,
    json_option,
    margin_option,
    print_file,
    print_json,
    state_dir_option,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.analysis.trends import PlaceTrends
    from harness.core.history import Selection

_store_option = click.option(
    "--store",
    type=PATH,
    metavar="FILE",
    help="The history's file [default: history.duckdb in the state directory].",
)


def _selecting(command: Callable[..., object]) -> Callable[..., object]:
    """Add the options that say which runs."""
    options = (
        click.option("--host", metavar="NAME|ID", help="Of this host only: its name, or how its id begins."),
        click.option("--experiment", metavar="NAME", help="Of this experiment only."),
        click.option("--since", metavar="DATE", help="Begun on this day or later (2026-01-31)."),
        click.option(
            "--build",
            metavar="TEXT",
            help="With such a build: how its SHA-256 or commit begins, or a part of its version.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.group()
def command() -> None:
    """File finished runs, find them again, and see what changed from night to night.

    \b
      harness history add runs/nightly-20260101T020000Z
      harness history list --experiment nightly --limit 1 --json
      harness history show nightly-20260101T020000Z
      harness history report
      harness history report --experiment nightly -o trends.html
    """


@command.command("add")
@click.argument("runs", metavar="RUN_DIR|BUNDLE...", type=PATH, nargs=-1, required=True)
@_store_option
@state_dir_option
@json_option
@cache_option
def add_command(runs: tuple[Path, ...], store: Path | None, state_dir: Path | None, *, as_json: bool) -> None:
    """File finished runs: all of them, or none when one cannot be.

    A run that is there already stays as it is.
    """
    from harness.shell.history import FORMAT_VERSION, add, store_at

    history = store_at(store, state_dir)
    added = add(history, runs)
    if as_json:
        found = [{"run_id": one.run.run_id, "host_id": one.run.host_id, "new": one.new} for one in added]
        print_json({"format_version": FORMAT_VERSION, "store": str(history.path), "runs": found})
        return
    for one in added:
        said = "filed" if one.new else "was there already, unchanged"
        click.echo(f"{one.run.run_id}: {said} ({len(one.run.numbers)} numbers, {history.path})")


@command.command("list")
@_selecting
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="The newest so many."
)
@_store_option
@state_dir_option
@json_option
def list_command(
    host: str | None,
    experiment: str | None,
    since: str | None,
    build: str | None,
    limit: int,
    store: Path | None,
    state_dir: Path | None,
    *,
    as_json: bool,
) -> None:
    """List what is filed, the newest run first."""
    from harness.shell.history import FORMAT_VERSION, run_json, store_at

    history = store_at(store, state_dir)
    runs = history.runs(_selection(host, experiment, since, build, limit))
    if as_json:
        # A list's runs come without their numbers: `show` has them.
        found = [{**run_json(run), "numbers": None} for run in runs]
        print_json({"format_version": FORMAT_VERSION, "store": str(history.path), "runs": found})
    elif not runs:
        click.echo(f"nothing like that is filed in {history.path}", err=True)
    else:
        from harness.analysis.run_text import run_table

        click.echo(run_table(runs), nl=False)


@command.command("show")
@click.argument("run_id", metavar="RUN")
@click.option("--host", metavar="NAME|ID", help="Of this host: run ids of several hosts may be the same.")
@_store_option
@state_dir_option
@json_option
def show_command(
    run_id: str, host: str | None, store: Path | None, state_dir: Path | None, *, as_json: bool
) -> None:
    """Show what is filed of one run."""
    from harness.shell.history import FORMAT_VERSION, one_run, run_json, store_at

    run = one_run(store_at(store, state_dir), run_id, host)
    if as_json:
        print_json({"format_version": FORMAT_VERSION, **run_json(run)})
        return
    from harness.analysis.run_text import run_lines

    for line in run_lines(run):
        click.echo(line)


@command.command("report")
@_selecting
@click.option(
    "--last", type=click.IntRange(min=2), default=400, show_default=True,
    help="Of each host, experiment and accelerator the newest so many runs.",
)  # fmt: skip
@click.option(
    "--metric", metavar="NAME[,NAME...]", default="iops,instructions_per_io", show_default=True,
    help="What to follow, of iops, clat_p99, cpu_per_io, vmas, instructions_per_io and cycles_per_io.",
)  # fmt: skip
@click.option(
    "--variant", metavar="NAME", help="Which variant to follow [default: the newest run's first contender]."
)
@click.option(
    "--follow",
    type=click.Choice(["auto", "change", "value"]),
    default="auto",
    show_default=True,
    help="The change against the run's baseline, or the value itself; auto: the change while the baseline's "
    "binary stays the same.",
)
@margin_option
@click.option(
    "-o", "--output", type=PATH, metavar="FILE", help="Write a page (HTML, one file) instead; - is stdout."
)
@click.option(
    "--fail-on",
    type=click.Choice(["slower"]),
    help="Exit with 3 when a series stands at a worse level than before its last step.",
)
@_store_option
@state_dir_option
@json_option
def report_command(
    host: str | None,
    experiment: str | None,
    since: str | None,
    build: str | None,
    last: int,
    metric: str,
    variant: str | None,
    follow: str,
    margin: float | None,
    output: Path | None,
    fail_on: str | None,
    store: Path | None,
    state_dir: Path | None,
    *,
    as_json: bool,
) -> int:
    """Say where the level of a cell changed, the build that began it, and the last run before.

    A step is reported when noise alone would make any in less than one of a page's years; docs/history.md
    says how soon one is found. Without -o as text.
    """
    from harness.analysis.metrics import find_metrics
    from harness.analysis.trends import Follow, Question
    from harness.shell.history import store_at, trends, trends_json

    if output is not None and as_json:
        raise click.UsageError("--json prints; -o writes a page: give one of them")
    names = tuple(found.name for found in find_metrics(metric))
    question = Question(names, variant, Follow(follow), margin)
    history = store_at(store, state_dir)
    found = trends(history, _selection(host, experiment, since, build, None), question, last)
    if as_json:
        print_json(trends_json(found))
    elif output is not None:
        _write_page(found, file_of(output))
    else:
        from harness.analysis.trend_text import trend_lines

        for line in trend_lines(found):
            click.echo(line)
    return _SLOWER if fail_on and any(place.stands_worse for place in found) else 0


def _write_page(found: Sequence[PlaceTrends], path: Path | None) -> None:
    from harness.shell.history import trends_html, write_trends

    if path is None:
        print_file(trends_html(found, Path()))
    else:
        click.echo(f"{write_trends(found, path)}: written")


_SLOWER = 3


def _selection(
    host: str | None, experiment: str | None, since: str | None, build: str | None, limit: int | None
) -> Selection:
    from harness.core.history import Selection
    from harness.shell.history import moment_of

    moment = None if since is None else moment_of(since, "--since")
    return Selection(host, experiment, moment, build, limit)
