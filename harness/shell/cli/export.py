"""``harness export``."""

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
    fail_on_option,
    file_of,
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

    from harness.shell.exporting import ExportFormat, Judged, Wanted

_FORMATS = ("markdown", "csv", "json", "junit", "benchstat", "openmetrics")


@click.command()
@click.argument("run_dir", type=PATH)
@click.option(
    "--format", "forms", type=click.Choice(_FORMATS), multiple=True, help="How to write the result."
)
@click.option(
    "-o",
    "--output",
    type=PATH,
    help="The file, or for several formats the directory; - is stdout [default: stdout].",
)
@click.option("--bundle", type=PATH, metavar="FILE.tar.zst", help="Pack the run into one file, for a mail.")
@click.option(
    "--anonymous", is_flag=True, help="--bundle: replace host and user names, paths, addresses, serials."
)
@click.option("--logs", is_flag=True, help="--bundle: take consoles and QEMU's error output along.")
@metric_option
@margin_option
@alpha_option
@noise_floor_option
@accept_differences_option
@fail_on_option
@cache_option
@reads_bundles("run_dir", "noise_floor")
def command(
    run_dir: Path,
    *,
    forms: tuple[str, ...],
    output: Path | None,
    bundle: Path | None,
    anonymous: bool,
    logs: bool,
    metric: str,
    margin: float | None,
    alpha: float | None,
    noise_floor: Path | None,
    accept_differences: bool,
    fail_on: tuple[str, ...],
) -> int:
    """Write a run for other tools, or pack it into one file.

    RUN_DIR is a run directory or a bundle. In JUnit a `slower` cell is a failure, an `unclear` one is skipped
    (with --fail-on unclear a failure too), a crash is an error. docs/exports.md shows every format.

    \b
      harness export runs/X --format junit -o junit.xml
      harness export runs/X --format junit --format openmetrics --format markdown -o DIR
      harness export runs/X --format benchstat > x.txt && benchstat -col variant x.txt
      harness export runs/X --bundle x.tar.zst --anonymous
    """
    from harness.shell.exporting import Wanted

    judging: dict[str, object] = {
        "--metric": metric != "iops",
        "--margin": margin,
        "--alpha": alpha,
        "--fail-on": fail_on,
    }
    judging |= {"--noise-floor": noise_floor, "--accept-differences": accept_differences}
    if bundle is not None:
        refuse_given(
            {**judging, "--format": forms, "--output": output},
            "a bundle holds the whole run; whoever reads it judges it",
        )
        _pack(run_dir, bundle, anonymous=anonymous, logs=logs)
        return 0
    refuse_given({"--anonymous": anonymous, "--logs": logs}, "goes with --bundle")
    if not forms:
        raise click.UsageError(f"name a --format ({', '.join(_FORMATS)}) or --bundle FILE.tar.zst")
    refuse_for_workload(run_dir, judging)
    wanted = Wanted(
        metrics=metric,
        margin=margin,
        alpha=alpha,
        accept_differences=accept_differences,
        noise_floor=noise_floor,
        unclear_fails="unclear" in fail_on,
    )
    return _export(run_dir, list(dict.fromkeys(forms)), file_of(output), wanted, fail_on)


def refuse_for_workload(run_dir: Path, judging: dict[str, object]) -> None:
    """Refuse the options that mean nothing for what a run measured."""
    from harness.core.model import Workload
    from harness.shell.results import workload_of

    workload = workload_of(run_dir)
    if workload is Workload.INSTRUCTIONS:
        of_counts = {"--margin", "--fail-on"}
        refuse_given({name: value for name, value in judging.items() if name not in of_counts}, NOT_OF_COUNTS)
    if workload is Workload.POOL_GROWTH:
        refuse_given(judging, NOT_OF_ROUNDS)


def _export(
    run_dir: Path, forms: Sequence[str], output: Path | None, wanted: Wanted, fail_on: tuple[str, ...]
) -> int:
    from harness.adapters.files import make_directory
    from harness.adapters.outputs import check_output, write_output
    from harness.core.unicode import utf8
    from harness.shell.exporting import FILE_NAMES, ExportFormat, export_run, judge_or_say_why, judge_run

    chosen = [ExportFormat(form) for form in forms]
    if len(chosen) > 1 and output is None:
        raise click.UsageError("several formats go into a directory: -o DIR")
    if len(chosen) == 1 and output is not None:
        check_output(output, FILE_NAMES[chosen[0]])
    judge = judge_or_say_why if ExportFormat.JUNIT in chosen else judge_run
    judged = judge(run_dir, wanted)
    possible = chosen if judged.result is not None else [ExportFormat.JUNIT]
    texts = {form: export_run(judged, form, wanted) for form in possible}
    if output is None:
        print_file(texts[chosen[0]])
    elif len(chosen) == 1:
        write_output(output, utf8(texts[chosen[0]]))
    else:
        make_directory(output, 0o755)
        for form, text in texts.items():
            write_output(output / FILE_NAMES[form], utf8(text))
    _say_warnings(judged, chosen)
    if judged.problem is not None and possible != chosen:
        raise judged.problem
    return _exit_code(judged, fail_on)


def _say_warnings(judged: Judged, forms: Sequence[ExportFormat]) -> None:
    """Say on stderr what formats for programs have no place for; nothing is dropped in silence."""
    from harness.analysis.exports.findings import warnings_of
    from harness.shell.exporting import ExportFormat

    silent = {ExportFormat.CSV, ExportFormat.BENCHSTAT, ExportFormat.OPENMETRICS}
    if judged.result is not None and silent.issuperset(forms):
        for warning in warnings_of(judged.result):
            click.echo(f"harness: warning: {warning}", err=True)


def _exit_code(judged: Judged, fail_on: tuple[str, ...]) -> int:
    from harness.analysis.costs import CostComparison
    from harness.analysis.pool_tables import PoolReport
    from harness.shell.cli.exit_codes import cost_exit_code, exit_code

    if isinstance(judged.result, PoolReport):
        return 0
    if isinstance(judged.result, CostComparison):
        return cost_exit_code(judged.result, fail_on)
    return exit_code(judged.result or (), fail_on)


def _pack(run_dir: Path, bundle: Path, *, anonymous: bool, logs: bool) -> None:
    from harness.shell.bundles import write_bundle

    written = write_bundle(run_dir, bundle, anonymous=anonymous, logs=logs)
    size = f"harness: {bundle}: {written.size_bytes:,} bytes"
    if written.refused is None:
        click.echo(f"{size}; read it with: harness compare {bundle}", err=True)
        return
    click.echo(f"{size}; no table is in it, and harness compare refuses it as it refuses the run:", err=True)
    for problem in written.refused.problems:
        click.echo(f"harness: warning: {problem.where}: {problem.message}", err=True)
