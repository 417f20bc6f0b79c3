"""From what fio printed to its JSON documents: text around them, several of them, half a document.

fio's JSON output is not always JSON. Notes stand before it, ``--status-interval`` prints several documents
one after the other, keys occur twice, numbers are printed as ``-nan``, and a full disk cuts it off. Whatever
can be read without doubt is read; for the rest there is an error, never a guess.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson

from harness.core.errors import HarnessError

# What json gives for an object; Any, because every value is checked where it is used.
Document: TypeAlias = dict[str, Any]

DIRECTIONS = ("read", "write", "trim")
_BEGINNING = '{"fio version"'
_START = re.compile(r'\{\s*"fio version"')
_NOT_A_NUMBER = re.compile(r"(:\s*)-?(?:nan|inf)(?=\s*[,}\]\n])", re.IGNORECASE)
LARGEST = 2.0**64
"""fio's counters are 64 bits wide."""
_MOST_DIGITS = 40
_PATIENCE = 200_000
_FAR = 100
_NUMBERS = (int, float)
_JOB_LISTS = ("jobs", "client_stats")
# Where two different values under one key would make the result a guess.
_MEASURED = frozenset(
    {*_JOB_LISTS, *DIRECTIONS, "mixed", "iops", "bw", "bw_bytes", "total_ios", "runtime", "io_bytes"}
)
COUNTED = ("iops", "bw_bytes", "io_bytes")
"""Keys that no option of fio has, and that stand once in every direction: to count is to find doubles."""


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
    return documents(text)[-1]


def documents(text: str) -> list[Document]:
    """Return every JSON document in fio's output, at least one, in order.

    Raises:
        FioOutputError: there is none, or the last one is cut off or ambiguous.
    """
    if (whole := _plain(text)) is not None:
        return [whole]
    text = _NOT_A_NUMBER.sub(r"\1null", text)
    found, broken = _scan(text)
    if broken is not None:
        line = text.count("\n", 0, broken.position) + 1
        raise FioOutputError(
            f"fio's JSON is damaged or cut off: the document that begins at line {line} does not end",
            remedy="was the disk full, or fio killed? Take the file out or measure again",
        )
    if found:
        return found
    head = " ".join(text.split())[:120]
    raise FioOutputError(
        f"no fio JSON in the output; it begins with {head!r}" if head else "fio's output is empty",
        remedy="run fio with --output-format=json",
    )


def _plain(text: str) -> Document | None:
    """Return the one document of an output that is nothing else; None sends it the slow and careful way."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(value, dict) or not any(isinstance(value.get(key), list) for key in _JOB_LISTS):
        return None
    # orjson keeps the last of equal keys and says nothing: count, rather than decode twice as slowly.
    sections = [
        entry[name]
        for key in _JOB_LISTS
        for entry in _listed(value, key)
        if isinstance(entry, dict)
        for name in (*DIRECTIONS, "mixed")
        if isinstance(entry.get(name), dict)
    ]
    once = all(text.count(f'"{key}"') == sum(key in section for section in sections) for key in COUNTED)
    return value if once else None


def _listed(document: Document, key: str) -> list[Any]:
    value = document.get(key)
    return value if isinstance(value, list) else []


def _scan(text: str) -> tuple[list[Document], _Broken | None]:
    decoder = json.JSONDecoder(object_pairs_hook=_object, parse_int=_whole, parse_constant=lambda _name: None)
    # What begins like JSON and is none is read again from its next brace on: that must not go on for hours.
    patience = _PATIENCE + 4 * len(text)
    found: list[Document] = []
    broken: _Broken | None = None
    position = text.find("{")
    while position >= 0:
        try:
            value, end = decoder.raw_decode(text, position)
        except RecursionError:
            raise FioOutputError("the JSON is nested too deeply to be fio's") from None
        except json.JSONDecodeError as error:
            if _begins(text, position):
                broken = _Broken(position)
            end = position + 1
            # The error counts lines from the text's begin, at some hundred times the speed of reading.
            patience -= error.pos - position + error.pos // _FAR
            if patience < 0:
                raise FioOutputError(
                    "it is full of braces, and fio's JSON is not found between them"
                ) from None
        else:
            if any(isinstance(value.get(key), list) for key in _JOB_LISTS):
                found.append(value)
                broken = None
        position = text.find("{", end)
    return found, broken


def _whole(digits: str) -> int | float:
    # Python refuses to read thousands of digits; fio's counters have twenty.
    return int(digits) if len(digits) <= _MOST_DIGITS else float(digits)


def _begins(text: str, position: int) -> bool:
    """Return whether a document begins here, be it cut off after a few characters."""
    if _START.match(text, position):
        return True
    rest = text[position : position + 80]
    return position + len(rest) == len(text) and _BEGINNING.startswith(re.sub(r"\s+(?=[\"]|$)", "", rest))


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
    # Not isinstance: a bool is an int too, and this is called a hundred times a file.
    if type(value) in _NUMBERS and 0 <= value <= LARGEST:
        return float(value)
    raise FioOutputError(f"{where}.{key} is {value!r:.40}, not a number of at least 0")


def entries_of(document: Document) -> list[Any]:
    """Return a document's list of jobs, or of a client's servers."""
    return next(value for key in _JOB_LISTS if isinstance(value := document.get(key), list))


def is_client(document: Document) -> bool:
    """Return whether fio ran as the client of servers."""
    return not isinstance(document.get(_JOB_LISTS[0]), list)


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
