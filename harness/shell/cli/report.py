"""``harness report``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from harness.shell.cli.options import (
    NOT_OF_COUNTS,
    NOT_OF_ROUNDS,
    PATH,
    accept_differences_option,
    alpha_option,
    cache_option,
    file_of,
    margin_option,
    metric_option,
    noise_floor_option,
    print_file,
    reads_bundles,
    refuse_given,
)

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.argument("run_dir", type=PATH)
@click.option(
    "-o",
    "--output",
    type=PATH,
    default="report.html",
    show_default=True,
    metavar="FILE",
    help="Where to write it; an older report is replaced, nothing else; - is stdout.",
)
@metric_option
@margin_option
@alpha_option
@noise_floor_option
@accept_differences_option
@click.option("--baseline", metavar="VARIANT", help="Compare with this one [default: the experiment's].")
@click.option("--contender", metavar="VARIANT", help="Compare this one only [default: all others].")
@cache_option
@reads_bundles("run_dir", "noise_floor")
def command(
    run_dir: Path,
    *,
    output: Path,
    metric: str,
    margin: float | None,
    alpha: float | None,
    noise_floor: Path | None,
    accept_differences: bool,
    baseline: str | None,
    contender: str | None,
) -> None:
    """Write a run's report: one HTML file with the answer, table, charts, provenance, how to repeat it.

    It works offline and from disk, in light and dark, on a phone and on paper. Of two sets of results the
    same page comes from compare OLD NEW --format html.

    \b
      harness report runs/quick-20260101T120000 -o report.html
      harness report runs/X --noise-floor runs/AA -o report.html
      harness report run.tar.zst -o - > report.html
    """
    from harness.adapters.results.run_layout import holds_counts
    from harness.analysis.metrics import find_metrics
    from harness.core.model import Workload
    from harness.shell.judging import Judgement
    from harness.shell.reporting import check_report, report_run, write_report
    from harness.shell.results import workload_of
    from harness.shell.roles import Roles

    path = file_of(output)
    if path is not None:
        check_report(path)
    of_samples: dict[str, object] = {"--noise-floor": noise_floor, "--alpha": alpha}
    of_samples |= {"--metric": metric != "iops", "--accept-differences": accept_differences}
    if holds_counts(run_dir):
        refuse_given(of_samples, NOT_OF_COUNTS)
    elif workload_of(run_dir) is Workload.POOL_GROWTH:
        of_samples |= {"--margin": margin, "--baseline": baseline, "--contender": contender}
        refuse_given(of_samples, NOT_OF_ROUNDS)
    roles = Roles(baseline, contender)
    judgements = [
        Judgement(found.name, margin, alpha, accept_differences, roles) for found in find_metrics(metric)
    ]
    html = report_run(run_dir, judgements, noise_floor)
    if path is None:
        print_file(html)
        return
    write_report(path, html)
    click.echo(f"harness: wrote {path}", err=True)
