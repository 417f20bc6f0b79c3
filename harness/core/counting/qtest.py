"""The lines of QEMU's qtest protocol: memory and port accesses as text, one line a command and an answer.

A command names an access (``inl``, ``writew``), its address and, for writes, a value; QEMU answers ``OK``,
``OK`` with the value read, or ``FAIL`` with a reason. Lines that begin with ``IRQ`` tell of interrupts,
between answers.
"""

from __future__ import annotations

from enum import StrEnum

_VALUES = {1: 0xFF, 2: 0xFFFF, 4: 0xFFFFFFFF, 8: 0xFFFFFFFFFFFFFFFF}
_SUFFIXES = {1: "b", 2: "w", 4: "l", 8: "q"}
_SHOWN = 200


class Space(StrEnum):
    """What an access addresses."""

    PORT = "port"
    MEMORY = "memory"


_READS = {Space.PORT: "in", Space.MEMORY: "read"}
_WRITES = {Space.PORT: "out", Space.MEMORY: "write"}


class QtestReplyError(ValueError):
    """QEMU refused a command, or answered with something that is no qtest answer."""


def read_command(space: Space, width: int, address: int) -> bytes:
    """Return the line that reads ``width`` bytes (ports: 1, 2, 4; memory: also 8) at an address."""
    return f"{_READS[space]}{_suffix(space, width)} {address:#x}\n".encode()


def write_command(space: Space, width: int, address: int, value: int) -> bytes:
    """Return the line that writes a value of ``width`` bytes at an address.

    Raises:
        ValueError: the value does not fit.
    """
    suffix = _suffix(space, width)
    if not 0 <= value <= _VALUES[width]:
        raise ValueError(f"{value:#x} does not fit into {width} bytes")
    return f"{_WRITES[space]}{suffix} {address:#x} {value:#x}\n".encode()


def _suffix(space: Space, width: int) -> str:
    if width not in _SUFFIXES or (space is Space.PORT and width not in {1, 2, 4}):
        raise ValueError(f"there is no {space} access of {width} bytes")
    return _SUFFIXES[width]


def is_interrupt(line: bytes) -> bool:
    """Return whether a line tells of an interrupt instead of answering a command."""
    return line.startswith(b"IRQ ")


def parse_reply(line: bytes) -> int | None:
    """Return the value of an answer; None when it has none.

    Args:
        line: without its newline.

    Raises:
        QtestReplyError: it is a refusal, or no answer at all.
    """
    words = line.decode(errors="replace").split()
    if not words or words[0] != "OK" or len(words) > 2:  # noqa: PLR2004 - OK and a value
        raise QtestReplyError(f"QEMU answered {line[:_SHOWN]!r}")
    if len(words) == 1:
        return None
    try:
        return int(words[1], 0)
    except ValueError:
        raise QtestReplyError(f"QEMU answered {line[:_SHOWN]!r}: no number") from None
