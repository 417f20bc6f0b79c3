"""``harness compare``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import click

from harness.shell.cli.options import (
    NOT_OF_COUNTS,
    NOT_OF_ROUNDS,
    PATH,
    accept_differences_option,
    alpha_option,
    fail_on_option,
    margin_option,
    metric_option,
    noise_floor_option,
    reads_bundles,
    refuse_given,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.analysis.costs import CostComparison
    from harness.analysis.result import Comparison
    from harness.analysis.verdicts import Verdict
    from harness.shell.comparing import Judgement
    from harness.shell.roles import Roles

_EXIT_CODES = {"slower": 3, "unclear": 4}


@click.command()
@click.argument("old", metavar="RUN_DIR|OLD", type=PATH)
@click.argument("new", metavar="[NEW]", type=PATH, required=False)
@click.argument("more", metavar="", type=PATH, nargs=-1)
@click.option("--fleet", is_flag=True, help="Of several hosts: what benchmark.yml made, or a run a host.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "commit", "markdown", "csv", "json"]),
    default="text",
    show_default=True,
    help="How to print it; commit is the table for a commit message.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--ci", is_flag=True, help="With --format commit: add intervals and a footer.")
@metric_option
@margin_option
@alpha_option
@noise_floor_option
@accept_differences_option
@click.option("--baseline", metavar="VARIANT", help="Compare with this one [default: the experiment's].")
@click.option("--contender", metavar="VARIANT", help="Compare this one only [default: all others].")
@click.option(
    "--explain", is_flag=True, help="Of a run of counts: which functions the difference is in, largest first."
)
@fail_on_option
@reads_bundles("old", "new", "noise_floor")
def command(
    old: Path,
    new: Path | None,
    more: tuple[Path, ...],
    *,
    fleet: bool,
    form: str,
    as_json: bool,
    ci: bool,
    metric: str,
    margin: float | None,
    alpha: float | None,
    noise_floor: Path | None,
    accept_differences: bool,
    baseline: str | None,
    contender: str | None,
    explain: bool,
    fail_on: tuple[str, ...],
) -> int:
    """Print the OLD/NEW/CHANGE table.

    Of one run directory; or of two sets of results, each a run directory, a directory of fio JSON files
    made by anything, or a CSV with the columns rw,bs,iodepth,iops (further columns are further factors).
    A bundle (harness export --bundle) stands for the run directory in it.
    Only a run directory gets verdicts: its sessions were interleaved. And only where its sessions agree in
    everything but the build, or with --accept-differences, which lists what they differ in.

    \b
      harness compare runs/quick-20260101T120000
      harness compare old.csv new.csv --format commit
      harness compare runs/X --format json --fail-on slower
      harness compare runs/instructions-X --explain
      harness compare --fleet runs/fleet-quick-1a2b3c4d
    """
    from harness.adapters.guestless.store import holds_counts
    from harness.core.model import Workload
    from harness.shell.results import workload_of
    from harness.shell.roles import Roles

    form = "json" if as_json else form
    roles = Roles(baseline, contender)
    if fleet or more:
        of_one: dict[str, object] = {"--noise-floor": noise_floor, "--ci": ci, "--explain": explain}
        refuse_given(of_one if fleet else {"a third result": more}, "that goes with no fleet (--fleet)")
        how = _judgements(metric, margin, alpha, roles, accept_differences=accept_differences)
        return _compare_fleet((old, new, *more), form, how, fail_on)
    of_samples: dict[str, object] = {"NEW": new, "--noise-floor": noise_floor, "--alpha": alpha, "--ci": ci}
    of_samples |= {"--metric": metric != "iops", "--accept-differences": accept_differences}
    if any(holds_counts(path) for path in (old, new) if path is not None):
        refuse_given(of_samples, NOT_OF_COUNTS)
        if explain:
            return _explain_counts(old, margin, roles)
        return _compare_counts(old, form, margin, roles, fail_on)
    if explain:
        raise click.UsageError("--explain goes with a run of counts (workload: instructions)")
    if any(workload_of(path) is Workload.POOL_GROWTH for path in (old, new) if path is not None):
        of_samples |= {"--margin": margin, "--fail-on": fail_on}
        of_samples |= {"--baseline": baseline, "--contender": contender}
        refuse_given(of_samples, NOT_OF_ROUNDS)
        return _pool(old, form)
    from harness.analysis.tables import render_all
    from harness.shell.comparing import compare_run, compare_two

    if ci and (as_json or form != "commit"):
        raise click.UsageError("--ci goes with --format commit; the other formats have intervals anyway")
    of_one_run: dict[str, object] = {"--noise-floor": noise_floor}
    of_one_run |= {"--baseline": baseline, "--contender": contender}
    if new is not None:
        refuse_given(of_one_run, "goes with one run directory, not with two sets of results")
    judgements = _judgements(metric, margin, alpha, roles, accept_differences=accept_differences)
    comparisons = [
        compare_two(old, new, judgement) if new else compare_run(old, judgement, noise_floor)
        for judgement in judgements
    ]
    click.echo(render_all(comparisons, form, ci=ci), nl=False)
    _say_beside(form, comparisons)
    return exit_code(comparisons, fail_on)


def _judgements(
    metric: str, margin: float | None, alpha: float | None, roles: Roles, *, accept_differences: bool
) -> list[Judgement]:
    """Return how each of the metrics that were asked for is judged."""
    from harness.analysis.metrics import find_metrics
    from harness.shell.comparing import Judgement

    return [Judgement(found.name, margin, alpha, accept_differences, roles) for found in find_metrics(metric)]


def _say_beside(form: str, comparisons: Sequence[Comparison]) -> None:
    """Say on stderr what a format that holds only data leaves out: nothing is dropped in silence."""
    from harness.analysis.remarks import shortened
    from harness.shell.comparing import TCG_NOTICE

    if form not in {"commit", "csv"}:
        return
    said = dict.fromkeys(warning for found in comparisons for warning in found.warnings)
    for warning in shortened(list(said)):
        click.echo(f"harness: warning: {warning}", err=True)
    if comparisons[0].environment.get("accel") == "tcg":
        click.echo(f"harness: note: {TCG_NOTICE}", err=True)


def _compare_fleet(
    given: Sequence[Path | None], form: str, judgements: Sequence[Judgement], fail_on: tuple[str, ...]
) -> int:
    from harness.analysis.fleet_tables import render_fleet
    from harness.shell.fleet import compare_fleet

    paths = [path for path in given if path is not None]
    _require_fio(paths)
    fleets = [compare_fleet(paths, judgement) for judgement in judgements]
    click.echo(render_fleet(fleets, form), nl=False)
    _say_beside(form, [found.pooled for found in fleets])
    if form in {"commit", "csv"}:
        click.echo(f"harness: note: geometric means over {fleets[0].pooled.footer[0]}", err=True)
    return exit_code(fleets, fail_on)


def _require_fio(paths: list[Path]) -> None:
    """Refuse runs of other workloads: counts need no second host, and rounds are judged by themselves."""
    from harness.adapters.guestless.store import holds_counts
    from harness.core.model import Workload
    from harness.shell.results import workload_of

    found = [child for path in paths for child in ((path, *path.iterdir()) if path.is_dir() else (path,))]
    if any(holds_counts(path) for path in found):
        raise click.UsageError("--fleet: counts of instructions are compared one run at a time")
    if any(workload_of(path) is Workload.POOL_GROWTH for path in found):
        raise click.UsageError("--fleet: a run of pool-growth is judged by itself, by its rounds")


class _Verdicts(Protocol):
    def verdicts(self) -> set[Verdict | None]: ...


def _pool(run_dir: Path, form: str) -> int:
    from harness.analysis.pool_tables import render_pool
    from harness.shell.pool_report import pool_report

    click.echo(render_pool(pool_report(run_dir), form), nl=False)
    return 0


def exit_code(comparisons: Sequence[_Verdicts], fail_on: tuple[str, ...]) -> int:
    """Return the exit code that all verdicts ask for; ``slower`` weighs more than ``unclear``.

    Where no verdict was possible nothing is clear.
    """
    verdicts = {str(verdict or "unclear") for found in comparisons for verdict in found.verdicts()}
    return next((code for name, code in _EXIT_CODES.items() if name in fail_on and name in verdicts), 0)


def _explain_counts(run: Path, margin: float | None, roles: Roles) -> int:
    from harness.shell.explaining import explain_counts

    click.echo(explain_counts(run, margin=margin, roles=roles), nl=False)
    return 0


def _compare_counts(
    run: Path, form: str, margin: float | None, roles: Roles, fail_on: tuple[str, ...]
) -> int:
    from harness.analysis.cost_tables import render_costs
    from harness.shell.costing import compare_counts

    comparison = compare_counts(run, margin=margin, roles=roles)
    click.echo(render_costs(comparison, form), nl=False)
    if form in {"commit", "csv"}:
        for warning in comparison.warnings:
            click.echo(f"harness: warning: {warning}", err=True)
        click.echo(f"harness: note: {comparison.ruler}", err=True)
    return cost_exit_code(comparison, fail_on)


def cost_exit_code(comparison: CostComparison, fail_on: tuple[str, ...]) -> int:
    """Return the exit code that the verdicts ask for; here ``costlier`` is what ``slower`` is elsewhere."""
    verdicts = {"slower" if verdict == "costlier" else verdict for verdict in comparison.verdicts()}
    return next((code for name, code in _EXIT_CODES.items() if name in fail_on and name in verdicts), 0)
