"""``harness show``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from harness.shell.cli.options import PATH, json_option, print_json

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.argument("run_dir", type=PATH)
@json_option
def command(run_dir: Path, *, as_json: bool) -> None:
    """Show what a run directory holds: state, builds, host, and every session with what became of it.

    \b
      harness show runs/quick-20260101T120000
    """
    from harness.adapters.count_store import CountDirectory, holds_counts
    from harness.adapters.store import RunDirectory
    from harness.shell.summary import summarise, summarise_counts

    if holds_counts(run_dir):
        counted = summarise_counts(CountDirectory.open(run_dir))
        if as_json:
            print_json(counted)
        else:
            _print_counts(counted)
        return
    summary = summarise(RunDirectory.open(run_dir))
    if as_json:
        print_json(summary)
    else:
        _print(summary)


def _print_counts(summary: dict[str, Any]) -> None:
    run, host = summary["run"], summary["environment"].get("host", {})
    click.echo(f"{run['run_id']}: {run['state']}" + (f" ({run['stopped']})" if run["stopped"] else ""))
    click.echo(f"  ruler     instructions, counted by {run['counted_with']}")
    for name, build in run["builds"].items():
        click.echo(f"  {name:<9} {build['version']} [{build['sha256'][:12]}]")
    click.echo(f"  host      {host.get('name')}: {host.get('cpu', {}).get('model')}, {host.get('kernel')}")
    click.echo(f"  done      {summary['accepted']} of {summary['planned']} counts")
    for count in summary["counts"]:
        counted = ", ".join(f"{name} {number}" for name, number in count["threads"].items())
        click.echo(
            f"  count {count['number']:>4}  {count['variant']:<12} {count['cell']}, "
            f"{count['requests']} requests, {count['seconds']:.1f} s: {count['failure'] or counted}"
        )


def _print(summary: dict[str, Any]) -> None:
    run, host = summary["run"], summary["environment"].get("host", {})
    click.echo(f"{run['run_id']}: {run['state']}" + (f" ({run['stopped']})" if run["stopped"] else ""))
    click.echo(f"  accel     {run['accel']}: {run['accel_reason']}")
    for name, build in run["builds"].items():
        click.echo(f"  {name:<9} {build['version']} [{build['sha256'][:12]}]")
    cpu = host.get("cpu", {})
    click.echo(
        f"  host      {host.get('name')}: {cpu.get('model')} x {cpu.get('count')}, {host.get('kernel')}"
    )
    click.echo(f"  libvirt   {summary['environment'].get('libvirt')}")
    click.echo(
        f"  guest     Linux {run['guest_image']['kernel_version']}, {run['guest_image']['fio_version']}"
    )
    click.echo(f"  done      {summary['accepted']} of {summary['planned']} iterations")
    for session in summary["sessions"]:
        ready = session["ready_seconds"]
        up = "never up" if ready is None else f"up in {ready:.1f} s"
        click.echo(
            f"  session {session['number']:>4}  block {session['block']:>3}  {session['variant']:<12} "
            f"{session['state']:<11} {up}, {session['accepted']}/{session['planned']} iterations"
        )
        for failure in session["failures"]:
            click.echo(f"      {failure}")
