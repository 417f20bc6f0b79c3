"""``harness check``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from harness.shell.cli.options import PATH, json_option, print_json

if TYPE_CHECKING:
    from pathlib import Path

    from harness.core.errors import Problem


@click.command()
@click.argument("experiments", type=PATH, nargs=-1, required=True)
@json_option
def command(experiments: tuple[Path, ...], *, as_json: bool) -> int:
    """Validate experiment files whole: every error at once, and nothing is touched.

    \b
      harness check fio/quick.yml
      harness check fio/*.yml --json
    """
    from harness.adapters.paths import companion_problems
    from harness.core.errors import InputError
    from harness.core.model import Workload
    from harness.shell.declare import declare

    problems: list[Problem] = []
    for path in experiments:
        try:
            declared = declare(path)
        except InputError as error:
            problems += error.problems
            continue
        if missing := companion_problems(declared.experiment, declared.source, declared.directory):
            problems += missing
            continue
        if not as_json:
            experiment = declared.experiment
            size = f"{len(experiment.cells())} cells"
            if experiment.workload is Workload.POOL_GROWTH:
                size = f"{experiment.pool.planned_rounds} rounds"
            click.echo(f"{path}: {experiment.name}: {', '.join(experiment.variants)}; {size}")
    if as_json:
        print_json([{"where": p.where, "message": p.message, "remedy": p.remedy} for p in problems])
        return InputError.exit_code if problems else 0
    if problems:
        raise InputError(problems)
    return 0
