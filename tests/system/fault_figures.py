"""The figures of campaigns of faults: kept a line a trial, and put into docs/reliability.md as a table.

usage: python tests/system/fault_figures.py docs/reliability.md LOG...
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from fault_plan import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fault_course import Course

_BEGIN, _END = "<!-- faults: begin -->", "<!-- faults: end -->"

WHAT = {
    Kind.HARNESS_SIGINT: "the harness gets SIGINT (Ctrl-C)",
    Kind.HARNESS_SIGTERM: "the harness gets SIGTERM",
    Kind.HARNESS_SIGHUP: "the harness gets SIGHUP (the terminal is gone)",
    Kind.HARNESS_SIGKILL: "the harness gets SIGKILL",
    Kind.QEMU_SIGKILL: "QEMU gets SIGKILL",
    Kind.QEMU_SIGSEGV: "QEMU gets SIGSEGV",
    Kind.QEMU_FROZEN: "QEMU is frozen (SIGSTOP)",
    Kind.FIO_KILLED: "fio is killed in the guest",
    Kind.GUEST_PANIC: "the guest's kernel panics",
    Kind.AGENT_FROZEN: "the guest agent is frozen (SIGSTOP)",
    Kind.DISK_FULL: "the disk of the run directory is full",
    Kind.DISK_READ_ONLY: "the disk of the run directory becomes read-only",
    Kind.DISK_SLOW: "the disk of the run directory is slow (0.7 s a fsync)",
    Kind.CLOCK_SET_BACK: "the clock is set back by an hour",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What a trial showed.

    Attributes:
        trial: its number.
        seed: of its campaign.
        kind: of the first fault.
        reached: how many faults came before the harness had ended.
        lost: samples lost, doubled or out of order.
        leaks: things left behind.
        wrong: what else was not as it has to be.
        seconds: that it took.
    """

    trial: int
    seed: int
    kind: str
    reached: int
    lost: int
    leaks: int
    wrong: int
    seconds: float

    @classmethod
    def of(cls, course: Course) -> Self:
        """Return what a trial showed."""
        trial = course.trial
        counts = (len(course.reached), len(course.lost), len(course.leaks), len(course.wrong))
        return cls(trial.number, trial.seed, trial.kind.value, *counts, round(course.seconds, 1))

    def append_to(self, log: Path) -> None:
        """Keep it."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as stream:
            stream.write(json.dumps(asdict(self)) + "\n")


def read_findings(logs: Iterable[Path]) -> list[Finding]:
    """Return what logs hold; of a trial that was repeated, what it showed last."""
    lines = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
    return list({(line["seed"], line["trial"]): Finding(**line) for line in lines}.values())


def table(findings: Iterable[Finding]) -> str:
    """Return the figures as a table in Markdown, a row a kind of fault."""
    by_kind: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        by_kind[finding.kind].append(finding)
    every = [finding for found in by_kind.values() for finding in found]
    rows = [_row(what, by_kind[kind]) for kind, what in WHAT.items() if by_kind[kind]]
    head = "| fault | trials | faults that hit | samples lost | leaks | other failures |"
    return "\n".join([head, "| --- " + "| ---: " * 5 + "|", *rows, _row("all", every)])


def _row(what: str, findings: list[Finding]) -> str:
    counts = [sum(getattr(one, name) for one in findings) for name in ("reached", "lost", "leaks", "wrong")]
    return f"| {what} | {len(findings)} | " + " | ".join(map(str, counts)) + " |"


def summary(findings: list[Finding]) -> str:
    """Return in a sentence what was run."""
    seeds = sorted({finding.seed for finding in findings})
    hours = sum(finding.seconds for finding in findings) / 3600
    names = " and ".join(map(str, seeds))
    return f"{len(findings)} trials, seed {names}, {hours:.1f} h in all."


def put_into(page: str, findings: list[Finding]) -> str:
    """Return a page with its figures replaced."""
    before, begin, rest = page.partition(_BEGIN)
    _old, end, after = rest.partition(_END)
    assert begin and end, f"the page has no {_BEGIN} ... {_END}"  # noqa: PT018
    return f"{before}{begin}\n{summary(findings)}\n\n{table(findings)}\n{end}{after}"


if __name__ == "__main__":
    file = Path(sys.argv[1])
    file.write_text(put_into(file.read_text(), read_findings(map(Path, sys.argv[2:]))))
