"""The ``harness`` command and its verbs, each loaded only when it is used."""

from __future__ import annotations

import contextlib
import errno
import gc
import importlib
import os
import sys
from typing import Any, NoReturn

import click

from harness import __version__
from harness.core.errors import HarnessError
from harness.shell.console import Console
from harness.shell.terminal import standard_streams

_VERBS = {
    "doctor": "Say whether this host can measure, and what to do where it cannot.",
    "schema": "Print the JSON Schema of experiment files, for editors, or of results.",
    "check": "Validate experiment files; every error at once.",
    "plan": "Show what would run, in order, and how long it would take.",
    "provision": "Converge this host: libvirt, QEMU builds, guest image.",
    "builds": "List, explain and prune the cache of QEMU builds.",
    "run": "Run an experiment, or go on with one, and print the table.",
    "tune": "Make this host quiet by hand, and put it back.",
    "clean": "Remove what runs that were killed left behind; only what is dead.",
    "show": "Show what a run directory holds.",
    "compare": "Print the OLD/NEW/CHANGE table of a run, or of two sets of results.",
    "report": "Write a run's report: one HTML file, with charts.",
    "export": "Write a run for other tools (JUnit, OpenMetrics ...), or pack it into one file.",
    "history": "File finished runs, find them again, and see what changed from night to night.",
    "bisect": "Find the commit that made it slower: git bisect, building and measuring.",
    "nightly": "Measure a branch's newest commit against the baseline and the night before.",
}

_EPILOG = """\b
Start here:
  harness run fio/quick.yml             two QEMU builds, four cells, minutes
  harness run fio/instructions.yml      instructions a request instead, a minute, no guest
  harness compare runs/DIR              the table again, with verdicts
  harness compare runs/DIR --format commit   the table for a commit message
  harness report runs/DIR               the same as a page with charts
  harness compare OLD.csv NEW.csv       results from anywhere

\b
Exit codes:
  0 done              3 a `slower` verdict (with --fail-on slower)
  1 the run failed    4 an `unclear` one (with --fail-on unclear)
  2 invalid input     130 interrupted

\b
Shell completion (bash; also zsh, fish):
  eval "$(_HARNESS_COMPLETE=bash_source harness)"
"""


_OBJECTS_BEFORE_A_LOOK = 200_000


class _Verbs(click.Group):
    """A group whose verbs are imported when used: ``--help`` stays fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the verbs in the order a newcomer meets them."""
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return one verb, loaded."""
        if cmd_name not in _VERBS:
            return None
        module = importlib.import_module(f"harness.shell.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the verbs' summaries without loading them."""
        with formatter.section("Verbs"):
            formatter.write_dl(list(_VERBS.items()))


@click.group(cls=_Verbs, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="harness")
def cli() -> None:
    """Did this QEMU get slower?

    Boots guests on two (or more) QEMU builds in random order, runs fio over a block size x I/O depth
    matrix on a virtio-blk disk, and prints the OLD/NEW/CHANGE table with how sure it is.
    """


def main() -> NoReturn:
    """Run the command line; the only place that turns errors into messages and exit codes."""
    sys.stdout, sys.stderr = standard_streams()
    # What is imported stays: to look through it for cycles, again and again, takes a tenth of a start.
    gc.set_threshold(_OBJECTS_BEFORE_A_LOOK, *gc.get_threshold()[1:])
    code = run_cli(sys.argv[1:])
    # Nor does anybody wait for the cycles in what is left: to look for them at the end takes as long again.
    gc.freeze()
    sys.exit(code)


def run_cli(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    try:
        result: Any = cli.main(args=arguments, prog_name="harness", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return 2
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("harness: interrupted", err=True)
        return 130
    except (OSError, SystemExit) as error:
        return _system_refused(error)
    except HarnessError as error:
        Console().error(error)
        return error.exit_code
    return result if isinstance(result, int) else 0


def _system_refused(error: OSError | SystemExit) -> int:
    """Say what the system refused, a path or writing to stdout, and return the exit code."""
    if isinstance(error, SystemExit):
        # So click ends, without a word, what some pipe or socket was closed for: not stdout or stderr, of
        # which `standard_streams` says nothing, so that a verdict's exit code outlives their readers.
        error = OSError(errno.EPIPE, os.strerror(errno.EPIPE))
    where = f"{error.filename}: " if error.filename else ""
    Console().error(HarnessError(f"{where}{error.strerror or error}"))
    # What stdout still holds goes nowhere: writing it at exit would fail again.
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return HarnessError.exit_code
