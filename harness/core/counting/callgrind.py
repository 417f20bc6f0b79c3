"""callgrind's output files: the total of one thread, and what each function cost, itself and what it called.

The format is that of the Valgrind manual, "Callgrind Format Specification": header lines ``key: value``, then
``fl=``/``fn=`` lines that name a position, cost lines, and ``calls=`` lines, after which one cost line
holds what the call cost. Names are compressed: ``(7) name`` the first time, ``(7)`` from then on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_NAME = re.compile(r"\((\d+)\)(?: (.*))?")
_POSITION = re.compile(r"(fl|fi|fe|fn|ob|cfi|cfl|cfn|cob|jfi|jfn)=(.*)")
_COST = re.compile(r"(?:\+\d+|-\d+|\*|\d+|0x[0-9a-fA-F]+) (\d+)((?: \d+)*)")
_SHARED = {
    "fi": "fl",
    "fe": "fl",
    "cfi": "fl",
    "cfl": "fl",
    "jfi": "fl",
    "cfn": "fn",
    "jfn": "fn",
    "cob": "ob",
}
UNKNOWN = "???"
_MOST_DIGITS = 20

_CYCLES = {
    "Ir": 1,
    **dict.fromkeys(("I1mr", "D1mr", "D1mw", "Bcm", "Bim"), 10),
    **dict.fromkeys(("ILmr", "DLmr", "DLmw"), 100),
}
"""KCachegrind's "Cycle Estimation": what an event costs."""

_REPEATED = 0.9
"""Stores an instruction, from which on a function is `rep stos` or `rep movs`: other code has loops."""

_ROUNDS_A_CYCLE = 32


class CallgrindFormatError(ValueError):
    """The text is not a whole callgrind output file; says where."""


@dataclass(frozen=True, slots=True, order=True)
class Function:
    """A function as callgrind names it.

    Attributes:
        name: its symbol; an address (``0x...``) or ``???`` when there is none.
        file: its source file; ``???`` without debug information.
        object: the binary or library it is in.
    """

    name: str
    file: str
    object: str

    @property
    def has_symbol(self) -> bool:
        """Whether a name is known, not an address only."""
        return self.name != UNKNOWN and not self.name.startswith("0x")


@dataclass(slots=True)
class Profile:
    """What one thread executed.

    Attributes:
        thread: callgrind's number of the thread, from 1; 0 when the file names none.
        command: what was run.
        total: instructions, as the file's ``totals`` line says.
        own: instructions of each function, without what it called.
        lines: instructions by the file of the source line, inlined code where it was written.
        calls: instructions of each (caller, callee), with everything that the callee called.
        times: how often each (caller, callee) was called.
        events: the names of all events that were counted, ``Ir`` first.
        further: of each function itself, the other events; empty where none were counted.
    """

    thread: int
    command: str
    total: int
    own: dict[Function, int] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    calls: dict[tuple[Function, Function], int] = field(default_factory=dict)
    times: dict[tuple[Function, Function], int] = field(default_factory=dict)
    events: tuple[str, ...] = ("Ir",)
    further: dict[Function, list[int]] = field(default_factory=dict)

    def cycles(self) -> float:
        """Return about how many cycles it took, from the simulated caches and branches.

        A round of `rep stos` or `rep movs` is an instruction to callgrind. A function in which nearly each
        one stores is taken for such code, and its rounds for bytes of which a processor does 32 in a cycle.
        """
        total = float(self.total)
        for function, counted in self.further.items():
            events = dict(zip(self.events[1:], counted, strict=True))
            total += sum(_CYCLES.get(name, 0) * number for name, number in events.items())
            rounds = events.get("Dw", 0)
            if rounds > _REPEATED * self.own[function]:
                total -= rounds * (1 - 1 / _ROUNDS_A_CYCLE)
        return total

    def inclusive(self) -> dict[Function, int]:
        """Return the instructions of each function with what it called.

        Recursion counts a function's calls to itself twice, as callgrind's own tool does.
        """
        found = dict(self.own)
        for (caller, callee), cost in self.calls.items():
            if caller != callee:
                found[caller] = found.get(caller, 0) + cost
        return found


def parse_callgrind(text: str) -> Profile:
    """Return what one output file says.

    Raises:
        CallgrindFormatError: it is no callgrind output, counts no instructions, or its end is missing.
    """
    reader = _Reader()
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            reader.take(line)
        except (KeyError, ValueError, IndexError) as error:
            raise CallgrindFormatError(f"line {number} is not callgrind's: {line[:80]!r}") from error
    return reader.profile()


def parse_total(text: str) -> int:
    """Return the instructions of one output file without reading what they were spent on.

    Raises:
        CallgrindFormatError: there is no total: callgrind did not finish writing.
    """
    # It stands at the end of megabytes.
    at = 0 if text.startswith("totals:") else max(text.find("\ntotals:"), 0)
    return _total_of(text[at:].splitlines())


