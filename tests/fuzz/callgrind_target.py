"""callgrind's output files: the total, and what each function cost."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import counted_run

from fuzz.mutation import mutate_lines
from fuzz.target import READ, Target, require
from harness.core.counting.callgrind import CallgrindFormatError, parse_callgrind, parse_total

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

_POSITION = re.compile(r"(?:[+-][0-9]+|\*|[0-9]+|0x[0-9a-fA-F]+) ([0-9]+)(?: [0-9]+)*")


def check(data: bytes, _directory: Path) -> str:
    """Read a profile; its total and its sum have to be those of the text."""
    text = data.decode(errors="replace")
    try:
        total = parse_total(text)
    except CallgrindFormatError as error:
        return _refused(error)
    line = [line for line in text.splitlines() if line.startswith("totals:")][-1]
    first, *_further_events = line.removeprefix("totals:").split()
    require(total == int(first), f"the total {total} of the line {line!r:.80}")
    try:
        profile = parse_callgrind(text)
    except CallgrindFormatError as error:
        return _refused(error)
    require(profile.total == total, "two totals of one text")
    own, called = _simple_costs(text)
    require(sum(profile.own.values()) == own, "the functions' own costs are not those of the text")
    require(sum(profile.lines.values()) == own, "the lines' costs are not those of the text")
    require(sum(profile.calls.values()) == called, "the calls' costs are not those of the text")
    require(profile.thread >= 0, f"thread {profile.thread}")
    return READ


def _refused(error: CallgrindFormatError) -> str:
    require(str(error).isprintable() and len(str(error)) < 500, f"the message {str(error)!r:.200}")
    return type(error).__name__


def _simple_costs(text: str) -> tuple[int, int]:
    """Return what lines cost by themselves, and what calls cost."""
    own = called = 0
    call = False
    for line in text.splitlines():
        if line.startswith("calls="):
            call = True
        elif costs := _POSITION.fullmatch(line):
            # Further numbers are of other events.
            cost = int(costs[1])
            own, called = (own, called + cost) if call else (own + cost, called)
            call = False
        elif line.isdecimal() or (
            line[:1] in {"+", "-", "*"} and ": " not in line and not line.endswith(":")
        ):
            call = False
    return own, called


def seeds() -> list[bytes]:
    """Return files with compressed names, calls, inlined code and without symbols."""
    inlined = (
        "version: 1\nevents: Ir\nthread: 2\nob=(1) /bin/x\nfl=(1) a.c\nfn=(1) f\n+1 10\nfi=(2) b.h\n-3 5\n"
        "* 7\njump=1 5\nfe=(1)\n0x1f 2\n# end\ntotals: 24\n"
    )
    plain = counted_run.output(3, "OLD", 500_000)
    called = counted_run.output(1, "NEW", 500_000, 20_000)
    return [text.encode() for text in (plain, called, inlined)]


def mutate(data: bytes, random: Random) -> bytes:
    """Change lines, or bytes in them."""
    return mutate_lines(data, random)


TARGET = Target("callgrind", "callgrind's output", check, seeds, mutate)
