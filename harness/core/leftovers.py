"""What a run that was killed leaves behind, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class LeftoverKind(StrEnum):
    """What is left; in the order in which it is taken away."""

    SETTING = "setting"
    """A host setting that was changed and not put back."""
    GUEST = "guest"
    """A domain that libvirt keeps, with its QEMU."""
    PROCESS = "process"
    """A QEMU that no libvirt knows any more, or what a playbook started."""
    DIRECTORY = "directory"
    """Scratch directories, the disks of a guest, libvirt's directories of a guest."""
    FILE = "file"
    """Half-written files, disk images half made, logs of guests."""
    BUILD = "build"
    """A build that did not end."""


class LeftoverFate(StrEnum):
    """What became of it."""

    REMOVED = "removed"
    LISTED = "would be removed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Leftover:
    """One thing left behind.

    Attributes:
        name: a path, a domain's name, or a process with its command.
        fate: what became of it.
        note: what else there is to say: why it could not be taken away.
    """

    kind: LeftoverKind
    name: str
    fate: LeftoverFate
    note: str = ""


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What a cleaning did, or would do.

    Attributes:
        leftovers: in the order in which they were met.
        alive: what was left alone because somebody works there, or may not be looked into, a sentence each.
    """

    leftovers: tuple[Leftover, ...]
    alive: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether something could not be taken away."""
        return any(one.fate is LeftoverFate.FAILED for one in self.leftovers)

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        found = [
            {"kind": one.kind.value, "name": one.name, "fate": one.fate.value, "note": one.note}
            for one in self.leftovers
        ]
        return {"leftovers": found, "alive": list(self.alive)}

    def lines(self) -> Iterator[str]:
        """Return it for people, as a table."""
        if self.leftovers:
            yield from _table([(one.kind, one.fate, one.name, one.note) for one in self.leftovers])
        yield from (f"left alone: {sentence}" for sentence in self.alive)
        if not self.leftovers:
            yield "nothing is left behind"


def _table(rows: Sequence[tuple[str, str, str, str]]) -> Iterator[str]:
    shown = [("KIND", "FATE", "WHAT", ""), *rows]
    kind, fate = (max(len(row[column]) for row in shown) for column in range(2))
    for row in shown:
        note = f": {row[3]}" if row[3] else ""
        yield f"{row[0]:<{kind}}  {row[1]:<{fate}}  {row[2]}{note}"
