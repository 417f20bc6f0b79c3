"""Where things are kept on this host: the state directory and what is below it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from harness.adapters.files import PASSABLE, PRIVATE, make_directory
from harness.adapters.scratch import place_for_sockets
from harness.adapters.short_paths import LONGEST_SOCKET, bytes_of, temporary_directory
from harness.core.errors import InputError, Problem

_SYSTEM_STATE = Path("/var/lib/qemu-ab-harness")
_PASSABLE = ("builds", "disks", "guest", "images", "lv", "trees")
_PRIVATE = (
    "apt", "ccache", "experiments", "manifests", "nights", "probe", "runs", "snapshot", "sources", "tools",
)  # fmt: skip
_PRIVATE_FILES = ("accel.json", "experience.json", "history.duckdb", "history.duckdb.wal")
_OPEN = ("harness",)
"""The harness itself, where a playbook installed it: there is nothing in it that others may not read."""

NO_CACHE = "HARNESS_NO_CACHE"
"""The environment variable that keeps what was read of raw files from being kept, or read again."""

_LONGEST_EMBED_ROOT = LONGEST_SOCKET - len(
    "/lib/qemu/channel/target/domain-NNNN-qemu-ab-TWELVE-BYTES/org.qemu.guest_agent.0"
)
"""Bytes: libvirt puts the agent's UNIX socket below it, in a directory with 20 bytes of the domain's name."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """The state directory: builds, guest images, disks, and what was found out about the host."""

    state: Path

    @classmethod
    def at(cls, state: Path | None = None) -> Workspace:
        """Return the workspace in a directory, or in the user's own."""
        return cls((state or default_state_directory()).absolute())

    @property
    def embed_root(self) -> Path:
        """The directory of the embedded libvirt driver.

        Below the state directory, or, where the sockets' paths would become too long, in the user's
        runtime directory or that for temporary files: nothing in it has to outlive a boot of the host.

        Raises:
            InputError: there is no directory with a path that is short enough.
        """
        inside = self.state / "lv"
        if bytes_of(inside) <= _LONGEST_EMBED_ROOT:
            return inside
        mark = hashlib.sha256(os.fsencode(self.state)).hexdigest()[:6]
        runtime = os.environ.get("XDG_RUNTIME_DIR")
        if runtime and bytes_of(f"{runtime}/ab-{mark}") <= _LONGEST_EMBED_ROOT and Path(runtime).is_dir():
            return Path(runtime) / f"ab-{mark}"
        name = f"ab-{os.geteuid()}-{mark}"
        try:
            return temporary_directory(_LONGEST_EMBED_ROOT - bytes_of(f"/{name}")) / name
        except InputError as error:
            over = bytes_of(inside) - _LONGEST_EMBED_ROOT
            found = Problem(
                str(self.state),
                f"is {over} bytes too long for libvirt's UNIX sockets below it",
                f"name one of at most {bytes_of(self.state) - over} bytes (--state-dir), or as below",
            )
            raise InputError([found, *error.problems]) from error

    def check_sockets(self) -> None:
        """Refuse, before anything is started, directories whose paths are too long for UNIX sockets.

        Raises:
            InputError: there is none that is short enough; says by how much, and what to name instead.
        """
        _root, _scratch = self.embed_root, place_for_sockets()

    @property
    def accel_cache(self) -> Path:
        """Where the host's accelerator is remembered."""
        return self.state / "accel.json"

    @property
    def experience(self) -> Path:
        """Where is kept what runs on this host cost and how much their sessions differed."""
        return self.state / "experience.json"

    @property
    def history(self) -> Path:
        """Where finished runs are filed."""
        return self.state / "history.duckdb"

    @property
    def disks(self) -> Path:
        """Where disk images are made."""
        return self.state / "disks"

    @property
    def images(self) -> Path:
        """Where guest images are kept."""
        return self.state / "images"

    @property
    def guest(self) -> Path:
        """Where the disks of the guest are that runs now; whatever is there outside of a run is left over."""
        return self.state / "guest"

    def secure(self) -> None:
        """Make the state directory, or close what lies in one that is there to other users of this host.

        What QEMU's user has to reach stays passable, everything else is this user's own. Names that are not
        the harness's, and what belongs to others, are left as they are.

        Raises:
            HarnessError: it cannot be made.
        """
        make_directory(self.state, PASSABLE)
        wanted = dict.fromkeys(_PASSABLE, PASSABLE) | dict.fromkeys(_PRIVATE, PRIVATE)
        wanted |= dict.fromkeys(_PRIVATE_FILES, 0o600)
        for name, mode in wanted.items():
            _close(self.state / name, mode)
        # A directory that also serves for something else is not the harness's to close.
        if all(entry.name in {*wanted, *_OPEN} for entry in self.state.iterdir()):
            _close(self.state, PASSABLE)

    def manifest(self, experiment_name: str) -> Path:
        """Where provisioning says what it made for an experiment."""
        return self.state / "manifests" / f"{experiment_name}.json"


def _close(path: Path, mode: int) -> None:
    """Take from a file or directory the permissions beyond a mode; never add any."""
    with contextlib.suppress(FileNotFoundError):
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode) or status.st_uid != os.geteuid():
            return
        found = stat.S_IMODE(status.st_mode)
        if found & ~mode:
            path.chmod(found & mode)


def default_state_directory() -> Path:
    """Return HARNESS_STATE_DIR, or /var/lib for root, or the user's own state directory."""
    if chosen := os.environ.get("HARNESS_STATE_DIR"):
        return Path(chosen)
    if os.geteuid() == 0:
        return _SYSTEM_STATE
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "qemu-ab-harness"


def cache_directory() -> Path:
    """Return where is kept what can be made again at any time: below XDG_CACHE_HOME, else below ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # By the specification a relative one is to be ignored.
    return (Path(base) if base.startswith("/") else Path("~/.cache").expanduser()) / "qemu-ab-harness"
