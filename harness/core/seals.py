"""The checksum inside a JSON record: what was written whole is told from what was torn or edited.

A sealed record ends in a line ``"sha256": "..."``: the SHA-256 of every byte before that line. So anybody can
check it: ``head -n -2 session.json | sha256sum``.

A log grows, so each of its lines has a checksum, which is also over that of the line before: a line that is
gone is missed by the next one.
"""

from __future__ import annotations

import hashlib
import re
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY = "sha256"
"""Of the seal in a record; records have no such key of their own."""

_END = re.compile(rb'  "sha256": "([0-9a-f]{64})"\n\}\n\Z')
_LINE_END = re.compile(rb',"sha256":"([0-9a-f]{64})"\}\Z')
_END_BYTES = len('  "sha256": ""\n}\n') + 64


class Seal(StrEnum):
    """What the checksum in a record says of it."""

    WHOLE = "whole"
    BROKEN = "broken"
    ABSENT = "absent"
    """There is none: a record of format 1, or one whose end is gone."""


def seal(record: Mapping[str, Any]) -> bytes:
    """Return a record as JSON, indented, with its checksum as the last key.

    Args:
        record: not empty, and without a checksum.
    """
    body = orjson.dumps(record, option=orjson.OPT_INDENT_2).removesuffix(b"\n}") + b",\n"
    return body + f'  "{KEY}": "{digest(body)}"\n}}\n'.encode()


def look(data: bytes) -> Seal:
    """Return what the checksum in a record says of its bytes."""
    end = _END.search(data, max(0, len(data) - _END_BYTES))
    if end is None:
        return Seal.ABSENT
    return Seal.WHOLE if digest(data[: end.start()]) == end[1].decode() else Seal.BROKEN


def sealed_again(data: bytes) -> bytes:
    """Return a sealed record that this program itself changed, with the checksum that it now deserves."""
    end = _END.search(data, max(0, len(data) - _END_BYTES))
    if end is None:
        return data
    body = data[: end.start()]
    return body + f'  "{KEY}": "{digest(body)}"\n}}\n'.encode()


def seal_line(record: Mapping[str, Any], after: str) -> bytes:
    """Return a record as a line of a log, with its checksum as the last key.

    Args:
        record: not empty, and without a checksum.
        after: the checksum of the line before; empty for the first one.
    """
    return _line(orjson.dumps(record).removesuffix(b"}"), after)


def look_at_line(line: bytes, after: str) -> tuple[Seal, str]:
    """Return what the checksum in a line of a log says of it, and the checksum; empty where there is none.

    Args:
        line: without its end.
        after: the checksum of the line before.
    """
    end = _LINE_END.search(line)
    if end is None:
        return Seal.ABSENT, ""
    found = end[1].decode()
    whole = digest(after.encode() + line[: end.start()]) == found
    return Seal.WHOLE if whole else Seal.BROKEN, found


def lines_sealed_again(before: bytes, after: bytes) -> bytes:
    """Return a log that this program itself changed, with the checksums that its whole lines now deserve.

    Args:
        before: the log as it was.
        after: as many lines.
    """
    lines, was, now = after.split(b"\n"), "", ""
    for index, line in enumerate(before.split(b"\n")):
        found, value = look_at_line(line, was)
        if found is Seal.WHOLE:
            end = _LINE_END.search(lines[index])
            lines[index] = _line(lines[index][: end.start()] if end else lines[index], now)
        was, now = value or was, look_at_line(lines[index], now)[1] or now
    return b"\n".join(lines)


def line_seals(log: bytes) -> list[bytes]:
    """Return the checksums in the lines of a log, in order."""
    found = (_LINE_END.search(line) for line in log.split(b"\n"))
    return [end[1] for end in found if end]


def _line(body: bytes, after: str) -> bytes:
    return body + f',"{KEY}":"{digest(after.encode() + body)}"}}'.encode()


def digest(data: bytes) -> str:
    """Return the hex SHA-256 of bytes."""
    return hashlib.sha256(data).hexdigest()
