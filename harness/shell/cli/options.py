"""Arguments and options that several verbs share."""

from __future__ import annotations

import functools
import itertools
import os
import signal
import sys
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from harness.adapters.host.locks import Patience
from harness.adapters.waiting import Stop
from harness.adapters.workspace import NO_CACHE
from harness.core.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_T = TypeVar("_T")


class _NamedPath(click.Path):
    """A path that is named: an empty one would stand for the current directory, or for nothing at all."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("the path is empty: name one.", param, ctx)
        return super().convert(value, param, ctx)


# click would refuse a file that is missing, or may not be read, in its own words, and stop at the first one;
# the loader names the remedy as well, and goes on to the next.
PATH: Any = _NamedPath(readable=False, path_type=Path)


def reading(
    parse: Callable[[str], float], example: str, *, remedy: str = "write e.g."
) -> Callable[[click.Context, click.Parameter, str | None], float | None]:
    """Return what reads an option's value, with an error that names the option and an example.

    Args:
        parse: raises ValueError, whose words become the error's.
        example: a value that can be read.
        remedy: the words before option and example.
    """

    def read(_ctx: click.Context, option: click.Parameter, value: str | None) -> float | None:
        if value is None:
            return None
        from harness.core.errors import InputError

        name = option.opts[0]
        try:
            return parse(value)
        except ValueError as error:
            raise InputError.single(name, str(error), f"{remedy} {name} {example}") from error

    return read


def percentage(example: str, *, risk: bool = False) -> Callable[..., float | None]:
    """Return what reads a share such as ``2%`` or ``0.02``, as an experiment file reads it."""

    def parse(value: str) -> float:
        from harness.core.experiment import read_percentage

        return read_percentage(value, risk=risk)

    return reading(parse, example, remedy="give a percentage:")


experiment_argument = click.argument("experiment", type=PATH)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
state_dir_option = click.option(
    "--state-dir",
    type=PATH,
    default=None,
    help="Where builds, guest images and disks are kept "
    "[default: /var/lib/qemu-ab-harness as root, else ~/.local/state/qemu-ab-harness].",
)
budget_option = click.option(
    "--budget",
    metavar="TIME",
    help="Choose blocks, passes and runtime for the narrowest interval within this wall time (40m).",
)
margin_option = click.option(
    "--margin",
    metavar="PERCENT",
    callback=percentage("2%"),
    help="A change smaller than this does not matter [default: the experiment's, or 2%].",
)
alpha_option = click.option(
    "--alpha",
    metavar="PERCENT",
    callback=percentage("5%", risk=True),
    help="Accepted risk of a false verdict, over all cells [default: the experiment's, or 5%].",
)
noise_floor_option = click.option(
    "--noise-floor",
    type=PATH,
    metavar="AA_RUN_DIR",
    help="An A/A run of this host (harness run --aa): what it cannot resolve is shown beside the results.",
)
metric_option = click.option(
    "--metric",
    default="iops",
    show_default=True,
    metavar="NAME[,NAME...]",
    help="What to compare: iops, bw, clat_p99, vmas, cpu_per_io ...; several give a table each.",
)
accept_differences_option = click.option(
    "--accept-differences",
    is_flag=True,
    help="Judge although sessions, or files of one cell, differ in more than the build.",
)
fail_on_option = click.option(
    "--fail-on", type=click.Choice(["slower", "unclear"]), multiple=True, help="Exit with 3 or 4."
)
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Print errors and the result only.")


_WAIT = "--wait"
_WAITS_FOR = "24h"


def wait_option(command: Callable[..., _T]) -> Callable[..., _T]:
    """Add --wait to a verb, which has to be a `Waits`."""
    return click.option(
        _WAIT,
        metavar="[TIME]",
        callback=reading(parse_duration, "2h"),
        help=f"Wait while somebody else measures on this host; at most TIME [{_WAITS_FOR}].",
    )(command)


class Waits(click.Command):
    """A verb with --wait, whose time may be left out wherever it stands."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments; --wait without a time gets its own."""
        return super().parse_args(ctx, list(_with_time(args)))


