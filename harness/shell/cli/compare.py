"""``harness compare``."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    from harness.shell.roles import Roles

_EXIT_CODES = {"slower": 3, "unclear": 4}


@click.command()
@click.argument("old", metavar="RUN_DIR|OLD", type=PATH)
@click.argument("new", metavar="[NEW]", type=PATH, required=False)
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
    *,
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
    """
    from harness.adapters.guestless.store import holds_counts
    from harness.core.model import Workload
    from harness.shell.results import workload_of
    from harness.shell.roles import Roles

    form = "json" if as_json else form
    of_samples: dict[str, object] = {"NEW": new, "--noise-floor": noise_floor, "--alpha": alpha, "--ci": ci}
    of_samples |= {"--metric": metric != "iops", "--accept-differences": accept_differences}
    if any(holds_counts(path) for path in (old, new) if path is not None):
        refuse_given(of_samples, NOT_OF_COUNTS)
        roles = Roles(baseline, contender)
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
    from harness.analysis.metrics import find_metrics
    from harness.analysis.remarks import shortened
    from harness.analysis.tables import render_all
    from harness.shell.comparing import TCG_NOTICE, Judgement, compare_run, compare_two

    if ci and (as_json or form != "commit"):
        raise click.UsageError("--ci goes with --format commit; the other formats have intervals anyway")
    of_one_run: dict[str, object] = {"--noise-floor": noise_floor}
    of_one_run |= {"--baseline": baseline, "--contender": contender}
    if new is not None:
        refuse_given(of_one_run, "goes with one run directory, not with two sets of results")
    judgements = [
        Judgement(found.name, margin, alpha, accept_differences, Roles(baseline, contender))
        for found in find_metrics(metric)
    ]
    comparisons = [
        compare_two(old, new, judgement) if new else compare_run(old, judgement, noise_floor)
        for judgement in judgements
    ]
    click.echo(render_all(comparisons, form, ci=ci), nl=False)
    if form in {"commit", "csv"}:
        # Data only on stdout; but nothing is dropped in silence.
        said = dict.fromkeys(warning for found in comparisons for warning in found.warnings)
        for warning in shortened(list(said)):
            click.echo(f"harness: warning: {warning}", err=True)
        if comparisons[0].environment.get("accel") == "tcg":
            click.echo(f"harness: note: {TCG_NOTICE}", err=True)
    return exit_code(comparisons, fail_on)


def _pool(run_dir: Path, form: str) -> int:
    from harness.analysis.pool_tables import render_pool
    from harness.shell.pool_report import pool_report

    click.echo(render_pool(pool_report(run_dir), form), nl=False)
    return 0


def exit_code(comparisons: Sequence[Comparison], fail_on: tuple[str, ...]) -> int:
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
