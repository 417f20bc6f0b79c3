"""``harness builds``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.core.units import parse_duration
from harness.shell.cli.options import (
    json_option,
    print_json,
    quiet_option,
    reading,
    state_dir_option,
    stopping_on_signals,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.core.builds import CachedBuild
    from harness.shell.builds import Explained

_DAY_HOURS = 24


def _age(value: str) -> float:
    """Read ``30d``, ``12h``, ``90m`` as seconds.

    Raises:
        ValueError: it is no age, or a bare number: who writes 30 means days, not half a minute.
    """
    text = value.strip()
    if not text[-1:].isalpha():
        raise ValueError(f"{value!r} is not an age with a unit")
    try:
        if text.endswith("d"):
            return parse_duration(f"{text.removesuffix('d')}h") * _DAY_HOURS
        return parse_duration(text)
    except ValueError as error:
        raise ValueError(f"{value!r} is not an age") from error


@click.group()
def command() -> None:
    """List, explain and prune the cache of QEMU builds.

    \b
      harness builds list
      harness builds explain my.yml
      harness builds prune --older-than 30d --dry-run
    """


@command.command("list")
@state_dir_option
@json_option
def list_builds(*, state_dir: Path | None, as_json: bool) -> None:
    """List the builds in the cache, the last used first."""
    from harness.adapters.build_cache import BuildCache
    from harness.adapters.workspace import Workspace
    from harness.shell.builds import as_record

    cache = BuildCache(Workspace.at(state_dir).state)
    builds, protected = cache.builds(), cache.protected()
    if as_json:
        print_json([as_record(build) | {"kept_because": protected.get(build.name)} for build in builds])
        return
    rows = [("KEY", "KIND", "VERSION", "SIZE", "USED", "WHAT", "STATE")]
    rows += [
        (
            build.key[:16],
            build.kind or "?",
            _version(build),
            f"{build.size_bytes / 2**20:.0f}M",
            _when(build.used),
            _what(build),
            ("complete" if build.complete else "INCOMPLETE")
            + (f": {protected[build.name]}" if build.name in protected else ""),
        )
        for build in builds
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        cells = [text.ljust(width) for text, width in zip(row, widths, strict=False)]
        click.echo("  ".join([*cells, row[-1]]).rstrip())
    total = sum(build.size_bytes for build in builds) / 2**20
    click.echo(f"{len(builds)} builds, {total:.0f} MiB in {cache.directory}")


@command.command()
@click.argument("key_or_experiment")
@state_dir_option
@quiet_option
@json_option
def explain(key_or_experiment: str, *, state_dir: Path | None, quiet: bool, as_json: bool) -> None:
    """Say what a cached build was made of, or of an experiment's builds which are in the cache and why not.

    \b
      harness builds explain 3f2a91c07be4d518
      harness builds explain my.yml
    """
    from dataclasses import asdict

    from harness.adapters.build_cache import BuildCache
    from harness.adapters.workspace import Workspace
    from harness.shell.builds import as_record, explain_experiment, find_build
    from harness.shell.console import Console
    from harness.shell.declare import declare

    workspace = Workspace.at(state_dir)
    if not Path(key_or_experiment).is_file():
        build = find_build(BuildCache(workspace.state), key_or_experiment)
        if as_json:
            print_json(as_record(build))
        else:
            click.echo("\n".join(_build_lines(build)))
        return
    with stopping_on_signals() as stop:
        console = Console(quiet=quiet or as_json)
        found = explain_experiment(
            declare(Path(key_or_experiment)), workspace, on_task=lambda _event: None, stop=stop
        )
        console.say(f"nothing was fetched or built; the cache is {workspace.state / 'builds'}")
    if as_json:
        print_json([asdict(entry) for entry in found])
        return
    for entry in found:
        click.echo("\n".join(_explained_lines(entry)))


@command.command()
@click.option("--keep", type=click.IntRange(0), metavar="N", help="Keep the N used last of those not in use.")
@click.option(
    "--older-than",
    "older_than",
    metavar="AGE",
    callback=reading(_age, "30d (or 12h)"),
    help="Only what was not used for so long: 30d.",
)
@click.option("--named-too", is_flag=True, help="Also what an experiment's manifest names.")
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@state_dir_option
@json_option
def prune(
    *,
    keep: int | None,
    older_than: float | None,
    named_too: bool,
    dry_run: bool,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Remove builds from the cache; without options only what failed or killed builds left behind.

    What is being made, what runs and (without --named-too) what an experiment was provisioned with stays.
    With both --keep and --older-than, only what neither of them keeps is removed.
    """
    from harness.adapters.workspace import Workspace
    from harness.shell import builds

    verdicts = builds.prune(
        Workspace.at(state_dir),
        keep=keep,
        older_than_seconds=older_than,
        named_too=named_too,
        dry_run=dry_run,
    )
    if as_json:
        records = [{"name": v.build.name, "removed": v.removed, "why": v.why} for v in verdicts]
        print_json({"dry_run": dry_run, "builds": records})
        return
    done = "would remove" if dry_run else "removed"
    for verdict in verdicts:
        click.echo(f"{done if verdict.removed else 'kept'} {verdict.build.name}: {verdict.why}")
    freed = sum(verdict.build.size_bytes for verdict in verdicts if verdict.removed) / 2**20
    removed = sum(verdict.removed for verdict in verdicts)
    click.echo(f"{done} {removed} of {len(verdicts)}, {freed:.0f} MiB")


def _when(seconds: float) -> str:
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"


def _version(build: CachedBuild) -> str:
    if build.package_version:
        return build.package_version
    return (build.version or "?").removeprefix("QEMU emulator version ").split()[0]


def _what(build: CachedBuild) -> str:
    return build.source.summary if build.source else build.name.rpartition("-")[0] or build.name


def _build_lines(build: CachedBuild) -> Iterator[str]:
    yield f"{build.name}: {build.version or 'never started'}"
    yield f"  what       {_what(build)}"
    state = "complete" if build.complete else "INCOMPLETE: left behind"
    yield f"  state      {state}, used {_when(build.used)}"
    yield f"  key        {build.key}"
    yield "  made of"
    for part, value in build.parts.items():
        yield f"    {part:<10} {_shown(value)}"


def _shown(value: Any) -> str:
    return (" ".join(map(str, value)) or "none") if isinstance(value, list) else str(value)


def _explained_lines(entry: Explained) -> Iterator[str]:
    if entry.cached is not None:
        yield f"{entry.variant}: in the cache as {entry.cached.name}"
        return
    if entry.lookup is None:
        made = "taken where it is" if entry.kind == "path" else "not provisioned yet, or of another version"
        yield f"{entry.variant}: {made} (a build by {entry.kind})"
        return
    if not entry.lookup.key:
        yield f"{entry.variant}: not in the cache: its commit has not been fetched yet"
        return
    yield f"{entry.variant}: not in the cache ({entry.lookup.key[:16]})"
    if entry.near is None:
        yield "  the cache has no build from source"
        return
    yield f"  nearest is {entry.near.name}: {_what(entry.near)}"
    for difference in entry.differences:
        yield f"    {difference.part}: wanted {difference.wanted}; there {difference.cached}"
