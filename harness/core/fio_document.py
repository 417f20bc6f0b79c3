"""From what fio printed to one JSON document: text around it, several documents, half a document.

fio's JSON output is not always JSON. Notes stand before it, ``--status-interval`` prints several documents
one after the other, keys occur twice, numbers are printed as ``-nan``, and a full disk cuts it off. Whatever
can be read without doubt is read; for the rest there is an error, never a guess.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, TypeAlias

from harness.core.errors import HarnessError

# What json gives for an object; Any, because every value is checked where it is used.
Document: TypeAlias = dict[str, Any]

_START = re.compile(r'\{\s*"fio version"')
_NOT_A_NUMBER = re.compile(r"(:\s*)-?(?:nan|inf)(?=\s*[,}\]\n])", re.IGNORECASE)
_LARGEST = 2.0**64  # fio's counters are 64 bits wide
_JOB_LISTS = ("jobs", "client_stats")
# Where two different values under one key would make the result a guess.
_MEASURED = frozenset(
    {*_JOB_LISTS, "read", "write", "trim", "mixed", "iops", "bw", "bw_bytes", "total_ios", "runtime"}
)


class FioOutputError(HarnessError, ValueError):
    """What fio printed cannot be read, or contradicts itself."""


@dataclass(frozen=True, slots=True)
class _Broken:
    """A document that begins but does not end."""

    position: int


def last_document(text: str) -> Document:
    """Return the last JSON document in fio's output (with ``--status-interval``: the final one).

    Args:
        text: all that fio printed; anything may stand before, between and after the documents.

    Returns:
        The decoded document; it has ``jobs`` or, in client mode, ``client_stats``.

    Raises:
        FioOutputError: there is no document, or the last one is cut off or ambiguous.
    """
    text = _NOT_A_NUMBER.sub(r"\1null", text)
    found = _scan(text)
    if isinstance(found, dict):
        return found
    if found is not None:
        line = text.count("\n", 0, found.position) + 1
        raise FioOutputError(
            f"fio's JSON is damaged or cut off: the document that begins at line {line} does not end",
            remedy="was the disk full, or fio killed? Take the file out or measure again",
        )
    head = " ".join(text.split())[:120]
    raise FioOutputError(
        f"no fio JSON in the output; it begins with {head!r}" if head else "fio's output is empty",
        remedy="run fio with --output-format=json",
    )


def _scan(text: str) -> Document | _Broken | None:
    decoder = json.JSONDecoder(object_pairs_hook=_object, parse_constant=lambda _name: None)
    found: Document | _Broken | None = None
    position = text.find("{")
    while position >= 0:
        try:
            value, end = decoder.raw_decode(text, position)
        except RecursionError:
            raise FioOutputError("the JSON is nested too deeply to be fio's") from None
        except json.JSONDecodeError:
            if _START.match(text, position):
                found = _Broken(position)
            end = position + 1
        else:
            if any(isinstance(value.get(key), list) for key in _JOB_LISTS):
                found = value
        position = text.find("{", end)
    return found


def _object(pairs: list[tuple[str, Any]]) -> Document:
    """Build an object; the last of equal keys wins, as with fio's options, but never for a measured value."""
    result: Document = {}
    for key, value in pairs:
        if key in _MEASURED and key in result and result[key] != value and not _is_option(value):
            raise FioOutputError(f"the JSON has the key {key!r} twice, with different values")
        result[key] = value
    return result


def _is_option(value: object) -> bool:
    """Return whether a value is a job option's: fio writes those as strings (``"runtime" : "5"``)."""
    return isinstance(value, str)


def non_negative(section: Document, key: str, where: str) -> float | None:
    """Return a number of a section; None when the key is absent or fio printed no number.

    Raises:
        FioOutputError: the value is not a number, or below zero.
    """
    value = section.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LARGEST:
        raise FioOutputError(f"{where}.{key} is {value!r:.40}, not a number of at least 0")
    return float(value)


def subsection(section: Document, key: str, where: str) -> Document:
    """Return an object inside a section; an empty one when it is absent.

    Raises:
        FioOutputError: there is something else under the key.
    """
    value = section.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise FioOutputError(f"{where}.{key} is not an object")
    return value
