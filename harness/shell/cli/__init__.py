"""The command line: the only place that prints data or ends the process."""

from harness.shell.cli.main import main

__all__ = ["main"]
