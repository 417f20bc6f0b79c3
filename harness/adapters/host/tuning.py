"""Host settings changed for a run, and put back: by the run, or, when it is killed, by a guard it left.

A snapshot is on disk before the first change. What neither run nor guard could put back (both killed) is put
back by the next start, which finds the snapshot, or by ``harness tune --restore-run``. A machine that was
started again has its own values back: a snapshot of an earlier boot is only forgotten.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from harness.adapters import process
from harness.adapters.files import make_directory, read_json, sync_directory, write_json
from harness.adapters.host.settings import HostSettings
from harness.core.errors import HarnessError, InputError, Problem
from harness.core.quiet.settings import MAX_MAP_COUNT, SETTINGS, allowed, chosen
from harness.core.quiet.snapshot import (
    SNAPSHOT_VERSION,
    Change,
    Fate,
    Owner,
    Plan,
    Restored,
    Snapshot,
    fate_of,
    merged,
    plan_changes,
)
from harness.core.type_adapters import adapter_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from harness.core.model import Tuning

_HOST = HostSettings()

_GUARD = 'trap "" HUP INT TERM; read -r word; [ "$word" = done ] && exit 0; exec "$@"'
"""Waits for its standard input to end, which happens however the harness ends; a shell weighs nothing.

A signal to everything (a service that is stopped) is for the harness, which then puts back itself.
"""

_PUT_BACK = """\
import sys
sys.path.insert(0, sys.argv[1])
from harness.adapters.host.tuning import put_back_for
put_back_for(*sys.argv[2:])
"""


def plan(tuning: Iterable[Tuning], *, mappings: int | None = None, host: HostSettings = _HOST) -> Plan:
    """Return what would be changed for a run.

    Args:
        tuning: what the experiment allows.
        mappings: what vm.max_map_count is to be; None leaves it.
        host: whose settings.
    """
    settings = allowed(tuning)
    found = plan_changes(settings, host.by_path(settings))
    if mappings is None:
        return found
    path = next(setting.path for setting in SETTINGS if setting.name == MAX_MAP_COUNT)
    change = Change(MAX_MAP_COUNT, path, host.read(path) or "", str(mappings))
    return replace(found, changes=(*found.changes, change))


def check_allowed(wanted: Plan, *, where: str, remedy: str, host: HostSettings = _HOST) -> None:
    """Refuse, before anything is touched, what this user may not change.

    Args:
        wanted: what would be changed.
        where: what asks for it (``my.yml: tuning``).
        remedy: what else the user can do.
        host: whose settings.

    Raises:
        InputError: with a problem for each setting.
    """
    refused: dict[str, Change] = {}
    for change in wanted.changes:
        if not host.writable(change.path):
            refused.setdefault(change.setting, change)
    if refused:
        raise InputError(
            [
                Problem(where, f"{change.setting}: {change.path} cannot be changed by this user", remedy)
                for change in refused.values()
            ]
        )


@contextlib.contextmanager
def tuned(
    wanted: Plan, state: Path, *, say: Callable[[str], None] = lambda _text: None, host: HostSettings = _HOST
) -> Iterator[None]:
    """Have the host's settings changed for the duration of the ``with`` block.

    Args:
        wanted: what to change; nothing is written for an empty one.
        state: the state directory, where the snapshot waits.
        say: told what was put back, if not everything was as expected.
        host: whose settings.

    Raises:
        HarnessError: the system refused a change; what was changed before it is put back.
    """
    if not wanted.changes:
        yield
        return
    snapshot = _new_snapshot(Owner.RUN, wanted.changes, host)
    package = Path(__file__).resolve().parents[3]
    arguments = [str(package), str(state), snapshot.id, str(host.root)]
    guard = process.Guard.start(
        ["/bin/sh", "-c", _GUARD, "guard", sys.executable, "-c", _PUT_BACK, *arguments]
    )
    try:
        with _locked(state):
            _keep(state, snapshot)
        _apply(wanted.changes, host)
        yield
    finally:
        try:
            for sentence in sentences(put_back(state, Owner.RUN, host=host), expected=True):
                say(sentence)
        finally:
            guard.dismiss("done")


def hold(wanted: Plan, state: Path, *, host: HostSettings = _HOST) -> None:
    """Change the host's settings until they are put back by hand; what is held already stays so.

    Raises:
        HarnessError: the system refused a change; all that is held is put back.
    """
    if not wanted.changes:
        return
    with _locked(state):
        held = waiting(state, Owner.HAND)
        fresh = _new_snapshot(Owner.HAND, wanted.changes, host)
        _keep(state, merged(held, wanted.changes) if held and held.boot == fresh.boot else fresh)
    try:
        _apply(wanted.changes, host)
    except HarnessError:
        put_back(state, Owner.HAND, host=host)
        raise


def waiting(state: Path, owner: Owner) -> Snapshot | None:
    """Return what an owner has not put back yet; None when there is nothing.

    Raises:
        HarnessError: there is a snapshot that cannot be read.
    """
    path = _path(state, owner)
    if not path.exists():
        return None
    try:
        found = adapter_of(Snapshot).validate_python(read_json(path))
    except (InputError, ValidationError) as error:
        raise HarnessError(
            f"{path} holds what has to be put back on this host, and cannot be read",
            remedy="put back by hand what it shows, then remove it",
        ) from error
    if found.version > SNAPSHOT_VERSION:
        raise HarnessError(f"{path} is of a newer version", remedy="use a newer qemu-ab-harness")
    return found


def put_back(state: Path, owner: Owner, *, only: str | None = None, host: HostSettings = _HOST) -> Restored:
    """Put back what a snapshot holds, but what somebody else changed since; then forget the snapshot.

    Args:
        state: the state directory.
        owner: whose snapshot.
        only: the id of the one that is meant; another one is left alone.
        host: whose settings.

    Raises:
        HarnessError: the system refused one; the others are put back, and the snapshot stays.
    """
    if not _path(state, owner).exists():
        return Restored()
    with _locked(state):
        snapshot = waiting(state, owner)
        if snapshot is None or only not in {None, snapshot.id}:
            return Restored()
        if snapshot.boot != host.boot_id():
            _forget(state, owner)
            return Restored(snapshot, stale=True)
        fates: dict[Change, Fate] = {}
        failures: list[HarnessError] = []
        # Backwards: the last change first.
        for change in reversed(snapshot.changes):
            fates[change] = fate_of(change, host.read(change.path))
            if fates[change] is Fate.PUT_BACK:
                try:
                    host.write(change.path, change.before)
                except HarnessError as error:
                    failures.append(error)
        if failures:
            raise failures[0]
        _forget(state, owner)
        return Restored(snapshot, fates)


def put_back_for(state: str, snapshot_id: str, root: str) -> None:
    """Put back what a run that was killed changed; called by its guard.

    Under the snapshots' lock: if another run has begun meanwhile, it has put it back already.
    """
    put_back(Path(state), Owner.RUN, only=snapshot_id, host=HostSettings(Path(root)))


def sentences(restored: Restored, *, expected: bool = False) -> list[str]:
    """Return in words what putting back did.

    Args:
        restored: what it did.
        expected: whether it was to be expected, and only what went another way is told.
    """
    if restored.snapshot is None:
        return []
    if restored.stale:
        when = restored.snapshot.made
        return [f"a snapshot of {when} is of an earlier boot of this host: nothing to put back"]
    found = [
        f"left {change.setting} ({change.path}) alone: somebody changed it since to another value than "
        f"{change.during}; it was {change.before}"
        for change in restored.with_fate(Fate.FOREIGN)
    ]
    if expected:
        return found
    back: dict[tuple[str, str], int] = {}
    for change in restored.with_fate(Fate.PUT_BACK):
        back[change.setting, change.before] = back.get((change.setting, change.before), 0) + 1
    told = [
        f"put {name} back to {before}" + (f" in {count} places" if count > 1 else "")
        for (name, before), count in back.items()
    ]
    return told + found


def _new_snapshot(owner: Owner, changes: tuple[Change, ...], host: HostSettings) -> Snapshot:
    made = datetime.now(UTC).isoformat(timespec="seconds")
    return Snapshot(SNAPSHOT_VERSION, owner, uuid.uuid4().hex, host.boot_id(), made, changes)


def _apply(changes: Iterable[Change], host: HostSettings) -> None:
    for change in changes:
        host.write(change.path, change.during)
        now = host.read(change.path)
        if now is None or chosen(now) != change.during:
            raise HarnessError(
                f"{change.path} took {change.during} and is {now}",
                remedy=f"leave {change.setting} out of the experiment's tuning",
            )


@contextlib.contextmanager
def _locked(state: Path) -> Iterator[None]:
    """Have the snapshots alone, for the moment that changing one takes."""
    descriptor = os.open(make_directory(state / "snapshot") / ".lock", os.O_RDONLY | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _keep(state: Path, snapshot: Snapshot) -> None:
    write_json(_path(state, snapshot.owner), adapter_of(Snapshot).dump_python(snapshot, mode="json"))


def _forget(state: Path, owner: Owner) -> None:
    path = _path(state, owner)
    path.unlink(missing_ok=True)
    sync_directory(path.parent)


def _path(state: Path, owner: Owner) -> Path:
    return state / "snapshot" / f"{owner}.json"
