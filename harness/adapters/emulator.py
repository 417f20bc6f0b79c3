"""A running QEMU process as /proc shows it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.adapters.files import sha256_of
from harness.adapters.libraries import shared_libraries
from harness.core.errors import GuestError, HarnessError
from harness.core.mappings import Mappings, count_mappings
from harness.core.redaction import redacted_argv

if TYPE_CHECKING:
    from harness.adapters.hypervisor import Domain
    from harness.core.model import BuildRecord


def emulator_facts(domain: Domain, build: BuildRecord) -> dict[str, Any]:
    """Return pid, hash, command line (without secrets) and shared libraries of the running emulator.

    Raises:
        GuestError: it ended as soon as it was started.
        HarnessError: what runs is not the build that was asked for, or may not be looked at.
    """
    if domain.pid is None:
        return {"emulator": "on another host: not looked at"}
    exe = f"/proc/{domain.pid}/exe"
    try:
        sha256, argv = sha256_of(exe), Path(f"/proc/{domain.pid}/cmdline").read_bytes()
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
        "pid": domain.pid,
        "exe": path,
        "sha256": sha256,
        "argv": redacted_argv(argv.decode(errors="replace").rstrip("\0").split("\0")),
        "libraries": shared_libraries(domain.pid),
    }


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
