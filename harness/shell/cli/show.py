"""``harness show``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from harness.shell.cli.options import PATH, json_option, print_json, reads_bundles

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_SHOWN_FAILURES = 10


@click.command()
@click.argument("run_dir", type=PATH)
@click.option("--full", is_flag=True, help="Every session, and everything that is known of host and guests.")
@click.option("--plot", type=PATH, metavar="FILE", help="pool-growth: draw its rounds (.svg, .png or .pdf).")
@json_option
@reads_bundles("run_dir")
def command(run_dir: Path, *, full: bool, plot: Path | None, as_json: bool) -> None:
    """Show what a run directory holds: state, builds, what they differ in, host, QEMU, guest, sessions.

    \b
      harness show runs/quick-20260101T120000
      harness show runs/quick-20260101T120000 --full
      harness show runs/pool-growth-20260101T120000 --plot pool.svg
    """
    from harness.adapters.guestless.store import CountDirectory
    from harness.adapters.results.run_layout import holds_counts
    from harness.adapters.results.store import RunDirectory
    from harness.shell.summary import summarise, summarise_counts

    if plot is not None:
        _check_rounds(run_dir)
    if holds_counts(run_dir):
        counted = summarise_counts(CountDirectory.open(run_dir))
        if as_json:
            print_json(counted)
        else:
            _print_counts(counted)
        return
    if plot is not None:
        _draw(run_dir, plot)
    summary = summarise(RunDirectory.open(run_dir))
    if as_json:
        print_json(summary)
        return
    for line in _lines(summary, run_dir, full=full):
        click.echo(line)


def _print_counts(summary: dict[str, Any]) -> None:
    run, host = summary["run"], summary["environment"].get("host", {})
    click.echo(f"{run['run_id']}: {run['state']}" + (f" ({run['stopped']})" if run["stopped"] else ""))
    click.echo(f"  ruler     instructions, counted by {run['counted_with']}")
    for line in _build_lines(run["builds"], run["builds"]):
        click.echo(line)
    click.echo(f"  host      {host.get('name')}: {host.get('cpu', {}).get('model')}, {host.get('kernel')}")
    click.echo(f"  done      {summary['accepted']} of {summary['planned']} counts")
    for count in summary["counts"]:
        counted = ", ".join(f"{name} {number}" for name, number in count["threads"].items())
        click.echo(
            f"  count {count['number']:>4}  {count['variant']:<12} {count['cell']}, "
            f"{count['requests']} requests, {count['seconds']:.1f} s: {count['failure'] or counted}"
        )


def _check_rounds(run_dir: Path) -> None:
    """Refuse to draw as rounds what are none."""
    from harness.core.errors import InputError
    from harness.core.model import Workload
    from harness.shell.results import workload_of

    workload = workload_of(run_dir)
    if workload not in {None, Workload.POOL_GROWTH}:
        raise InputError.single(
            "--plot",
            f"draws the rounds of pool-growth; {run_dir} is a run of {workload}",
            f"leave it out; harness report {run_dir} has charts",
        )


def _draw(run_dir: Path, plot: Path) -> None:
    from harness.shell.pool_plot import check_plot, write_pool_plot
    from harness.shell.pool_report import pool_report

    check_plot(plot)
    write_pool_plot(pool_report(run_dir), plot)


def _lines(summary: dict[str, Any], run_dir: Path, *, full: bool) -> Iterator[str]:
    from harness.adapters.results.bundle import was_unpacked
    from harness.shell.provenance import difference_lines, guest_lines, host_lines, qemu_lines, tuning_lines

    run, facts = summary["run"], _first_facts(summary)
    yield f"{run['run_id']}: {run['state']}" + (f" ({run['stopped']})" if run["stopped"] else "")
    yield f"  accel     {run['accel']}: {run['accel_reason']}"
    yield from _build_lines(run["builds"], summary["variants"])
    yield from difference_lines(summary["agreement"], full=full)
    yield from host_lines(summary["environment"], full=full)
    yield from tuning_lines(summary)
    yield from qemu_lines(facts)
    yield from guest_lines(facts, run["guest_image"])
    yield f"  done      {summary['accepted']} of {summary['planned']} iterations"
    if run["state"] == "interrupted" and not was_unpacked(run_dir):
        yield f"  to go on  harness run --resume {run_dir}"
    if repeated := [session for session in summary["sessions"] if session["repeated"]]:
        names = ", ".join(f"{session['number']:03d}-{session['variant']}" for session in repeated)
        yield f"  repeated  {names}, after the host had failed {'it' if len(repeated) == 1 else 'them'}"
    for session in summary["sessions"]:
        if session["replaces"]:
            yield f"  again     {session['number']:03d}-{session['variant']}: {session['replaces']}"
    yield from _watched_line(summary["sessions"])
    yield from _session_lines(summary["sessions"], full=full)


def _build_lines(builds: dict[str, Any], names: Iterable[str]) -> Iterator[str]:
    from harness.core.model import SourceRecord

    for name in names:
        build = builds[name]
        yield f"  {name:<9} {build['version']} [{build['sha256'][:12]}]"
        if source := build.get("source"):
            yield f"  {'':<9} built from {SourceRecord.read(source).summary}"


def _first_facts(summary: dict[str, Any]) -> dict[str, Any]:
    """Return the facts of the first session whose guest came up."""
    every: list[dict[str, Any]] = [session["facts"] for session in summary["sessions"]]
    return next((facts for facts in every if facts), {})


def _session_lines(sessions: list[dict[str, Any]], *, full: bool) -> Iterator[str]:
    from harness.shell.provenance import fact_lines

    shown = [session for session in sessions if full or session["failures"] or session["state"] != "done"]
    if hidden := len(sessions) - len(shown):
        ready = [s["ready_seconds"] for s in sessions if s["ready_seconds"] is not None]
        up = f", up in {min(ready):.1f} to {max(ready):.1f} s" if ready else ""
        yield f"  sessions  {hidden} of {len(sessions)} as they should be{up} (--full lists them)"
    for session in shown if full else shown[:_SHOWN_FAILURES]:
        ready_seconds = session["ready_seconds"]
        up = "never up" if ready_seconds is None else f"up in {ready_seconds:.1f} s"
        yield (
            f"  session {session['number']:>4}  block {session['block']:>3}  {session['variant']:<12} "
            f"{session['state']:<11} {up}, {session['accepted']}/{session['planned']} iterations"
        )
        if session["telemetry"]:
            yield f"      {_telemetry_line(session['telemetry'])}"
        for failure in session["failures"]:
            yield f"      {failure}"
        if full:
            yield from fact_lines(session["facts"])
    if not full and len(shown) > _SHOWN_FAILURES:
        yield f"  ... and {len(shown) - _SHOWN_FAILURES} more sessions that failed (--full lists them)"


def _watched_line(sessions: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the most that telemetry saw in any session, and the most that it took."""
    kept = [session["telemetry"] for session in sessions if session["telemetry"]]
    peaks = [telemetry["peak"] for telemetry in kept if telemetry["peak"]]
    shares = [telemetry["share"] for telemetry in kept if telemetry["share"] is not None]
    parts = []
    if peaks:
        vmas, coroutines = (max(peak[name] for peak in peaks) for name in ("vmas", "coroutines"))
        parts.append(f"at most {vmas:,} VMAs and {coroutines:,} coroutines of QEMU")
    if shares:
        parts.append(f"watching took at most {max(shares) * 100:.2f}% of a core")
    if parts:
        yield f"  watched   {'; '.join(parts)}"


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
