"""The world of a campaign of faults: builds with a door into their guests, and places that can be spoilt."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tiny import NAME, TINY

from harness.adapters.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator

MARK = "HARNESS_FAULTS"
"""The environment variable by which everything that a trial started is known."""

CELLS = 2
EXPERIMENT = TINY.replace("iodepth: 8", "iodepth: [1, 8]").replace("runtime: 1s", "runtime: 500ms")
EXPERIMENT += "accel: tcg\ntimeouts: {boot: %ds, fio_grace: %ds, agent: %ds}\n"

_INIT = Path(__file__).parents[2] / "playbooks/roles/guest_image/files/init"
_DOOR = """\
exec 7<>/dev/virtio-ports/door
(while :; do while read -r line; do echo taken >&7; sh -c "$line"; done; sleep 1; done) <&7 &

# The shell reaps"""
_PRELOADED = Path(__file__).with_name("fault_preloaded.c")
_LAUNCHER = """\
#!/bin/sh
# QEMU as it is, with a further channel into the guest; what is preloaded into the harness is not for it.
unset LD_PRELOAD
case " $*" in
    *" guest=qemu-ab-"*)
        set -- "$@" -chardev socket,id=door,path={door},server=on,wait=off \\
            -device '{{"driver": "virtserialport", "bus": "virtio-serial0.0", "nr": 7, "chardev": "door",
                       "name": "door"}}' ;;
esac
exec {emulator} "$@"
"""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast this host is at the moment: what it is doing beside, a campaign cannot choose.

    Attributes:
        run_seconds: that an undisturbed run takes.
        boot_seconds: that a boot takes.
    """

    run_seconds: float
    boot_seconds: float

    @property
    def experiment(self) -> str:
        """The experiment, with time-outs that a frozen guest reaches soon, and a healthy one never."""
        # What else the host does may become more meanwhile.
        slow = max(30, 4 * self.boot_seconds)
        return EXPERIMENT % (slow, slow, max(5, self.boot_seconds))


UNKNOWN = Pace(run_seconds=60, boot_seconds=75)
"""Before anything was measured: time-outs that are never reached."""


@dataclass(slots=True)
class World:
    """What the trials of a campaign share.

    Attributes:
        place: a directory with a short path that QEMU's user may enter.
        pace: how fast this host is, as far as is known.
    """

    place: Path
    pace: Pace = UNKNOWN

    def learn(self, pace: Pace) -> None:
        """Go by another pace from now on."""
        self.pace = pace
        self.experiment.write_text(pace.experiment)

    @property
    def preloaded(self) -> Path:
        """The library that makes a disk slow, or sets the wall clock back, while a file exists."""
        return self.place / "preloaded.so"

    @property
    def state(self) -> Path:
        """The state directory."""
        return self.place / "st"

    @property
    def experiment(self) -> Path:
        """The experiment file."""
        return self.place / f"{NAME}.yml"

    @property
    def door(self) -> Path:
        """The socket behind which a shell of the running guest listens."""
        return self.place / "door" / "door"

    def in_guest(self, command: str) -> None:
        """Have a line done by a shell of the guest, soon."""
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(5)
            door.connect(str(self.door))
            door.sendall(command.encode() + b"\n")
            # The guest says that it has taken it; or it is dead already.
            with contextlib.suppress(TimeoutError, ConnectionError):
                door.recv(1)


@contextlib.contextmanager
def world(manifest: Path) -> Iterator[World]:
    """Make the world, from what was provisioned; it is gone when the ``with`` block is left."""
    assert os.geteuid() == 0, "disks that fill or become read-only are mounted for it: run as root"
    place = Path(tempfile.mkdtemp(prefix="abf-"))
    place.chmod(0o755)
    try:
        made = World(place)
        subprocess.run(
            ["gcc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", made.preloaded, _PRELOADED, "-ldl"],
            check=True,
        )
        made.door.parent.mkdir()
        made.door.parent.chmod(0o777)
        made.learn(UNKNOWN)
        record = json.loads(manifest.read_text())
        for name, build in record["builds"].items():
            build["emulator"] = str(_launcher(made, name, build["emulator"]))
        record["guest_image"]["initrd"] = str(_initrd(place, Path(record["guest_image"]["initrd"])))
        ours = Workspace.at(made.state).manifest(NAME)
        ours.parent.mkdir(parents=True)
        ours.write_text(json.dumps(record))
        yield made
    finally:
        shutil.rmtree(place)


def _launcher(made: World, name: str, emulator: str) -> Path:
    path = made.place / f"qemu-{name}"
    path.write_text(_LAUNCHER.format(door=made.door, emulator=emulator))
    path.chmod(0o755)
    return path


def _initrd(place: Path, original: Path) -> Path:
    """Return a copy of the guest whose /init opens the door."""
    init, marker = _INIT.read_text(), "# The shell reaps"
    assert init.count(marker) == 1
    (place / "init").write_text(init.replace(marker, _DOOR))
    (place / "init").chmod(0o755)
    # The kernel unpacks one archive after the other: the last /init is the one that runs.
    archive = subprocess.run(
        ["cpio", "--quiet", "-o", "-H", "newc"], input=b"init\n", cwd=place, capture_output=True, check=True
    ).stdout
    copy = place / "initramfs.cpio"
    copy.write_bytes(original.read_bytes() + archive)
    return copy


@dataclass(slots=True)
class Disk:
    """A small file system for one run directory, which can be filled and made read-only."""

    path: Path

    @property
    def protected(self) -> Path:
        """Where the same is read-only from the beginning: it has to become so for the run in one step."""
        return self.path.with_suffix(".protected")

    @property
    def run(self) -> Path:
        """The run directory."""
        return self.path / "run"

    def fill(self) -> None:
        """Leave no byte free."""
        with (self.path / "filler").open("wb", buffering=0) as stream, contextlib.suppress(OSError):
            while stream.write(b"x" * 4096):
                pass

    def protect(self) -> None:
        """Let nobody open a file for writing any more; who has one open goes on, as on a real disk."""
        _mount("--bind", self.protected, self.path)

    def mend(self) -> None:
        """Make it as before."""
        while not self.writable():
            _unmount(self.path)
        (self.path / "filler").unlink(missing_ok=True)

    def writable(self) -> bool:
        """Return whether files can be made."""
        return not os.statvfs(self.path).f_flag & os.ST_RDONLY


@contextlib.contextmanager
def disk(path: Path) -> Iterator[Disk]:
    """Make a disk of a few MiB, until the ``with`` block is left."""
    made = Disk(path)
    with contextlib.ExitStack() as undo:
        for directory in (path, made.protected):
            directory.mkdir()
            undo.callback(directory.rmdir)
        _mount("-t", "tmpfs", "-o", "size=6m,mode=755", "none", path)
        undo.callback(_unmount, path)
        _mount("--bind", path, made.protected)
        undo.callback(_unmount, made.protected)
        _mount("-o", "remount,bind,ro", made.protected)
        undo.callback(made.mend)
        yield made


def _mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *arguments], check=True)


def _unmount(path: Path) -> None:
    subprocess.run(["umount", "--lazy", path], check=True)
