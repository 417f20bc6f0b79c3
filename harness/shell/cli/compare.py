"""``harness compare``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from harness.shell.cli.exit_codes import code_of, cost_exit_code, exit_code
from harness.shell.cli.options import (
    NOT_OF_COUNTS,
    NOT_OF_ROUNDS,
    PATH,
    accept_differences_option,
    alpha_option,
    cache_option,
    fail_on_option,
    margin_option,
    metric_option,
    noise_floor_option,
    print_file,
    reads_bundles,
    refuse_given,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.adapters.results.fio_trees import Ahead
    from harness.analysis.result import Comparison
    from harness.shell.judging import Judgement
    from harness.shell.roles import Roles


@click.command()
@click.argument("old", metavar="RUN_DIR|OLD", type=PATH)
@click.argument("new", metavar="[NEW]", type=PATH, required=False)
@click.argument("more", metavar="", type=PATH, nargs=-1)
@click.option("--fleet", is_flag=True, help="Of several hosts: what benchmark.yml made, or a run a host.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "commit", "markdown", "csv", "json", "html"]),
    default="text",
    show_default=True,
    help="How to print it; commit is the table for a commit message, html the page of harness report.",
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
@click.option(
    "--trend",
    is_flag=True,
    help="Of three builds or more: each against the one before it, in the file's order.",
)
@click.option("--plot", type=PATH, metavar="FILE.svg", help="With --trend: draw it.")
@fail_on_option
@cache_option
@reads_bundles("old", "new", "noise_floor")
def command(
    old: Path,
    new: Path | None,
    more: tuple[Path, ...],
    *,
    fleet: bool,
    as_json: bool,
    form: str,
    **options: Any,
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
      harness compare runs/releases-X --trend --plot releases.svg
      harness compare --fleet runs/fleet-quick-1a2b3c4d
    """
    from harness.adapters.results.run_layout import holds_counts, is_run_directory

    asked = _Asked(old=old, new=new, form="json" if as_json else form, **options)
    given = [path for path in (old, new, *more) if path is not None]
    if asked.plot and not asked.trend:
        raise click.UsageError("--plot draws a trend: add --trend")
    if asked.explain and asked.form != "text":
        raise click.UsageError(f"--explain is text: leave --format {asked.form} out")
    if fleet:
        return _of_fleet(asked, given)
    refuse_given({"a third result": more}, "that goes with a fleet only (--fleet)")
    if asked.trend:
        return _of_trend(asked)
    if any(holds_counts(path) for path in given):
        return _of_counts(asked)
    if asked.explain:
        raise click.UsageError("--explain goes with a run of counts (workload: instructions)")
    if any(_holds_rounds(path) for path in given if is_run_directory(path)):
        return _of_rounds(asked)
    return _of_samples(asked)


def _holds_rounds(run: Path) -> bool:
    from harness.core.model import Workload
    from harness.shell.results import workload_of

    return workload_of(run) is Workload.POOL_GROWTH


@dataclass(frozen=True, slots=True)
class _Asked:
    """What was asked for, as the options have it."""

    old: Path
    new: Path | None
    form: str
    ci: bool
    metric: str
    margin: float | None
    alpha: float | None
    noise_floor: Path | None
    accept_differences: bool
    baseline: str | None
    contender: str | None
    explain: bool
    trend: bool
    plot: Path | None
    fail_on: tuple[str, ...]

    @property
    def roles(self) -> Roles:
        from harness.shell.roles import Roles

        return Roles(self.baseline, self.contender)

    @property
    def only_for_samples(self) -> dict[str, object]:
        """The options that mean nothing where nothing was sampled."""
        return {
            "NEW": self.new,
            "--noise-floor": self.noise_floor,
            "--alpha": self.alpha,
            "--ci": self.ci,
            "--metric": self.metric != "iops",
            "--accept-differences": self.accept_differences,
        }

    @property
    def only_for_one_run(self) -> dict[str, object]:
        """The options that mean nothing where two sets of results are compared."""
        return {
            "--noise-floor": self.noise_floor,
            "--baseline": self.baseline,
            "--contender": self.contender,
        }

    @property
    def not_of_trends(self) -> dict[str, object]:
        """The options that mean nothing for a trend."""
        return {
            "NEW": self.new,
            "--noise-floor": self.noise_floor,
            "--contender": self.contender,
            "--ci": self.ci,
            "--format html (the page of `harness report` has the trend)": self.form == "html",
        }

    def print(self, text: str) -> None:
        """Print the result: a table as the terminal writes it, other formats as a file."""
        if self.form in {"text", "commit"}:
            click.echo(text, nl=False)
        else:
            print_file(text)

    def judgements(self) -> list[Judgement]:
        """Return how to judge, a judgement for each metric."""
        from harness.analysis.metrics import find_metrics
        from harness.shell.judging import Judgement

        return [
            Judgement(found.name, self.margin, self.alpha, self.accept_differences, self.roles)
            for found in find_metrics(self.metric)
        ]


