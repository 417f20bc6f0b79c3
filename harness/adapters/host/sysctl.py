"""vm.max_map_count, changed for a run and put back: by the run, or, when it is killed, by a guard it left.

A machine that is switched off comes back with its own value. What neither run nor guard could put back (both
killed) is put back by the next start, which finds the snapshot.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.adapters import process
from harness.adapters.files import make_directory, read_json, write_json
from harness.adapters.host.facts import read_setting
from harness.core.errors import HarnessError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_MAP_COUNT = Path("/proc/sys/vm/max_map_count")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_GUARD = """\
read -r word
[ "$word" = done ] && exit 0
[ "$(cat "$1")" = "$2" ] && echo "$3" >"$1"
rm -f "$4"
"""
"""Waits for its standard input to end, which happens however the harness ends."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What has to be put back.

    Attributes:
        path: of the setting.
        before: its value, to be restored.
        during: what it was set to; any other value is somebody else's, and stays.
        boot: the host's boot it was set in.
    """

    path: str
    before: str
    during: str
    boot: str


@contextlib.contextmanager
def max_map_count(value: int | None, state: Path, *, setting: Path = MAX_MAP_COUNT) -> Iterator[None]:
    """Have vm.max_map_count at a value for the duration of the ``with`` block.

    Args:
        value: None leaves the host's.
        state: the state directory, where the snapshot waits.
        setting: the file that holds it.

    Raises:
        HarnessError: it may not be changed here.
    """
    if value is None:
        yield
        return
    before = read_setting(setting)
    if before is None or not os.access(setting, os.W_OK):
        raise HarnessError(
            f"{setting} cannot be changed by this user",
            remedy="run as root, or leave --max-map-count out",
        )
    snapshot = Snapshot(str(setting), before, str(value), read_setting(_BOOT_ID) or "")
    path = _path(state)
    make_directory(path.parent)
    write_json(path, asdict(snapshot))
    guard = process.Guard.start(
        ["/bin/sh", "-c", _GUARD, "guard", str(setting), str(value), before, str(path)]
    )
    try:
        _write(setting, snapshot.during)
        yield
    finally:
        restore(state)
        guard.dismiss("done")


def waiting(state: Path) -> Snapshot | None:
    """Return what an earlier run that was killed did not put back; None when there is nothing."""
    try:
        return Snapshot(**read_json(_path(state)))
    except (InputError, TypeError):
        return None


def restore(state: Path, say: Callable[[str], None] = lambda _text: None) -> None:
    """Put back what a snapshot holds, unless somebody else changed it since; then forget the snapshot."""
    snapshot = waiting(state)
    if snapshot is None:
        return
    setting, now = Path(snapshot.path), read_setting(snapshot.path)
    if now == snapshot.during and snapshot.boot == read_setting(_BOOT_ID):
        _write(setting, snapshot.before)
        say(f"put {setting} back to {snapshot.before}")
    _path(state).unlink(missing_ok=True)


def _path(state: Path) -> Path:
    return state / "snapshot" / "max_map_count.json"


def _write(setting: Path, value: str) -> None:
    try:
        setting.write_text(value)
    except OSError as error:
        raise HarnessError(f"cannot write {value} to {setting}: {error.strerror}") from error
