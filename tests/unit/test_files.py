"""Files: whole or not at all; what cannot be read is named; nothing commands a terminal."""

from __future__ import annotations

import os
import stat
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.adapters.files import (
    make_directory,
    printable,
    printable_lines,
    read_json,
    read_text,
    tail,
    write_atomic,
    write_json,
)
from harness.core.errors import HarnessError, InputError


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_content_and_no_litter(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.json"
    write_atomic(path, b"old")

    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*{"fsync": (os, "fsync", full), "replace": (Path, "replace", full)}[step])
    with pytest.raises(HarnessError, match=r"cannot write .*run\.json: No space left") as caught:
        write_atomic(path, b"new")
    assert caught.value.remedy
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_never_sees_a_part_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, seen = tmp_path / "run.json", list[bytes]()
    write_atomic(path, b"old" * 1000)
    real = os.fsync

    def look(descriptor: int) -> None:
        seen.append(path.read_bytes())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", look)
    write_atomic(path, b"new" * 1000)
    # Looked at when the data were put on disk, and when their name was.
    assert seen == [b"old" * 1000, b"new" * 1000]


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HarnessError, match=r"cannot make the directory .*file/below: Not a directory"):
        make_directory(tmp_path / "file" / "below")


def test_a_directory_is_this_users_own_whatever_the_umask(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        make_directory(tmp_path / "a" / "private")
        make_directory(tmp_path / "a" / "passable", 0o711)
    finally:
        os.umask(umask)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "a").iterdir()}
    assert modes == {"private": 0o700, "passable": 0o711}


def test_a_private_file_is_private_whatever_the_umask(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        write_json(tmp_path / "x.json", {}, private=True)
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "x.json").stat().st_mode) == 0o600


def test_json_survives(tmp_path: Path) -> None:
    value = {"b": [1, 2.5, None], "a": "ü"}
    write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == value


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "is not whole JSON"), (b'{"a": 1', "is not whole JSON"), (b"\xff\xfe", "is not whole JSON")],
)
def test_damaged_json_is_named(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        read_json(path)
    assert caught.value.problems[0].where == str(path)


def test_json_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x\.json: does not exist"):
        read_json(tmp_path / "x.json")


def test_text_that_cannot_be_read_is_named_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\x80\x81")
    for name, words in [("binary", "is not UTF-8"), ("absent", "does not exist"), (".", "is a directory")]:
        with pytest.raises(InputError, match=words) as caught:
            read_text(tmp_path / name)
        assert caught.value.problems[0].remedy


def test_a_file_with_windows_line_ends_reads_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "x.yml").write_bytes(b"a: 1\r\nb: 2\r\n")
    assert read_text(tmp_path / "x.yml") == "a: 1\nb: 2\n"


def test_the_tail_of_a_log_is_its_last_lines_and_harmless(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    log.write_bytes(b"\n".join(b"line %d" % n for n in range(100)) + b"\n\x1b[2Jpanic\xff\n")
    assert tail(log, lines=2) == "line 99\n?[2Jpanic�"
    assert tail(tmp_path / "absent") == ""


def test_the_tail_of_an_endless_log_is_short(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    log.write_bytes(b"x" * 200_000)
    assert len(tail(log)) <= 64 * 1024


@given(st.text())
def test_nothing_that_a_terminal_acts_on_is_printable(text: str) -> None:
    shown = printable(text)
    assert len(shown) == len(text)
    assert all(char == "\t" or unicodedata.category(char) not in {"Cc", "Cf", "Cs"} for char in shown)
    assert printable_lines(text).count("\n") == text.count("\n")
    assert "\x1b" not in printable_lines(text)


def test_ordinary_words_stay_as_they_are() -> None:
    assert printable("Größe: 4 kB\t(100 %)") == "Größe: 4 kB\t(100 %)"
    assert printable_lines("one\ntwo\r\n") == "one\ntwo?\n"
