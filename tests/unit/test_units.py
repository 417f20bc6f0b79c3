"""Sizes and durations, as users write them and as they are shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.units import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512", 512),
        ("4k", 4096),
        ("4K", 4096),
        ("4kb", 4096),
        ("4KiB", 4096),
        (" 128k ", 128 * 1024),
        ("1m", 2**20),
        ("1 GiB", 2**30),
        ("2t", 2**41),
        (4096, 4096),
    ],
)
def test_a_size_is_in_powers_of_1024_as_in_fio(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "4q", "k", "-4k", "4.5k", "4kk", "4k8", "0x10", "four"])
def test_what_is_no_size_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size such as") as caught:
        parse_size(text)
    assert repr(text) in str(caught.value)


@given(st.integers(0, 2**50))
def test_a_size_survives_being_shown(size: int) -> None:
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(
    ("size", "label"),
    [(512, "512"), (1024, "1k"), (4096, "4k"), (1536, "1536"), (2**20, "1m"), (2**30, "1g")],
)
def test_a_size_has_the_label_that_fio_users_write(size: int, label: str) -> None:
    assert format_size(size) == label


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("5s", 5), ("5", 5), ("1.5s", 1.5), ("40m", 2400), ("2h", 7200), (" 3 s ", 3), (7, 7)],
)
def test_a_duration_is_in_seconds(text: str | int, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "-5s", "5 days", "1h30m", "inf", "nan", "1e3s"])
def test_what_is_no_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration such as"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 s"),
        (12.4, "12 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.7, "1 h 00 min"),
        (7800, "2 h 10 min"),
    ],
)
def test_a_duration_is_shown_without_impossible_parts(seconds: float, shown: str) -> None:
    assert format_duration(seconds) == shown
