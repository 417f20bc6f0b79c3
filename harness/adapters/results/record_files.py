"""Records as files: JSON with a checksum in it (`core.seals`), read as strictly as it was written."""

from __future__ import annotations

import contextlib
import hashlib
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import orjson
from pydantic import ValidationError

from harness.adapters.files import read_bytes, write_atomic
from harness.core import seals
from harness.core.errors import DamagedError
from harness.core.records import SessionRecord
from harness.core.type_adapters import adapter_of, decoder_of

if TYPE_CHECKING:
    from pathlib import Path

_T = TypeVar("_T")
_SHOWN = 200

RESTORE = "restore it from a copy"

_MANY = (SessionRecord,)
"""Of which a run has hundreds, with hundreds of iterations each."""


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Put a record on disk, with its checksum, before returning."""
    write_atomic(path, seals.seal(record))


def read_record(kind: type[_T], path: Path, *, sealed: bool, remedy: str) -> _T:
    """Return a record as it was written.

    Args:
        kind: what it is.
        path: its file.
        sealed: whether there has to be a checksum in it; one that is there has to be right in any case.
        remedy: what to do about a damaged one.

    Raises:
        DamagedError: it was torn or edited, or says what no record says.
    """
    data = read_bytes(path)
    found = seals.look(data)
    if found is seals.Seal.WHOLE and kind in _MANY:
        # What it refuses is looked at by who can say why.
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return decoder_of(kind).decode(data)
    value = parsed(data, path, remedy)
    moved = found is seals.Seal.ABSENT and isinstance(value, dict) and seals.KEY in value
    if found is seals.Seal.BROKEN or moved:
        raise DamagedError.single(str(path), "is torn, or was edited: it does not match its SHA-256", remedy)
    if found is seals.Seal.ABSENT and sealed:
        raise DamagedError.single(str(path), "is torn, or was edited: it has no SHA-256 in it", remedy)
    if found is seals.Seal.WHOLE:
        del value[seals.KEY]
    return validated(kind, value, path, remedy)


def parsed(data: bytes, path: Path, remedy: str) -> Any:
    """Return what JSON says.

    Raises:
        DamagedError: it is none.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise DamagedError.single(str(path), f"is not whole JSON: {error}", remedy) from error


def validated(kind: type[_T], value: Any, path: Path, remedy: str = RESTORE) -> _T:
    """Return what JSON said, as a type, taken at its word: no text for a number, no number for a truth.

    Raises:
        DamagedError: it says something else; says where.
    """
    try:
        # By way of text: only then pydantic takes names for enumerations, and nothing else for anything else.
        return adapter_of(kind).validate_json(orjson.dumps(value), strict=True)
    except orjson.JSONEncodeError as error:
        raise damaged(path, str(error), remedy=remedy) from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "its top"
        raise damaged(path, first["msg"], at=where, remedy=remedy) from error


def damaged(path: Path, what: str, *, at: str = "its top", remedy: str = RESTORE) -> DamagedError:
    """Return the error for a file that is not what a run recorded."""
    return DamagedError.single(str(path), f"is damaged at {at:.{_SHOWN}}: {what}", remedy)


def check_digest(data: bytes, sha256: str | None, path: Path | str, what: str, remedy: str) -> None:
    """Hold the content of a file against its recorded checksum, where there is one.

    Raises:
        DamagedError: it is not what it was.
    """
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise DamagedError.single(
            str(path), f"is not what {what}: its SHA-256 differs from the record", remedy
        )
