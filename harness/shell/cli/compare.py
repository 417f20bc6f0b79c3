"""``harness compare``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from harness.shell.cli.options import PATH, noise_floor_option

if TYPE_CHECKING:
    from pathlib import Path

    from harness.analysis.costs import CostComparison
    from harness.analysis.result import Comparison

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
@click.option("--metric", default="iops", show_default=True, help="What to compare: iops, bw, clat_p99 ...")
@click.option("--margin", metavar="PERCENT", help="What counts as equal [default: the experiment's, or 2%].")
@click.option(
    "--alpha", metavar="PERCENT", help="The chance of a false alarm [default: the experiment's, or 5%]."
)
@noise_floor_option
@click.option(
    "--explain", is_flag=True, help="Of a run of counts: which functions the difference is in, largest first."
)
@click.option("--fail-on", type=click.Choice(["slower", "unclear"]), multiple=True, help="Exit with 3 or 4.")
def command(
    old: Path,
    new: Path | None,
    *,
    form: str,
    as_json: bool,
    ci: bool,
    metric: str,
    margin: str | None,
    alpha: str | None,
    noise_floor: Path | None,
    explain: bool,
    fail_on: tuple[str, ...],
) -> int:
    """Print the OLD/NEW/CHANGE table.

    Of one run directory; or of two sets of results, each a run directory, a directory of fio JSON files
    made by anything, or a CSV with the columns rw,bs,iodepth,iops (further columns are further factors).
    Only a run directory gets verdicts: its sessions were interleaved.

    \b
      harness compare runs/quick-20260101T120000
      harness compare old.csv new.csv --format commit
      harness compare runs/X --format json --fail-on slower
      harness compare runs/instructions-X --explain
    """
    from harness.adapters.count_store import holds_counts
    from harness.analysis.tables import render
    from harness.shell.comparing import TCG_NOTICE, Judgement, compare_run, compare_two

    if any(holds_counts(path) for path in (old, new) if path is not None):
        unused: dict[str, object] = {
            "NEW": new,
            "--noise-floor": noise_floor,
            "--alpha": alpha,
            "--ci": ci or None,
        }
        _refuse_for_counts(unused | {"--metric": None if metric == "iops" else metric})
        limit = _fraction("--margin", margin)
        if explain:
            return _explain_counts(old, limit)
        return _compare_counts(old, "json" if as_json else form, limit, fail_on)
    if explain:
        raise click.UsageError("--explain goes with a run of counts (workload: instructions)")
    judgement = Judgement(metric, _fraction("--margin", margin), _fraction("--alpha", alpha))
    if new is not None and noise_floor is not None:
        raise click.UsageError("--noise-floor goes with one run directory, not with two sets of results")
    comparison = compare_two(old, new, judgement) if new else compare_run(old, judgement, noise_floor)
    form = "json" if as_json else form
    click.echo(render(comparison, form, ci=ci), nl=False)
    if form in {"commit", "csv"}:
        # Data only on stdout; but nothing is dropped in silence.
        for warning in comparison.warnings:
            click.echo(f"harness: warning: {warning}", err=True)
        if comparison.environment.get("accel") == "tcg":
            click.echo(f"harness: note: {TCG_NOTICE}", err=True)
    return exit_code(comparison, fail_on)


def exit_code(comparison: Comparison, fail_on: tuple[str, ...]) -> int:
    """Return the exit code that the verdicts ask for; ``slower`` weighs more than ``unclear``.

    Where no verdict was possible nothing is clear.
    """
    verdicts = {str(verdict or "unclear") for verdict in comparison.verdicts()}
    return next((code for name, code in _EXIT_CODES.items() if name in fail_on and name in verdicts), 0)


def _refuse_for_counts(options: dict[str, object]) -> None:
    wrong = [name for name, value in options.items() if value is not None]
    if wrong:
        raise click.UsageError(
            f"{', '.join(wrong)}: a run of counts is compared by itself; it has one metric and no statistics"
        )


def _explain_counts(run: Path, margin: float | None) -> int:
    from harness.shell.explaining import explain_counts

    click.echo(explain_counts(run, margin=margin), nl=False)
    return 0


def _compare_counts(run: Path, form: str, margin: float | None, fail_on: tuple[str, ...]) -> int:
    from harness.analysis.cost_tables import render_costs
    from harness.shell.costing import compare_counts

    comparison = compare_counts(run, margin=margin)
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


def _fraction(option: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        value = float(text.removesuffix("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1:
        raise click.BadParameter(f"{text!r} is no fraction such as 2% or 0.02", param_hint=option)
    return value
