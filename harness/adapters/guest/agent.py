"""Into the guest, through the QEMU guest agent: no network, no keys."""

from __future__ import annotations

import base64
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from harness.adapters.files import printable_lines
from harness.adapters.guest.shell import MAX_OUTPUT_BYTES
from harness.core.errors import GuestError, HypervisorError
from harness.core.protocols import Execution

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.adapters.hypervisor import Domain
    from harness.adapters.waiting import Waiter

_POLL_SECONDS = 0.05
_MOST_POLL_SECONDS = 1.0
_NO_AGENT = (
    "a slow host may need more: set timeouts.boot in the experiment; in a disk image of your own, "
    "qemu-guest-agent has to be installed and started at boot"
)
NEWS_SECONDS = 5.0
"""For libvirt to tell that a guest is dead, after its agent's socket has closed: QEMU's mappings go first."""


class AgentConnection:
    """Runs programs in a guest whose agent answers.

    Args:
        domain: the running guest.
        waiter: ends waits early when the guest stops or the user interrupts.
        answer_timeout: seconds the agent may take to answer one command.
    """

    def __init__(self, domain: Domain, waiter: Waiter, answer_timeout: float) -> None:
        self._domain = domain
        self._waiter = waiter
        self._answer_timeout = answer_timeout

    def wait_ready(self, timeout: float) -> bool:
        """Wait for the agent's first answer; return False when it did not come in time."""
        deadline = time.monotonic() + timeout
        if not self._waiter.until(self._domain.agent_connected.is_set, timeout):
            return False
        try:
            self._domain.agent({"execute": "guest-ping"}, max(1.0, deadline - time.monotonic()))
        except HypervisorError:
            self._waiter.sleep(NEWS_SECONDS)
            return False
        return True

    def why_silent(self) -> tuple[str, str]:
        """Return why no answer came, as far as that is known, and what to do about it."""
        return "its agent did not answer", _NO_AGENT

    def run(self, argv: Sequence[str], *, stdin: str = "", due: float = 0.0, grace: float) -> Execution:
        """Run a program to its end.

        The guest is left alone until the program is due to end; only then is the agent asked.

        Args:
            argv: the program, by absolute path, and its arguments.
            stdin: what it reads.
            due: seconds it is known to take.
            grace: seconds beyond ``due`` after which it counts as hung.

        Raises:
            GuestError: it hung, or the guest died or stopped answering.
            Interrupted: the user stopped the run.
        """
        started, clock = datetime.now(UTC), time.monotonic()
        command: dict[str, Any] = {
            "path": argv[0],
            "arg": list(argv[1:]),
            "input-data": base64.b64encode(stdin.encode()).decode(),
            "capture-output": True,
        }
        pid = self._command("guest-exec", command)["pid"]
        self._waiter.sleep(due)
        status = self._await_exit(pid, grace, argv)
        return Execution(
            exit_code=_exit_code(status),
            stdout=_decode(status, "out-data"),
            stderr=_decode(status, "err-data"),
            started=started,
            seconds=time.monotonic() - clock,
        )

    def _await_exit(self, pid: int, grace: float, argv: Sequence[str]) -> dict[str, Any]:
        began = time.monotonic()
        deadline = began + grace
        while True:
            status: dict[str, Any] = self._command("guest-exec-status", {"pid": pid})
            if status["exited"]:
                return status
            if time.monotonic() > deadline:
                raise GuestError(
                    f"{argv[0]} in the guest did not end within {grace:.0f} s of when it was due"
                )
            # Seldom, the longer it takes: a guest that still boots has better things to do than to answer.
            waited = time.monotonic() - began
            self._waiter.sleep(min(max(_POLL_SECONDS, waited / 20), _MOST_POLL_SECONDS))

    def _command(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = self._domain.agent(
                {"execute": name, "arguments": arguments}, self._answer_timeout
            )
        except HypervisorError as error:
            # A guest that died is the better explanation of an agent that does not answer. One that forbids
            # something is alive.
            remedy = _remedy(error.message)
            self._waiter.sleep(0 if remedy else NEWS_SECONDS)
            raise GuestError(printable_lines(error.message), remedy=remedy) from error
        return answer


_FORBIDDEN = ("disabled", "not allowed", "has not been found", "CommandNotFound")


def _remedy(message: str) -> str | None:
    if any(words in message for words in _FORBIDDEN):
        return (
            "this guest's agent forbids it, as RHEL's does by default: write `connection: ssh`, or allow "
            "guest-exec and guest-exec-status in the guest (/etc/sysconfig/qemu-ga, /etc/qemu/qemu-ga.conf)"
        )
    return None


def _exit_code(status: dict[str, Any]) -> int:
    return int(status["exitcode"]) if "exitcode" in status else 128 + int(status.get("signal", 0))


def _decode(status: dict[str, Any], key: str) -> str:
    if status.get(key.replace("data", "truncated")):
        raise GuestError(f"the guest sent more than the agent passes on ({key})")
    data = base64.b64decode(status.get(key, ""))
    if len(data) > MAX_OUTPUT_BYTES:
        raise GuestError(f"the guest sent {len(data)} bytes where fio's JSON was expected")
    return data.decode(errors="replace")
