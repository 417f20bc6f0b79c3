"""``harness show``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from harness.shell.cli.options import PATH, json_option, print_json

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.argument("run_dir", type=PATH)
@click.option("--plot", type=PATH, metavar="FILE", help="pool-growth: draw its rounds (.svg, .png or .pdf).")
@json_option
def command(run_dir: Path, *, plot: Path | None, as_json: bool) -> None:
    """Show what a run directory holds: state, builds, host, and every session with what became of it.

    \b
      harness show runs/quick-20260101T120000
      harness show runs/pool-growth-20260101T120000 --plot pool.svg
    """
    from harness.adapters.store import RunDirectory
    from harness.shell.summary import summarise

    if plot is not None:
        _draw(run_dir, plot)
    summary = summarise(RunDirectory.open(run_dir))
    if as_json:
        print_json(summary)
    else:
        _print(summary, run_dir)


def _draw(run_dir: Path, plot: Path) -> None:
    from harness.shell.pool_plot import check_plot, write_pool_plot
    from harness.shell.pool_report import pool_report

    check_plot(plot)
    write_pool_plot(pool_report(run_dir), plot)


def _print(summary: dict[str, Any], run_dir: Path) -> None:
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
    if run["state"] == "interrupted":
        click.echo(f"  to go on  harness run --resume {run_dir}")
    for session in summary["sessions"]:
        ready = session["ready_seconds"]
        up = "never up" if ready is None else f"up in {ready:.1f} s"
        click.echo(
            f"  session {session['number']:>4}  block {session['block']:>3}  {session['variant']:<12} "
            f"{session['state']:<11} {up}, {session['accepted']}/{session['planned']} iterations"
        )
        if session["telemetry"]:
            click.echo(f"      {_telemetry_line(session['telemetry'])}")
        for failure in session["failures"]:
            click.echo(f"      {failure}")


def _telemetry_line(kept: dict[str, Any]) -> str:
    """Return what telemetry says of a session; what could not be read is left out, not 0."""
    most, spent, share = kept["peak"], kept["qemu_cpu_seconds"], kept["share"]
    parts = [
        f"at most {most['vmas']} VMAs, {most['coroutines']} coroutines" if most else "VMAs not to be seen",
        "QEMU's CPU time not to be seen" if spent is None else f"QEMU used {spent:.1f} s of CPU",
    ]
    parts += [] if share is None else [f"watching took {share * 100:.2f}% of a core"]
    parts += [kept["problem"]] if kept["problem"] else []
    return "; ".join(parts)
