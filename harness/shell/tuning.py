"""``harness tune``: settings held by hand, and put back."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from harness.adapters.host import tuning
from harness.adapters.host.settings import HostSettings
from harness.core.quiet.snapshot import Change, Fate, Owner, fate_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from harness.core.model import Tuning


@dataclass(frozen=True, slots=True)
class Tuned:
    """What was changed, or would be.

    Attributes:
        changes: made; of a restore, before and during are exchanged.
        absent: what this host does not have.
        notes: what else there is to say, a sentence each.
    """

    changes: tuple[Change, ...] = ()
    absent: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return it for machines; ``changed`` is what Ansible asks."""
        return {"changed": bool(self.changes), **asdict(self)}

    def lines(self, *, dry_run: bool) -> Iterator[str]:
        """Return it for people."""
        verb = "would set" if dry_run else "set"
        places: dict[tuple[str, str, str], list[str]] = defaultdict(list)
        for change in self.changes:
            places[change.setting, change.before, change.during].append(change.path)
        for (setting, before, during), paths in places.items():
            where = paths[0] + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
            yield f"{verb} {setting} from {before} to {during} ({where})"
        if self.absent:
            yield f"not on this host: {', '.join(self.absent)}"
        yield from self.notes
        if not self.changes:
            yield "nothing to change"


@dataclass(frozen=True, slots=True)
class Tuner:
    """Holds settings by hand.

    Attributes:
        state: the state directory.
        root: what stands for ``/``.
    """

    state: Path
    root: Path

    def hold(self, asked: Iterable[Tuning], source: str, *, dry_run: bool) -> Tuned:
        """Change settings until they are put back.

        Raises:
            InputError: one may not be changed by this user; nothing was touched.
            HarnessError: the system refused one; what was changed is put back.
        """
        host = HostSettings(self.root)
        notes: list[str] = []
        if not dry_run:
            # What a killed run left is not what this host was like before.
            notes = tuning.sentences(tuning.put_back(self.state, Owner.RUN, host=host))
        wanted = tuning.plan(asked, host=host)
        tuning.check_allowed(wanted, where=source, remedy="run as root, or leave it out", host=host)
        if not dry_run:
            tuning.hold(wanted, self.state, host=host)
        return Tuned(wanted.changes, wanted.absent, tuple(notes))

    def restore(self, *, dry_run: bool, run_only: bool = False) -> Tuned:
        """Put back what a killed run changed, then what is held by hand.

        Args:
            dry_run: only return what would be put back.
            run_only: leave what is held by hand as it is.

        Raises:
            HarnessError: the system refused it; the snapshot stays.
        """
        host = HostSettings(self.root)
        changes: list[Change] = []
        notes: list[str] = []
        for owner in (Owner.RUN,) if run_only else (Owner.RUN, Owner.HAND):
            if dry_run:
                snapshot = tuning.waiting(self.state, owner)
                back = [
                    change
                    for change in (snapshot.changes if snapshot and snapshot.boot == host.boot_id() else ())
                    if fate_of(change, host.read(change.path)) is Fate.PUT_BACK
                ]
            else:
                done = tuning.put_back(self.state, owner, host=host)
                back = done.with_fate(Fate.PUT_BACK)
                notes += tuning.sentences(done, expected=True)
            changes += [replace(change, before=change.during, during=change.before) for change in back]
        return Tuned(tuple(changes), notes=tuple(notes))
