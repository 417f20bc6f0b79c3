"""What a run changes of its host, and how it is put back: decided here, done by the adapters.

A snapshot is on disk before the first change. It holds each setting's value before and during; whoever ends
last (the run, its guard, the next start, ``harness tune --restore``) puts back what still has the latter.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from harness.core.quiet.settings import chosen

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from harness.core.quiet.settings import Setting

SNAPSHOT_VERSION = 1


class Owner(StrEnum):
    """Who holds a host's settings; each has a snapshot of its own, the run's above the other."""

    RUN = "run"
    """One run, as long as it lasts; found at a start, it is of a run that was killed."""
    HAND = "hand"
    """``harness tune``, until ``harness tune --restore``: runs leave it alone."""


class Fate(StrEnum):
    """What becomes of one change when it is put back."""

    PUT_BACK = "put back"
    AS_BEFORE = "as before"
    FOREIGN = "changed by somebody else"
    """It has neither value of the snapshot: it is left alone, and named."""
    GONE = "not there any more"


@dataclass(frozen=True, slots=True)
class Change:
    """One value changed.

    Attributes:
        setting: its name in the table.
        path: of the file; or of the service.
        before: its value, to be put back.
        during: what it was set to.
    """

    setting: str
    path: str
    before: str
    during: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What has to be put back.

    Attributes:
        version: of this format.
        owner: who holds the settings.
        id: of this one, so that a guard puts back its own run's only.
        boot: the host's boot it was made in: after another one the values are the system's own again.
        made: when, ISO 8601 in UTC.
        changes: in the order in which they were made.
    """

    version: int
    owner: Owner
    id: str
    boot: str
    made: str
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What tuning would do.

    Attributes:
        changes: to be made.
        absent: what this host does not have, by its tuning's name.
    """

    changes: tuple[Change, ...] = ()
    absent: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Restored:
    """What putting back did.

    Attributes:
        fates: what became of each change.
        snapshot: what was put back; None when none was waiting.
        stale: whether it was of an earlier boot, and so was only forgotten.
    """

    snapshot: Snapshot | None = None
    fates: Mapping[Change, Fate] = field(default_factory=dict)
    stale: bool = False

    def with_fate(self, fate: Fate) -> list[Change]:
        """Return the changes that met a fate."""
        return [change for change, met in self.fates.items() if met is fate]


def plan_changes(settings: Iterable[Setting], values: Mapping[str, Mapping[str, str]]) -> Plan:
    """Return what has to be changed so that settings are quiet.

    Args:
        settings: those that may be changed.
        values: a setting's name -> path -> its value; without the paths that this host does not have.
    """
    changes: list[Change] = []
    here: dict[str, bool] = {}
    for setting in settings:
        target, found = setting.target, values.get(setting.name, {})
        if target is None or setting.tuning is None:
            continue
        # Turbo has two names, of which a host has one at most.
        here[setting.tuning] = here.get(setting.tuning, False) or bool(found)
        changes += [
            Change(setting.name, path, value, target)
            for path, raw in found.items()
            if not setting.is_quiet(value := chosen(raw))
        ]
    return Plan(tuple(changes), tuple(name for name, there in here.items() if not there))


def merged(held: Snapshot, changes: Iterable[Change]) -> Snapshot:
    """Return a snapshot that holds further changes too: what was before the first one stays before."""
    every = {change.path: change for change in held.changes}
    for change in changes:
        first = every.get(change.path)
        every[change.path] = replace(change, before=first.before) if first else change
    return replace(held, changes=tuple(every.values()))


def fate_of(change: Change, now: str | None) -> Fate:
    """Return what to do with a change.

    Args:
        change: as the snapshot has it.
        now: the value at the moment; None when it cannot be read.
    """
    if now is None:
        return Fate.GONE
    if chosen(now) == change.during:
        return Fate.PUT_BACK if change.before != change.during else Fate.AS_BEFORE
    return Fate.AS_BEFORE if chosen(now) == change.before else Fate.FOREIGN
