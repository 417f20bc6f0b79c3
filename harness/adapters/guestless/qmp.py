"""QEMU's monitor (QMP) over a socket: one command, one answer.

The library for it (qemu.qmp) wants an event loop of its own, for what is thirty lines here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from harness.adapters.guestless.qtest import ConnectionLostError
from harness.core.errors import HarnessError

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

_ANSWER_BYTES = 65536


class QmpSocket:
    """A monitor's connection, ready for commands.

    Args:
        connection: connected to QEMU's monitor in control mode; it has a time-out.

    Raises:
        HarnessError: it is no such monitor.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._rest = b""
        if "QMP" not in self._answer():
            raise HarnessError("QEMU's monitor does not greet as QMP does")
        self.execute("qmp_capabilities", {})

    def execute(self, command: str, arguments: Mapping[str, Any]) -> None:
        """Have QEMU do something.

        Raises:
            HarnessError: it refused, or did not answer.
        """
        try:
            self._connection.sendall(orjson.dumps({"execute": command, "arguments": arguments}) + b"\n")
        except OSError as error:
            raise ConnectionLostError(f"QMP {command}: {error}") from error
        answer = self._answer()
        while "event" in answer:
            answer = self._answer()
        if "return" not in answer:
            raise HarnessError(f"QEMU refused {command}: {answer.get('error', {}).get('desc', answer)}")

    def _answer(self) -> dict[str, Any]:
        try:
            while b"\n" not in self._rest:
                if not (more := self._connection.recv(_ANSWER_BYTES)):
                    raise ConnectionResetError("QEMU closed the socket")
                self._rest += more
        except TimeoutError:
            raise HarnessError("QEMU's monitor does not answer") from None
        except OSError as error:
            raise ConnectionLostError(f"QMP: {error}") from error
        line, _newline, self._rest = self._rest.partition(b"\n")
        answer: dict[str, Any] = orjson.loads(line)
        return answer
