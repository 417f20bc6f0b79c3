"""A running QEMU process as /proc shows it."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.adapters.files import sha256_of
from harness.adapters.libraries import shared_libraries
from harness.core.errors import GuestError, HarnessError
from harness.core.mappings import Mappings, count_mappings
from harness.core.qemu_log import last_words
from harness.core.records import CrashRecord
from harness.core.redaction import redacted_argv

_KEPT_LINES = 20

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.core.model import BuildRecord


def emulator_facts(pid: int | None, build: BuildRecord) -> dict[str, Any]:
    """Return pid, hash, command line (without secrets) and shared libraries of the running emulator.

    Raises:
        GuestError: it ended as soon as it was started.
        HarnessError: what runs is not the build that was asked for, or may not be looked at.
    """
    if pid is None:
        return {"emulator": "on another host: not looked at"}
    exe = f"/proc/{pid}/exe"
    try:
        sha256, argv = sha256_of(exe), Path(f"/proc/{pid}/cmdline").read_bytes()
        path = str(Path(exe).readlink())
    except PermissionError as error:
        raise HarnessError(
            f"{exe} may not be read by this user, so that nobody knows which QEMU runs",
            remedy="run as root, or with libvirt: qemu:///embed, whose QEMU is this user's own",
        ) from error
    except OSError as error:
        raise GuestError(f"the guest on {build.name} ended as soon as it was started") from error
    if sha256 != build.sha256:
        raise HarnessError(
            f"{build.name} should run {build.binary} ({build.sha256[:12]}), but {path} ({sha256[:12]}) runs",
            remedy="the binary changed since it was provisioned: run `harness provision` again",
        )
    return {
        "pid": pid,
        "exe": path,
        "sha256": sha256,
        "argv": redacted_argv(argv.decode(errors="replace").rstrip("\0").split("\0")),
        "libraries": shared_libraries(pid),
    }


def crash_record(
    status: int | None,
    said: Sequence[str],
    *,
    mappings: Mappings | None,
    console: tuple[str, ...] = (),
    qemu_failed: bool = True,
) -> CrashRecord:
    """Return how a QEMU process came to end by itself.

    Args:
        status: its exit code, or minus its signal; None when nobody saw it.
        said: the lines of its error output.
        mappings: its mappings as last seen alive.
        console: the last lines of the guest's console.
        qemu_failed: whether its end was a failure.
    """
    return CrashRecord(
        signal=None if status is None or status >= 0 else _signal_name(-status),
        exit_code=None if status is None or status < 0 else status,
        message=last_words(said),
        stderr=tuple(said[-_KEPT_LINES:]),
        console=console,
        mappings=mappings,
        qemu_failed=qemu_failed,
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class MappingsProbe:
    """Counts the mappings of one QEMU process, and remembers what it last saw.

    Args:
        pid: the process; None when it is on another host, and nothing can be seen.
    """

    def __init__(self, pid: int | None) -> None:
        self._maps = None if pid is None else Path(f"/proc/{pid}/maps")
        self.last: Mappings | None = None
        self.hidden: str | None = "QEMU runs on another host" if pid is None else None

    def look(self) -> Mappings | None:
        """Return the mappings now; None when the process is gone or they may not be read (see ``hidden``)."""
        if self._maps is None:
            return None
        try:
            found = count_mappings(self._maps.read_bytes())
        except PermissionError:
            # Another user's process; or a kernel that shows nobody else's (hidepid, a security module).
            self.hidden = f"{self._maps} may not be read by this user"
            return None
        except OSError:
            return None
        # A process that is just ending has none left.
        if found.vmas:
            self.last = found
        return found if found.vmas else None
