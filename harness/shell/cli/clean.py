"""``harness clean``."""

from __future__ import annotations

from pathlib import Path

import click

from harness.shell.cli.options import PATH, json_option, print_json, state_dir_option


@click.command()
@click.argument("run_dirs", metavar="[RUN_DIR]...", type=PATH, nargs=-1)
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@click.option(
    "--libvirt",
    metavar="URI",
    default="qemu:///embed",
    show_default=True,
    help="Whose guests to look for; what the experiment's `libvirt` says.",
)
@state_dir_option
@json_option
def command(
    run_dirs: tuple[Path, ...],
    *,
    dry_run: bool,
    libvirt: str,
    state_dir: Path | None,
    as_json: bool,
) -> int:
    """Remove what runs that were killed left behind: guests, settings, scratch and half-written files.

    Only what carries this project's marks and is dead is touched; what belongs to a run that goes on is left
    alone, and its process named. The next run does the same before it begins.

    RUN_DIR is a run directory or a directory of several [default: ./runs]; nothing else is looked into. Run
    directories keep all that was measured.

    \b
      harness clean --dry-run
      harness clean
      harness clean runs/quick-20260101T120000
      harness clean runs/fleet-quick-0a1b2c3d
    """
    from harness.adapters.workspace import Workspace
    from harness.shell.cleaning import Cleaner, runs_below, runs_named

    runs = runs_named(run_dirs) if run_dirs else runs_below(Path("runs"))
    done = Cleaner(Workspace.at(state_dir), runs, libvirt, dry_run).clean()
    if as_json:
        print_json({"dry_run": dry_run} | done.as_json())
    else:
        for line in done.lines():
            click.echo(line)
    return 1 if done.failed else 0
