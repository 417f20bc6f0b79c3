"""Records are read twice as strictly: the quick decoder takes nothing that the one with messages refuses."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.core.mappings import Mappings
from harness.core.records import (
    BootCause,
    BootRecord,
    CrashRecord,
    IterationRecord,
    IterationState,
    SessionRecord,
    SessionState,
)
from harness.core.telemetry import TelemetryRecord
from harness.core.type_adapters import adapter_of, decoder_of
from recorded import FACTS

if TYPE_CHECKING:
    from collections.abc import Iterator

_CRASH = CrashRecord(
    "SIGABRT", None, "failed to set up stack guard page", ("last words",), ("panic",), Mappings(3, 1)
)
_TELEMETRY = TelemetryRecord("telemetry.jsonl", "0" * 64, 3, 1.5, 0.001, 1.0, Mappings(9, 4))
_SESSION = SessionRecord(
    number=1,
    block=0,
    variant="NEW",
    guest={"iothreads": 2, "cache": "none"},
    state=SessionState.CRASHED,
    boots=[
        BootRecord(
            started="2026-01-01T00:00:00+00:00",
            ready_seconds=2.5,
            facts=FACTS["NEW"],
            crash=_CRASH,
            telemetry=_TELEMETRY,
            cause=BootCause.FIRST,
            ordinal=4,
        )
    ],
    iterations=[
        IterationRecord(
            0, 0, {"rw": "randread", "iodepth": 8}, 0, "2026-01-01T00:00:02+00:00", 1, IterationState.OK, 0
        )
    ],
    files={"domain.xml": "1" * 64},
)
_NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
_TEXTS = st.text(max_size=5) | st.sampled_from(["ok", "done", "first", "1", "1.0", "true"])
_ANYTHING = st.recursive(
    st.none() | st.booleans() | _NUMBERS | _TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)


def places(value: Any, before: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Return where in a document something stands; of what QEMU said, which may be anything, nothing more."""
    yield before
    if before[-1:] != ("facts",) and isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*before, key))


def document() -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(orjson.dumps(asdict(_SESSION)))
    return found


def read_by(decode: Any, data: bytes) -> SessionRecord | None:
    try:
        record: SessionRecord = decode(data)
    except (msgspec.DecodeError, ValidationError):
        return None
    return record


def both(data: bytes) -> tuple[SessionRecord | None, SessionRecord | None]:
    slow = adapter_of(SessionRecord)
    return (
        read_by(decoder_of(SessionRecord).decode, data),
        read_by(lambda text: slow.validate_json(text, strict=True), data),
    )


def test_what_was_written_is_read_the_same_in_both_ways() -> None:
    assert both(orjson.dumps(document())) == (_SESSION, _SESSION)


@given(place=st.sampled_from([place for place in places(document()) if place]), value=_ANYTHING)
def test_what_is_changed_anywhere_is_read_the_same_or_refused(
    place: tuple[str | int, ...], value: Any
) -> None:
    changed = inner = document()
    for key in place[:-1]:
        inner = inner[key]  # type: ignore[index]
    inner[place[-1]] = value  # type: ignore[index]
    quick, careful = both(orjson.dumps(changed))
    if quick is not None:
        assert quick == careful
        assert repr(quick) == repr(careful), "1 is 1.0, and True is 1"


@given(key=st.sampled_from(["number", "boots", "iterations", "state"]))
def test_what_is_missing_is_missed(key: str) -> None:
    less = document()
    del less[key]
    quick, careful = both(orjson.dumps(less))
    assert quick == careful
    assert (quick is None) == (key in {"number", "state"})


@pytest.mark.parametrize("data", [b"", b"[]", b'{"number": NaN}', b'{"variant": "\xff"}', b"[" * 10_000])
def test_what_is_no_record_is_none(data: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError, RecursionError)):
        decoder_of(SessionRecord).decode(data)
