"""``harness report``."""

from __future__ import annotations

from pathlib import Path

import click

from harness.shell.cli.options import PATH, alpha_option, margin_option, noise_floor_option


@click.command()
@click.argument("run_dir", type=PATH)
@click.option(
    "-o",
    "--output",
    default="report.html",
    show_default=True,
    metavar="FILE",
    help="Where to write it; an older report is replaced, nothing else; - is stdout.",
)
@click.option(
    "--metric",
    default="iops",
    show_default=True,
    metavar="NAME[,NAME...]",
    help="What the answer is about; further ones get a section each.",
)
@margin_option
@alpha_option
@noise_floor_option
@click.option(
    "--accept-differences", is_flag=True, help="Judge although sessions differ in more than the build."
)
def command(
    run_dir: Path,
    *,
    output: str,
    metric: str,
    margin: float | None,
    alpha: float | None,
    noise_floor: Path | None,
    accept_differences: bool,
) -> None:
    """Write a run's report: one HTML file with the answer, table, charts, provenance, how to repeat it.

    It works offline and from disk, in light and dark, on a phone and on paper.

    \b
      harness report runs/quick-20260101T120000 -o report.html
      harness report runs/X --noise-floor runs/AA -o report.html
      harness compare old.csv new.csv --format html > report.html
    """
    from harness.analysis.metrics import find_metrics
    from harness.shell.comparing import Judgement
    from harness.shell.reporting import check_output, report_run, write_report

    path = None if output == "-" else Path(output)
    if path is not None:
        check_output(path)
    judgements = [Judgement(found.name, margin, alpha, accept_differences) for found in find_metrics(metric)]
    html = report_run(run_dir, judgements, noise_floor)
    if path is None:
        click.echo(html, nl=False)
        return
    write_report(path, html)
    click.echo(f"harness: wrote {path}", err=True)
