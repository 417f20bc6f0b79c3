"""``harness bisect``."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.core.errors import Interrupted
from harness.shell.cli.options import (
    PATH,
    json_option,
    percentage,
    print_json,
    quiet_option,
    state_dir_option,
    stopping_on_signals,
)

if TYPE_CHECKING:
    from harness.adapters.bisect_store import BisectDirectory
    from harness.shell.console import Console


@click.command()
@click.argument("experiment", type=PATH, required=False)
@click.argument("paths", nargs=-1, metavar="[-- PATH...]")
@click.option("--good", metavar="REF", help="A commit before the change.")
@click.option("--bad", metavar="REF", help="A commit after it.")
@click.option("--git", metavar="PATH|URL", help="The repository [default: that of the experiment's build].")
@click.option("--build", metavar="BUILD", help="The build whose commit varies [default: the baseline].")
@click.option(
    "--threshold",
    metavar="PERCENT",
    callback=percentage("1%"),
    help="A commit is bad beyond this change from the good one [default: half of the bad one's].",
)
@click.option("--cell", metavar="LABEL", help="Go by this cell [default: the one that shows most].")
@click.option("--metric", default="iops", show_default=True, help="What to go by, of runs in guests.")
@click.option("--improvement", is_flag=True, help="Find the commit that made it better.")
@click.option("--first-parent", is_flag=True, help="Follow only the first parent of merges.")
@click.option(
    "--max-skips",
    type=click.IntRange(1),
    default=10,
    show_default=True,
    help="Stop when so many commits in a row cannot be tested.",
)
@click.option("--dir", "directory", type=PATH, help="The new directory [default: runs/bisect-NAME-TIME].")
@click.option("--resume", type=PATH, metavar="DIR", help="Go on with the search in this directory.")
@click.option("--show", type=PATH, metavar="DIR", help="Print what was found out so far; test nothing.")
@json_option
@state_dir_option
@quiet_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    experiment: Path | None,
    *,
    paths: tuple[str, ...],
    directory: Path | None,
    resume: Path | None,
    show: Path | None,
    as_json: bool,
    state_dir: Path | None,
    quiet: bool,
    **asked: Any,
) -> int:
    """Find the commit that made it slower, with `git bisect`.

    Measures both ends, then builds and measures the commits that git chooses: instructions of each by
    itself, guests beside the good commit. A commit that does not build is skipped. Ends with the first bad
    commit, its table against its parent, and the functions that the difference is in. Your repository is
    only read. Ctrl-C, or a crash, loses nothing: --resume goes on.

    Exits with 1 where only a range of commits can be named.

    \b
      harness bisect fio/instructions.yml --git ~/qemu --good v8.2.0 --bad v9.0.0
      harness bisect my.yml --good v10.0.0 --bad HEAD --threshold 1% -- block util
      harness bisect --resume runs/bisect-NAME-TIME
    """
    from harness.adapters.bisect_store import BisectDirectory
    from harness.shell.console import Console

    _check_usage(ctx, experiment, resume, show)
    console = Console(quiet=quiet)
    if show is not None:
        return _report(BisectDirectory.open(show), as_json=as_json)
    if resume is not None:
        store = BisectDirectory.open(resume)
    else:
        assert experiment is not None  # noqa: S101 - _check_usage saw to it
        store = _begin(experiment, paths, directory, asked)
        console.say(f"directory of the search: {store.path}")
    try:
        _go_on(store, state_dir, console)
    except Interrupted:
        console.warn(f"interrupted; go on with: harness bisect --resume {store.path}")
        return Interrupted.exit_code
    return _report(store, as_json=as_json)


def _check_usage(ctx: click.Context, experiment: Path | None, *others: Path | None) -> None:
    if sum(path is not None for path in (experiment, *others)) != 1:
        raise click.UsageError(
            "name an experiment, or a search's directory with --resume or --show; see `harness bisect --help`"
        )
    default = click.core.ParameterSource.DEFAULT
    given = [
        option.opts[0]
        for option in ctx.command.params
        if option.name and ctx.get_parameter_source(option.name) is not default
    ]
    if experiment is None:
        fixed = set(given) - {"--resume", "--show", "--json", "--state-dir", "-q", "experiment"}
        if fixed:
            raise click.UsageError(f"{', '.join(sorted(fixed))}: a search that goes on keeps what was asked")
        return
    missing = [option for option in ("--good", "--bad") if option not in given]
    if missing:
        raise click.UsageError(
            f"{' and '.join(missing)} missing: name a commit before the change, and one after it"
        )


def _begin(
    experiment: Path, paths: tuple[str, ...], directory: Path | None, asked: dict[str, Any]
) -> BisectDirectory:
    from harness.core.bisecting import Asked
    from harness.shell.bisect_begin import begin

    names = {"good_ref": asked["good"], "bad_ref": asked["bad"]}
    kept = ("threshold", "improvement", "first_parent", "metric", "cell", "max_skips")
    wanted = Asked(
        good="", bad="", git="", location="", paths=paths, **names, **{name: asked[name] for name in kept}
    )
    new = directory or Path("runs") / f"bisect-{experiment.stem}-{datetime.now():%Y%m%dT%H%M%S}"  # noqa: DTZ005 - people read it
    return begin(new, experiment, wanted, git=asked["git"], build=asked["build"])


def _go_on(store: BisectDirectory, state_dir: Path | None, console: Console) -> None:
    from harness.adapters.bisect_repository import BisectRepository
    from harness.adapters.workspace import Workspace
    from harness.shell.bisect_begin import bench_of
    from harness.shell.bisecting import Bisecting

    with store.writing(), stopping_on_signals() as stop, console.progress() as progress:
        bench = bench_of(
            store, Workspace.at(state_dir), stop, console.say, on_task=console.task, emit=progress.emit
        )
        Bisecting(store, BisectRepository(store.repository), bench, stop, console.say).run()


def _report(store: BisectDirectory, *, as_json: bool) -> int:
    from harness.core.bisecting import Outcome
    from harness.shell.bisect_report import json_report, text_report

    if as_json:
        print_json(json_report(store))
    else:
        click.echo(text_report(store), nl=False)
    return 1 if store.search.outcome is Outcome.RANGE else 0
