"""The qtest socket of a QEMU: port and memory accesses of a driver that is no guest."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

from harness.core.counting.qtest import (
    QtestReplyError,
    Space,
    is_interrupt,
    parse_reply,
    read_command,
    write_command,
)
from harness.core.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_ANSWER_BYTES = 4096


class ConnectionLostError(HarnessError):
    """QEMU closed the socket: most likely it ended."""


class QtestSocket:
    """A connection over which QEMU does single accesses, in the order they are asked for.

    Args:
        connection: connected to QEMU's qtest character device.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._rest = b""

    def read_port(self, width: int, address: int) -> int:
        """Return ``width`` bytes of an I/O port."""
        return self._read(Space.PORT, width, address)

    def write_port(self, width: int, address: int, value: int) -> None:
        """Write ``width`` bytes to an I/O port."""
        self._ask(write_command(Space.PORT, width, address, value))

    def read_memory(self, width: int, address: int) -> int:
        """Return ``width`` bytes of physical memory."""
        return self._read(Space.MEMORY, width, address)

    def write_memory(self, width: int, address: int, value: int) -> None:
        """Write ``width`` bytes to physical memory."""
        self._ask(write_command(Space.MEMORY, width, address, value))

    def _read(self, space: Space, width: int, address: int) -> int:
        value = self._ask(read_command(space, width, address))
        if value is None:
            raise HarnessError("QEMU answered a qtest read without a value")
        return value

    def _ask(self, command: bytes) -> int | None:
        try:
            self._connection.sendall(command)
            line = self._line()
            while is_interrupt(line):
                line = self._line()
            return parse_reply(line)
        except TimeoutError:
            raise HarnessError(f"QEMU does not answer {command.decode().strip()!r}") from None
        except OSError as error:
            raise ConnectionLostError(f"qtest {command.decode().strip()!r}: {error}") from error
        except QtestReplyError as error:
            raise HarnessError(f"qtest {command.decode().strip()!r}: {error}") from error

    def _line(self) -> bytes:
        while b"\n" not in self._rest:
            more = self._connection.recv(_ANSWER_BYTES)
            if not more:
                raise ConnectionResetError("QEMU closed the socket")
            self._rest += more
        line, _newline, self._rest = self._rest.partition(b"\n")
        return line


@contextlib.contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """Listen where QEMU will connect to: it comes when it is ready, and nobody has to poll for its socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))
        server.listen(1)
        yield server


@contextlib.contextmanager
def accepted(
    server: socket.socket, until: Callable[[Callable[[], bool]], None], *, answer_seconds: float
) -> Iterator[socket.socket]:
    """Take the connection that QEMU makes once it has started.

    Args:
        server: as `listening` gives it.
        until: waits for something to become true.
        answer_seconds: how long an answer may take.
    """
    server.settimeout(0)
    found: list[socket.socket] = []

    def accept() -> bool:
        with contextlib.suppress(BlockingIOError):
            found.append(server.accept()[0])
        return bool(found)

    until(accept)
    with found[0] as connection:
        connection.settimeout(answer_seconds)
        yield connection