def _of_samples(asked: _Asked) -> int:
    from harness.adapters.results.fio_trees import reading_ahead

    with reading_ahead(asked.old, asked.new) as ahead:
        return _judged(asked, ahead)


def _judged(asked: _Asked, ahead: Ahead) -> int:
    from harness.analysis.tables import render_all

    if asked.ci and asked.form != "commit":
        raise click.UsageError("--ci goes with --format commit; the other formats have intervals anyway")
    if asked.new is not None:
        refuse_given(asked.only_for_one_run, "goes with one run directory, not with two sets of results")
    judgements = asked.judgements()
    if asked.form == "html":
        return _page(asked, judgements, ahead)
    comparisons = _comparisons(asked, judgements, ahead)
    asked.print(render_all(comparisons, asked.form, ci=asked.ci))
    _say_beside(asked.form, comparisons)
    return exit_code(comparisons, asked.fail_on)


def _comparisons(asked: _Asked, judgements: list[Judgement], ahead: Ahead) -> list[Comparison]:
    if asked.new is None:
        from harness.shell.comparing import compare_metrics

        return compare_metrics(asked.old, judgements, asked.noise_floor)
    from harness.shell.comparing_two import compare_two

    return [compare_two(asked.old, asked.new, judgement, ahead) for judgement in judgements]


def _of_fleet(asked: _Asked, paths: list[Path]) -> int:
    from harness.analysis.fleet_tables import render_fleet
    from harness.shell.fleet import compare_fleet

    of_one = {
        "--noise-floor": asked.noise_floor,
        "--ci": asked.ci,
        "--explain": asked.explain,
        "--trend": asked.trend,
    }
    refuse_given(of_one | {"--format html": asked.form == "html"}, "that goes with no fleet (--fleet)")
    _require_fio(paths)
    fleets = [compare_fleet(paths, judgement) for judgement in asked.judgements()]
    asked.print(render_fleet(fleets, asked.form))
    _say_beside(asked.form, [found.pooled for found in fleets])
    if asked.form in {"commit", "csv"}:
        click.echo(f"harness: note: geometric means over {fleets[0].pooled.footer[0]}", err=True)
    return exit_code(fleets, asked.fail_on)


def _require_fio(paths: list[Path]) -> None:
    """Refuse runs of other workloads: counts need no second host, and rounds are judged by themselves."""
    from harness.adapters.results.run_layout import holds_counts
    from harness.core.model import Workload
    from harness.shell.results import workload_of

    found = [child for path in paths for child in ((path, *path.iterdir()) if path.is_dir() else (path,))]
    if any(holds_counts(path) for path in found):
        raise click.UsageError("--fleet: counts of instructions are compared one run at a time")
    if any(workload_of(path) is Workload.POOL_GROWTH for path in found):
        raise click.UsageError("--fleet: a run of pool-growth is judged by itself, by its rounds")


