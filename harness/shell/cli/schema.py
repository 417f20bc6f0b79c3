"""``harness schema``."""

from __future__ import annotations

import click

from harness.shell.cli.options import print_json


@click.command()
@click.argument("what", type=click.Choice(["experiment", "result"]), default="experiment")
def command(what: str) -> None:
    """Print the JSON Schema of experiment files, or of results (docs/json.md).

    Editors with YAML support complete and check experiment files with it:

    \b
      harness schema > experiment.schema.json
      # then, as the first line of an experiment:
      # yaml-language-server: $schema=experiment.schema.json

    \b
      harness schema result > result.schema.json    # what compare --format json prints
    """
    from harness.analysis.documents import result_schema
    from harness.core.experiment import json_schema

    print_json(result_schema() if what == "result" else json_schema())
