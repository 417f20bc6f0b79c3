"""A campaign of faults, planned: which fault, when, in which trial; pure, so that a seed tells it all."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What is done to whom."""

    HARNESS_SIGINT = "harness-sigint"
    HARNESS_SIGTERM = "harness-sigterm"
    HARNESS_SIGHUP = "harness-sighup"
    HARNESS_SIGKILL = "harness-sigkill"
    QEMU_SIGKILL = "qemu-sigkill"
    QEMU_SIGSEGV = "qemu-sigsegv"
    QEMU_FROZEN = "qemu-frozen"
    FIO_KILLED = "fio-killed"
    GUEST_PANIC = "guest-panic"
    AGENT_FROZEN = "agent-frozen"
    DISK_FULL = "disk-full"
    DISK_READ_ONLY = "disk-read-only"
    DISK_SLOW = "disk-slow"
    CLOCK_SET_BACK = "clock-set-back"


class Phase(StrEnum):
    """What the run is at when the fault comes."""

    ANY = "any-time"
    BOOTING = "booting"
    MEASURING = "measuring"
    WRITING = "writing"
    ENDING = "ending"
    REPORTING = "reporting"


HARNESS_KINDS = frozenset(
    {Kind.HARNESS_SIGINT, Kind.HARNESS_SIGTERM, Kind.HARNESS_SIGHUP, Kind.HARNESS_SIGKILL}
)
IN_GUEST = frozenset({Kind.FIO_KILLED, Kind.GUEST_PANIC, Kind.AGENT_FROZEN})

_SPREAD = {
    Phase.MEASURING: 2.5,
    Phase.WRITING: 0.05,
    Phase.ENDING: 0.6,
    Phase.REPORTING: 1.0,
}
"""How long after a phase begins the fault may come, in seconds: about as long as the phase lasts."""

_OF_QEMU = (Phase.BOOTING, Phase.MEASURING, Phase.WRITING, Phase.ENDING)
_OF_DISK = (Phase.ANY, *_OF_QEMU)
_PHASES = {
    **dict.fromkeys(HARNESS_KINDS, (Phase.ANY, Phase.ANY, *_OF_QEMU, Phase.REPORTING)),
    **dict.fromkeys((Kind.QEMU_SIGKILL, Kind.QEMU_SIGSEGV, Kind.QEMU_FROZEN), _OF_QEMU),
    Kind.FIO_KILLED: (Phase.MEASURING,),
    Kind.GUEST_PANIC: (Phase.MEASURING, Phase.WRITING, Phase.ENDING),
    Kind.AGENT_FROZEN: (Phase.MEASURING, Phase.WRITING),
    **dict.fromkeys((Kind.DISK_FULL, Kind.DISK_READ_ONLY, Kind.DISK_SLOW, Kind.CLOCK_SET_BACK), _OF_DISK),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        kind: what is done to whom.
        phase: of the run, after whose beginning it comes.
        session: which session of this start of the harness that boots, from 0; of no meaning for any time.
        after: seconds after the phase began; of booting, the share of a boot; of any time, that of a run.
    """

    kind: Kind
    phase: Phase
    session: int
    after: float

    def __str__(self) -> str:
        if self.phase is Phase.ANY:
            return f"{self.kind} after {self.after:.0%} of a run"
        if self.phase is Phase.BOOTING:
            return f"{self.kind}, session {self.session} booting, after {self.after:.0%} of a boot"
        return f"{self.kind}, session {self.session} {self.phase} for {self.after:.2f} s"


@dataclass(frozen=True, slots=True)
class Trial:
    """One run that is disturbed, then gone on with.

    Attributes:
        number: in the campaign, from 0.
        seed: of the campaign.
        faults: one for the first start of the harness, and one for each further start; then no more.
        clean: whether `harness clean` comes before the run goes on.
    """

    number: int
    seed: int
    faults: tuple[Fault, ...]
    clean: bool

    @property
    def kind(self) -> Kind:
        """The kind of the first fault, by which the trial is counted."""
        return self.faults[0].kind

    @property
    def name(self) -> str:
        """What the trial is called: how to ask for it again stands in it."""
        first = self.faults[0]
        return f"{self.number}-{first.kind}-{first.phase}-seed{self.seed}"


def plan_trials(count: int, seed: int) -> list[Trial]:
    """Return the trials of a campaign; a longer one with the same seed begins with the same trials.

    Every kind comes once before any comes twice.
    """
    order = random.Random(seed)  # noqa: S311 - reproducible on purpose
    kinds: list[Kind] = []
    while len(kinds) < count:
        every = list(Kind)
        order.shuffle(every)
        kinds += every
    return [_trial(number, seed, kind) for number, kind in enumerate(kinds[:count])]


def _trial(number: int, seed: int, kind: Kind) -> Trial:
    chance = random.Random(f"{seed}/{number}")  # noqa: S311 - likewise
    faults = [_fault(kind, chance, sessions=2)]
    # A run that goes on is disturbed again, sometimes.
    while chance.random() < 0.2:
        faults.append(_fault(chance.choice(list(Kind)), chance, sessions=1))
    return Trial(number, seed, tuple(faults), clean=chance.random() < 0.5)


def _fault(kind: Kind, chance: random.Random, *, sessions: int) -> Fault:
    phase = chance.choice(_PHASES[kind])
    after = chance.uniform(0, _SPREAD.get(phase, 1.0))
    return Fault(kind, phase, chance.randrange(sessions), after)
