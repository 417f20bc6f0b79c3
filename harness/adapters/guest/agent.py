"""Into the guest, through the QEMU guest agent: no network, no keys."""

from __future__ import annotations

import base64
import binascii
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from harness.adapters.files import printable_lines
from harness.adapters.guest.lateness import Lateness
from harness.adapters.guest.shell import MAX_OUTPUT_BYTES
from harness.core.errors import GuestError, HypervisorError
from harness.core.protocols import Execution

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.adapters.domain import Domain
    from harness.adapters.waiting import Waiter

_T = TypeVar("_T")
_POLL_SECONDS = 0.02
_SOON_POLL_SECONDS = 0.005
"""Where the end is known, or nothing is measured meanwhile: asked for at 20 ms, it is seen 15 ms late."""
_MOST_POLL_SECONDS = 1.0

_NO_AGENT = (
    "a slow host may need more: set timeouts.boot in the experiment; in a disk image of your own, "
    "qemu-guest-agent has to be installed and started at boot"
)
_SHOWN = 60
_MOST_EXIT_CODE, _MOST_SIGNAL = 2**32 - 1, 127  # Windows has 32 bits
_MOST_BASE64 = -(-MAX_OUTPUT_BYTES // 3) * 4
NEWS_SECONDS = 5.0
"""For libvirt to tell that a guest is dead, after its agent's socket has closed: QEMU's mappings go first."""


class AgentConnection:
    """Runs programs in a guest whose agent answers.

    Args:
        domain: the running guest.
        waiter: ends waits early when the guest stops or the user interrupts.
        answer_timeout: seconds the agent may take to answer one command.
        lateness: what is known of programs on this build; it learns from those that run here.
    """

    def __init__(
        self, domain: Domain, waiter: Waiter, answer_timeout: float, lateness: Lateness | None = None
    ) -> None:
        self._domain = domain
        self._waiter = waiter
        self._answer_timeout = answer_timeout
        self._lateness = lateness or Lateness()

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

        The guest is left alone until the program is due to end, and for nearly as long beyond as the quickest
        of the last programs took to start and to end. Only then is the agent asked, as each answer costs the
        guest time.

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
        started_as = self._command("guest-exec", command)
        pid = _field(started_as, "pid", int)
        quiet = self._lateness.quiet_seconds if due else 0.0
        self._waiter.sleep(due + quiet)
        poll = _POLL_SECONDS if due and not quiet else _SOON_POLL_SECONDS
        status, first_look = self._await_exit(pid, grace, argv, poll)
        if due:
            self._lateness.learn(time.monotonic() - clock - due, first_look=first_look)
        return Execution(
            exit_code=_exit_code(status),
            stdout=_decode(status, "out-data"),
            stderr=_decode(status, "err-data"),
            started=started,
            seconds=time.monotonic() - clock,
        )

    def _await_exit(
        self, pid: int, grace: float, argv: Sequence[str], poll: float
    ) -> tuple[dict[str, Any], bool]:
        """Return how it ended, and whether it had when it was first asked for."""
        began = time.monotonic()
        deadline = began + grace
        first_look = True
        while True:
            status = self._command("guest-exec-status", {"pid": pid})
            if _field(status, "exited", bool):
                return status, first_look
            first_look = False
            if time.monotonic() > deadline:
                raise GuestError(
                    f"{argv[0]} in the guest did not end within {grace:.0f} s of when it was due"
                )
            # Seldom, the longer it takes: a guest that still boots has better things to do than to answer.
            waited = time.monotonic() - began
            self._waiter.sleep(min(max(poll, waited / 20), _MOST_POLL_SECONDS))

    def _command(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        try:
            answer = self._domain.agent({"execute": name, "arguments": arguments}, self._answer_timeout)
        except HypervisorError as error:
            # A guest that died is the better explanation of an agent that does not answer. One that forbids
            # something is alive.
            remedy = _remedy(error.message)
            self._waiter.sleep(0 if remedy else NEWS_SECONDS)
            raise GuestError(printable_lines(error.message), remedy=remedy) from error
        if not isinstance(answer, dict):
            raise _odd(f"answered {name} with {answer!r:.{_SHOWN}}")
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
    if "exitcode" in status:
        return _number(status, "exitcode", _MOST_EXIT_CODE)
    return 128 + _number(status, "signal", _MOST_SIGNAL) if "signal" in status else 128


def _number(status: dict[str, Any], key: str, most: int) -> int:
    value: int = _field(status, key, int)
    if not 0 <= value <= most:
        raise _odd(f"says that {key} is {value}")
    return value


def _decode(status: dict[str, Any], key: str) -> str:
    if status.get(key.replace("data", "truncated")):
        raise GuestError(f"the guest sent more than the agent passes on ({key})")
    text: str = _field(status, key, str) if key in status else ""
    if len(text) > _MOST_BASE64:
        raise GuestError(f"the guest sent more than {MAX_OUTPUT_BYTES} bytes where fio's JSON was expected")
    # Python's own strictness lets padding stand where none belongs: then something is missing before it.
    if len(text) % 4:
        raise _odd(f"sent {key} that is not base64: {len(text)} characters are no multiple of 4")
    if text.endswith("==="):
        raise _odd(f"sent {key} that is not base64: nothing is padded by three or more")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _odd(f"sent {key} that is not base64: {error}") from error
    return data.decode(errors="replace")


def _field(answer: dict[str, Any], key: str, kind: type[_T]) -> _T:
    """Return a value of an answer: whatever runs in the guest may be behind it.

    Raises:
        GuestError: it is missing, or something else.
    """
    value = answer.get(key)
    # Not isinstance: true is no process number.
    if type(value) is not kind:
        raise _odd(f"gave no {key} but {value!r:.{_SHOWN}}" if key in answer else f"gave no {key}")
    return value


def _odd(what: str) -> GuestError:
    return GuestError(
        f"the guest's agent {what}", remedy="is it qemu-guest-agent that answers there, and a whole one?"
    )
