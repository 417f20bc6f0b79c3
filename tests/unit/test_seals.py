"""The checksum inside a record: any other byte is noticed, and anybody can check it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from harness.core import seals
from harness.core.seals import KEY, Seal, look, seal, sealed_again

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
RECORDS = st.dictionaries(st.text().filter(lambda key: key != KEY), VALUES, min_size=1)


@given(RECORDS)
def test_what_was_sealed_is_whole_and_says_what_it_said(record: dict[str, Any]) -> None:
    data = seal(record)
    assert look(data) is Seal.WHOLE
    read = json.loads(data)
    assert read.pop(KEY)
    assert read == record


@given(RECORDS, st.data())
def test_any_other_byte_is_noticed(record: dict[str, Any], draw: st.DataObject) -> None:
    data = bytearray(seal(record))
    data[draw.draw(st.integers(0, len(data) - 1))] ^= draw.draw(st.integers(1, 255))
    assert look(bytes(data)) is not Seal.WHOLE


@given(RECORDS, st.data())
def test_a_part_is_not_whole(record: dict[str, Any], draw: st.DataObject) -> None:
    data = seal(record)
    assert look(data[: draw.draw(st.integers(0, len(data) - 1))]) is not Seal.WHOLE


@given(RECORDS)
def test_anybody_can_check_it(record: dict[str, Any]) -> None:
    """As docs/run-directory.md says: head -n -2 FILE | sha256sum."""
    lines = seal(record).split(b"\n")
    assert lines[-2:] == [b"}", b""]
    assert json.loads(seal(record))[KEY] == hashlib.sha256(b"\n".join(lines[:-3]) + b"\n").hexdigest()


@given(RECORDS)
def test_what_this_program_changed_itself_is_sealed_again(record: dict[str, Any]) -> None:
    changed = seal({**record, "host": "one"}).replace(b'"host": "one"', b'"host": "two"')
    assert look(changed) is Seal.BROKEN
    assert look(sealed_again(changed)) is Seal.WHOLE


def test_what_has_no_checksum_has_none() -> None:
    for data in (b"", b"{}", b"[]", b'{"sha256": "ab"}\n', seal({"a": 1})[:-1]):
        assert look(data) is Seal.ABSENT
        assert sealed_again(data) == data


def test_a_log_that_is_changed_on_purpose_stays_whole_where_it_was() -> None:
    first = seals.seal_line({"host": "mars"}, "")
    second = seals.seal_line({"host": "mars", "n": 2}, seals.look_at_line(first, "")[1])
    edited = second.replace(b'"n":2', b'"n":3')
    for last, state in ((second, seals.Seal.WHOLE), (edited, seals.Seal.BROKEN)):
        log = b"\n".join([first, b'{"torn', last])
        lines = seals.lines_sealed_again(log, log.replace(b"mars", b"host1")).split(b"\n")
        found, seal = seals.look_at_line(lines[0], "")
        assert (found, lines[1]) == (seals.Seal.WHOLE, b'{"torn')
        assert seals.look_at_line(lines[2], seal)[0] is state
        assert b"mars" not in b"".join(lines)