def _with_time(arguments: list[str]) -> Iterator[str]:
    for argument, following in itertools.zip_longest(arguments, arguments[1:], fillvalue=""):
        yield f"{_WAIT}={_WAITS_FOR}" if argument == _WAIT and not _is_duration(following) else argument


def _is_duration(text: str) -> bool:
    try:
        parse_duration(text)
    except ValueError:
        return False
    return True


def patience_of(wait: float | None, say: Callable[[str], None], stop: Stop) -> Patience:
    """Return how long a verb waits for the host, by its --wait."""
    return Patience(wait or 0.0, say, stop.is_set)


NOT_OF_COUNTS = "a run of counts is compared by itself; it has one metric and no statistics"
NOT_OF_ROUNDS = "a run of pool-growth is judged by itself, by its rounds"


def refuse_given(options: Mapping[str, object], why: str) -> None:
    """Refuse options that were given and mean nothing here."""
    given = [name for name, value in options.items() if value not in {None, False, ()}]
    if given:
        raise click.UsageError(f"{', '.join(given)}: {why}")


def _forbid_cache(ctx: click.Context, _option: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's
    """Tell what reads samples, and the processes it starts, until the verb has ended."""
    if value:
        before = os.environ.get(NO_CACHE)
        os.environ[NO_CACHE] = "1"
        if before is None:
            ctx.call_on_close(lambda: os.environ.pop(NO_CACHE, None))


cache_option = click.option(
    "--no-cache",
    is_flag=True,
    envvar=NO_CACHE,
    show_envvar=True,
    expose_value=False,
    callback=_forbid_cache,
    help="Read every raw file again, whatever is kept of it in the user's cache directory.",
)


def reads_bundles(*names: str) -> Callable[[Callable[..., _T]], Callable[..., _T]]:
    """Let a verb's arguments be bundles: what it is called with is the run directory that was in them."""

    def decorate(command: Callable[..., _T]) -> Callable[..., _T]:
        @functools.wraps(command)
        def call(**given: Any) -> _T:
            from harness.shell.opening import readable

            with ExitStack() as stack:
                paths = {name: given[name] for name in names if given[name] is not None}
                opened = {name: stack.enter_context(readable(path)) for name, path in paths.items()}
                return command(**given | opened)

        return call

    return decorate


def print_json(value: Any) -> None:
    """Print JSON on stdout."""
    import orjson

    from harness.core.unicode import json_text

    print_file(json_text(value, orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


STDOUT = "-"


def file_of(output: Path | None) -> Path | None:
    """Return the file that an option names; None is stdout, which ``-`` is another name of."""
    return None if output is None or str(output) == STDOUT else output


def print_file(text: str) -> None:
    """Print what is a file's content on stdout, in UTF-8 as into a file, whatever the locale is."""
    from harness.core.unicode import utf8

    # A terminal has its own encoding, and what stands for stdout elsewhere may take any text.
    reconfigure = None if sys.stdout.isatty() else getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(encoding="utf-8", errors="backslashreplace")
    click.echo(utf8(text).decode(), nl=False)


@contextmanager
def stopping_on_signals() -> Iterator[Stop]:
    """Turn SIGINT, SIGTERM and SIGHUP into a wish to stop; a second one ends the process at once.

    A SIGHUP that whoever started this had ignored (nohup) stays ignored.
    """
    stop = Stop()
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    previous = {number: signal.getsignal(number) for number in signals}
    if previous[signal.SIGHUP] is signal.SIG_IGN:
        del previous[signal.SIGHUP]

    def on_signal(number: int, _frame: object) -> None:
        signal.signal(number, previous[signal.Signals(number)])
        stop.set()
        # The terminal may be what is gone.
        with suppress(OSError):
            click.echo("harness: stopping: ending the guest, keeping what was measured", err=True)

    for number in previous:
        signal.signal(number, on_signal)
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
