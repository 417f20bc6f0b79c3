"""``harness schema``."""

from __future__ import annotations

import click

from harness.shell.cli.options import print_json


@click.command()
def command() -> None:
    """Print the JSON Schema of experiment files.

    Editors with YAML support complete and check experiment files with it:

    \b
      harness schema > experiment.schema.json
      # then, as the first line of an experiment:
      # yaml-language-server: $schema=experiment.schema.json
    """
    from harness.core.experiment import json_schema

    print_json(json_schema())
