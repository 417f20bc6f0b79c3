"""The host's settings, read and written: files of /proc and /sys, and services of systemd.

What is not there, or may not be read, is None. Everything is looked for below a root directory, so that what
this machine lacks can be tried on a made-up one.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.adapters import process
from harness.core.errors import HarnessError
from harness.core.quiet.settings import DEEP_IDLE_US, SERVICE, SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from harness.core.quiet.drift import Values
    from harness.core.quiet.settings import Setting

_CPU = re.compile(r"/(cpu[0-9]+)/")
_STATE = re.compile(r"/(state[0-9]+)/")
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_CGROUPS = ("/sys/fs/cgroup", "/sys/fs/cgroup/systemd")
_SYSTEMD = "/run/systemd/system"
_LONGEST = 65536
_SYSTEMCTL_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class HostSettings:
    """The settings of this host, or of a made-up one.

    Attributes:
        root: what stands for ``/``.
    """

    root: Path = Path("/")
    _found: dict[str, dict[str, str]] = field(default_factory=dict, compare=False)

    def places(self, setting: Setting) -> dict[str, str]:
        """Return where a setting is: its place in words (``cpu3``, or empty) -> its path on the host."""
        if not any(char in setting.path for char in "*["):
            there = setting.path.startswith(SERVICE) or self._at(setting.path).exists()
            return {"": setting.path} if there else {}
        if setting.name not in self._found:
            # Looked for once: with hundreds of CPUs that takes longer than reading them.
            paths = sorted(self._matches(setting), key=_natural)
            wanted = [path for path in paths if not setting.deep_only or _is_deep(path)]
            self._found[setting.name] = {_label(path): f"/{path.relative_to(self.root)}" for path in wanted}
        return self._found[setting.name]

    def only_shallow(self, setting: Setting) -> bool:
        """Return whether a host has idle states, and none that takes long to leave."""
        return setting.deep_only and not self.places(setting) and any(self._matches(setting))

    def values(self, settings: Iterable[Setting] = SETTINGS) -> Values:
        """Return every setting: its name -> place -> value; without the places that this host lacks."""
        return {
            setting.name: {place: self.read(path) for place, path in self.places(setting).items()}
            for setting in settings
        }

    def by_path(self, settings: Iterable[Setting]) -> dict[str, dict[str, str]]:
        """Return the settings that can be read: a name -> path -> value."""
        return {
            setting.name: {
                path: value
                for path in self.places(setting).values()
                if (value := self.read(path)) is not None
            }
            for setting in settings
        }

    def read(self, path: str) -> str | None:
        """Return the value at a path; None when it cannot be read."""
        if path.startswith(SERVICE):
            return "inactive" if self.service_pid(path.removeprefix(SERVICE)) is None else "active"
        try:
            # Without pathlib and io: hosts have hundreds of these files, read beside a measurement.
            descriptor = os.open(f"{self.root}{path}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                return os.read(descriptor, _LONGEST).decode().strip()
            finally:
                os.close(descriptor)
        except (OSError, UnicodeDecodeError):
            return None

    def writable(self, path: str) -> bool:
        """Return whether this user could write it."""
        if path.startswith(SERVICE):
            return os.geteuid() == 0 and self._at(_SYSTEMD).is_dir()
        return os.access(self._at(path), os.W_OK)

    def write(self, path: str, value: str) -> None:
        """Set a value.

        Raises:
            HarnessError: the system refused it.
        """
        if path.startswith(SERVICE):
            verb = "start" if value == "active" else "stop"
            argv = ["systemctl", verb, path.removeprefix(SERVICE)]
            process.run(argv, timeout=_SYSTEMCTL_SECONDS)
            return
        try:
            # In one write, and never made: what is not there is not this kernel's.
            descriptor = os.open(self._at(path), os.O_WRONLY | os.O_TRUNC)
            try:
                os.write(descriptor, value.encode())
            finally:
                os.close(descriptor)
        except OSError as error:
            raise HarnessError(f"cannot write {value} to {path}: {error.strerror}") from error

    def boot_id(self) -> str:
        """Return what names this boot of the host; empty when it cannot be read."""
        return self.read(_BOOT_ID) or ""

    def service_pid(self, name: str) -> int | None:
        """Return the process of a daemon; None when it does not run.

        systemd is not asked: it may take long, or not be there.
        """
        # irqbalance leaves a socket named by its process: /run/irqbalance/irqbalance123.sock.
        for socket in self._at(f"/run/{name}").glob(f"{name}*.sock"):
            pid = socket.stem.removeprefix(name)
            if pid.isdecimal() and self.read(f"/proc/{pid}/comm") == name:
                return int(pid)
        for hierarchy in _CGROUPS:
            processes = self.read(f"{hierarchy}/system.slice/{name}.service/cgroup.procs")
            if processes:
                return int(processes.split()[0])
        return None

    def service_variable(self, name: str, variable: str) -> str | None:
        """Return a variable that a daemon was started with; None when it has none, or it may not be read."""
        pid = self.service_pid(name)
        for entry in (self.read(f"/proc/{pid}/environ") or "").split("\0"):
            key, _equals, value = entry.partition("=")
            if key == variable:
                return value
        return None

    def _matches(self, setting: Setting) -> Iterator[Path]:
        return self.root.glob(setting.path.lstrip("/"))

    def _at(self, path: str) -> Path:
        return self.root / path.lstrip("/")


def _is_deep(path: Path) -> bool:
    try:
        return int((path.parent / "latency").read_text()) > DEEP_IDLE_US
    except (OSError, ValueError):
        return False


def _label(path: Path) -> str:
    found = [part[1] for pattern in (_CPU, _STATE) if (part := pattern.search(str(path)))]
    return "/".join(found)


def _natural(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"[0-9]+", str(path))]
