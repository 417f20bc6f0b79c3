"""strace: runs a command so that some of its system calls are counted, at nearly its own speed."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.adapters import process
from harness.core.counting.strace import MAPPING_CALLS, StraceFormatError, parse_summary
from harness.core.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.adapters.guestless.callgrind import Counted

_OUTPUT = "strace.out"


@dataclass(frozen=True, slots=True)
class Strace:
    """The strace of this host.

    Attributes:
        program: its path.
        version: what it says of itself.
    """

    program: str
    version: str

    @classmethod
    def find(cls) -> Strace | None:
        """Return the host's strace; None when there is none."""
        program = shutil.which("strace")
        if program is None:
            return None
        said = process.run([program, "--version"], timeout=60).stdout.splitlines()
        return cls(program, said[0].strip() if said else "strace")

    def command(self, argv: Sequence[str], directory: Path) -> list[str]:
        """Return the command that counts another one's calls, with its output in a directory."""
        return [
            self.program,
            # The command is what is started, and strace its grandchild: signals go where they belong.
            "-D",
            "-f",
            "-c",
            "-o",
            str(directory / _OUTPUT),
            "-e",
            f"trace={','.join(MAPPING_CALLS)}",
            "--",
            *argv,
        ]


def read_calls(counted: Counted, directory: Path) -> dict[str, int]:
    """Return how often each call was made by a process that has ended: strace writes a moment later.

    Raises:
        HarnessError: it does not come.
        Interrupted: the user stopped the run.
    """
    found: dict[str, int] = {}

    def written() -> bool:
        with contextlib.suppress(OSError, StraceFormatError):
            found.update(parse_summary((directory / _OUTPUT).read_text(errors="replace")))
        return bool(found)

    counted.linger(written)
    if not found:
        raise HarnessError(
            "strace counted nothing: it may not look into processes here",
            remedy="allow ptrace (sysctl kernel.yama.ptrace_scope=1, or CAP_SYS_PTRACE in a container)",
        )
    return found