def _say_beside(form: str, comparisons: Sequence[Comparison]) -> None:
    """Say on stderr what a format that holds only data leaves out: nothing is dropped in silence."""
    from harness.analysis.remarks import shortened
    from harness.shell.judging import TCG_NOTICE

    if form not in {"commit", "csv"}:
        return
    said = dict.fromkeys(warning for found in comparisons for warning in found.warnings)
    for warning in shortened(list(said)):
        click.echo(f"harness: warning: {warning}", err=True)
    if comparisons[0].environment.get("accel") == "tcg":
        click.echo(f"harness: note: {TCG_NOTICE}", err=True)


def _page(asked: _Asked, judgements: list[Judgement], ahead: Ahead) -> int:
    from harness.report.matrix_page import matrix_page
    from harness.report.page import render_page
    from harness.shell.reporting import matrix_report, two_reports

    if asked.new is not None:
        report = two_reports(asked.old, asked.new, judgements, ahead)
    else:
        report = matrix_report(asked.old, judgements, asked.noise_floor)
    print_file(render_page(matrix_page(report)))
    return exit_code(report.comparisons, asked.fail_on)


def _of_rounds(asked: _Asked) -> int:
    from harness.analysis.pool_tables import render_pool
    from harness.shell.pool_report import pool_report

    judged = {"--margin": asked.margin, "--fail-on": asked.fail_on}
    refuse_given(asked.only_for_samples | asked.only_for_one_run | judged, NOT_OF_ROUNDS)
    if asked.form == "html":
        from harness.shell.reporting import report_pool

        print_file(report_pool(asked.old))
    else:
        asked.print(render_pool(pool_report(asked.old), asked.form))
    return 0


def _of_counts(asked: _Asked) -> int:
    from harness.analysis.cost_tables import render_costs
    from harness.shell.costing import compare_counted
    from harness.shell.counted import read_counted
    from harness.shell.explaining import explain_counts

    refuse_given(asked.only_for_samples, NOT_OF_COUNTS)
    counted = read_counted(asked.old)
    comparison = compare_counted(counted, margin=asked.margin, roles=asked.roles)
    if asked.explain:
        click.echo(explain_counts(counted, comparison), nl=False)
    elif asked.form == "html":
        from harness.shell.reporting import report_counts

        print_file(report_counts(counted, comparison))
    else:
        asked.print(render_costs(comparison, asked.form))
    if asked.form in {"commit", "csv"}:
        for warning in comparison.warnings:
            click.echo(f"harness: warning: {warning}", err=True)
        click.echo(f"harness: note: {comparison.ruler}", err=True)
    return cost_exit_code(comparison, asked.fail_on)


def _of_trend(asked: _Asked) -> int:
    from harness.analysis.build_trend_text import render_trend
    from harness.shell.trending import check_plot, explain_steps, trend_of_run, write_trend_plot

    _check_trend(asked)
    if asked.plot is not None:
        check_plot(asked.plot)
    trend = trend_of_run(asked.old, asked.judgements()[0])
    if asked.plot is not None:
        write_trend_plot(trend, asked.plot)
        click.echo(f"harness: plot: {asked.plot}", err=True)
    if asked.explain:
        click.echo(explain_steps(asked.old, trend), nl=False)
    else:
        asked.print(render_trend(trend, asked.form))
    for warning in trend.warnings if asked.form in {"commit", "csv"} else ():
        click.echo(f"harness: warning: {warning}", err=True)
    return code_of(trend.verdicts(), asked.fail_on)


def _check_trend(asked: _Asked) -> None:
    from harness.adapters.results.run_layout import holds_counts
    from harness.core.model import Workload
    from harness.shell.results import workload_of

    refuse_given(asked.not_of_trends, "that goes with no trend (--trend)")
    if holds_counts(asked.old):
        refuse_given(asked.only_for_samples, NOT_OF_COUNTS)
    elif asked.explain:
        raise click.UsageError("--explain goes with a run of counts (workload: instructions)")
    elif workload_of(asked.old) is Workload.POOL_GROWTH:
        raise click.UsageError(f"--trend: {NOT_OF_ROUNDS}")
    if "," in asked.metric:
        raise click.UsageError("--trend follows one metric: name one with --metric")
