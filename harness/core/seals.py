"""The checksum inside a JSON record: what was written whole is told from what was torn or edited.

A sealed record ends in a line ``"sha256": "..."``: the SHA-256 of every byte before that line. So anybody can
check it: ``head -n -2 session.json | sha256sum``.
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


def digest(data: bytes) -> str:
    """Return the hex SHA-256 of bytes."""
    return hashlib.sha256(data).hexdigest()