def _total_of(lines: Iterable[str]) -> int:
    # The summary in the head is of the process for the first thread: only the totals are of this thread.
    totals = [line.removeprefix("totals:").strip(" ") for line in lines if line.startswith("totals:")]
    if len(totals) > 1:
        raise CallgrindFormatError("it has more than one total: it is of several threads or dumps")
    number = totals[0] if totals else None
    if number is None:
        raise CallgrindFormatError("there is no total: callgrind did not finish writing it")
    # Instructions come first, then misses of simulated caches.
    first = number.partition(" ")[0]
    if not (first.isascii() and first.isdecimal() and len(first) <= _MOST_DIGITS):
        raise CallgrindFormatError(f"its total is no number: {number[:40]!r}")
    return int(first)


def _thread(number: str) -> int:
    if not (number.isascii() and number.isdecimal() and len(number) <= _MOST_DIGITS):
        raise CallgrindFormatError(f"its thread is no number: {number[:40]!r}")
    return int(number)


class _Reader:
    """Takes the lines one by one."""

    def __init__(self) -> None:
        self._names: dict[str, dict[str, str]] = {"fl": {}, "fn": {}, "ob": {}}
        self._here = {"fl": UNKNOWN, "fn": UNKNOWN, "ob": UNKNOWN}
        self._called = dict(self._here)
        self._home = UNKNOWN
        self._line_file = UNKNOWN
        self._call = False
        self._header: dict[str, str] = {}
        self._totals: list[str] = []
        self._own: dict[Function, int] = {}
        self._further: dict[Function, list[int]] = {}
        self._lines: dict[str, int] = {}
        self._calls: dict[tuple[Function, Function], int] = {}
        self._times: dict[tuple[Function, Function], int] = {}
        self._how_often = 0

    def take(self, line: str) -> None:
        if match := _COST.fullmatch(line):
            self._cost(int(match[1]), match[2])
        elif match := _POSITION.fullmatch(line):
            self._position(match[1], match[2])
        elif line.startswith("calls="):
            self._call = True
            self._how_often = int(line[len("calls=") :].split(maxsplit=1)[0])
        elif line.startswith(("jump=", "jcnd=", "#")) or not line.strip():
            pass
        elif line.startswith("totals:"):
            self._totals.append(line)
        elif ": " in line or line.endswith(":"):
            key, _colon, value = line.partition(":")
            self._header.setdefault(key, value.strip())
        elif line.isdecimal() or line.startswith(("+", "-", "*")):
            # A line without costs: a position only.
            self._cost(0)
        else:
            raise ValueError(line)

    def _position(self, kind: str, text: str) -> None:
        shared = _SHARED.get(kind, kind)
        name = self._name(shared, text)
        if kind in {"fi", "fe"}:
            self._line_file = name
        elif kind in {"cfi", "cfl", "cfn", "cob"}:
            self._called[shared] = name
        elif not kind.startswith("j"):
            self._here[kind] = name
            if kind == "fl":
                self._line_file = name
            # What a call leaves unsaid is where the caller is.
            self._called[kind] = name
            if kind == "fn":
                self._home = self._here["fl"]

    def _name(self, shared: str, text: str) -> str:
        match = _NAME.fullmatch(text)
        if match is None:
            return text
        known = self._names[shared]
        if match[2] is not None:
            known[match[1]] = match[2]
        return known[match[1]]

    def _cost(self, cost: int, further: str = "") -> None:
        here = Function(self._here["fn"], self._home, self._here["ob"])
        if self._call:
            callee = Function(self._called["fn"], self._called["fl"], self._called["ob"])
            key = here, callee
            self._calls[key] = self._calls.get(key, 0) + cost
            self._times[key] = self._times.get(key, 0) + self._how_often
            self._call = False
            self._called = dict(self._here)
        else:
            self._own[here] = self._own.get(here, 0) + cost
            if further:
                self._add_further(here, further.split())
            self._lines[self._line_file] = self._lines.get(self._line_file, 0) + cost

    def _add_further(self, here: Function, counted: list[str]) -> None:
        sums = self._further.get(here)
        if sums is None:
            sums = self._further[here] = [0] * (len(self._events) - 1)
        # Zeros at a line's end are left out.
        for place, number in enumerate(counted):
            sums[place] += int(number)

    @property
    def _events(self) -> tuple[str, ...]:
        return tuple(self._header.get("events", "").split())

    def profile(self) -> Profile:
        if self._events[:1] != ("Ir",):
            raise CallgrindFormatError("it is no output of callgrind that counts instructions")
        return Profile(
            thread=_thread(self._header.get("thread", "0") or "0"),
            command=self._header.get("cmd", ""),
            total=_total_of(self._totals),
            own=self._own,
            lines=self._lines,
            calls=self._calls,
            times=self._times,
            events=self._events,
            further=self._further,
        )
