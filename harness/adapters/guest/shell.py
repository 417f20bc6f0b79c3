"""The way into a guest, whichever it is: by the guest agent, or by SSH."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.core.protocols import Execution

MAX_OUTPUT_BYTES = 16 * 2**20
"""What a guest may send as one answer: fio's JSON is a thousandth of it."""


class GuestShell(Protocol):
    """Runs programs in a guest, one at a time, as root."""

    def wait_ready(self, timeout: float) -> bool:
        """Wait for the guest's first answer; return False when it did not come in time.

        Raises:
            GuestError: it never will, or the guest died.
            Interrupted: the user stopped the run.
        """

    def why_silent(self) -> tuple[str, str]:
        """Return why no answer came, as far as that is known, and what to do about it."""

    def run(self, argv: Sequence[str], *, stdin: str = "", due: float = 0.0, grace: float) -> Execution:
        """Run a program to its end; the guest is left alone until it is due to end.

        Args:
            argv: the program, by absolute path, and its arguments.
            stdin: what it reads.
            due: seconds it is known to take.
            grace: seconds beyond ``due`` after which it counts as hung.

        Raises:
            GuestError: it hung, or the guest died or stopped answering.
            Interrupted: the user stopped the run.
        """
