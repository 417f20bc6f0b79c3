"""A directory as one input: what is done to a sound one before it is read.

An input is a JSON list of edits, ``[KIND, FILE, ...]``. That way an input is small, says what it is about,
and can be changed further.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from fuzz.mutation import mutate_bytes, mutate_json, mutate_lines
from harness.adapters.files import files_below
from harness.adapters.results.run_layout import HEAD
from harness.core import seals

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

Files = Mapping[str, bytes]
Edit = list[Any]

SIGN = "sign"
"""Makes the records' checksums fit the files again: then the reader itself is asked, not its guard."""

_RECORDS = ("session.json", "count.json", HEAD)
_OLD_SEAL = re.compile(rb',?\s*"sha256"\s*:\s*"[0-9a-f]*"\s*\}\s*\Z')
_MOST_EDITS = 12


def edits_of(data: bytes) -> list[Edit]:
    """Return the edits in an input; none where it is not a list of them."""
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(data)
        if isinstance(found, list):
            return [
                e
                for e in found
                if isinstance(e, list) and len(e) > 1 and all(isinstance(p, str | int) for p in e)
            ]
    return []


def written(edits: list[Edit]) -> bytes:
    """Return the input that holds edits."""
    return json.dumps(edits[-_MOST_EDITS:]).encode()


def lay_out(files: Files, edits: list[Edit], root: Path) -> set[str]:
    """Put a directory on disk with its edits; return the names of the files that were touched."""
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    touched = set()
    for kind, name, *rest in edits:
        path = root / str(name)
        if kind == SIGN:
            _sign(root)
        elif str(name) in files and kind in _APPLY:
            touched.add(str(name))
            if path.is_symlink() or not path.is_file():
                continue  # it may be without end
            with contextlib.suppress(OSError, TypeError, ValueError, IndexError, AttributeError):
                _APPLY[kind](path, *rest)
    # What was done to one file's directory was done to all files in it.
    places = {name.rpartition("/")[0] for name in touched}
    near = [name for name in files if name.rpartition("/")[0] in places]
    return {name for name in near if not _same(root / name, files[name])}


def _same(path: Path, data: bytes) -> bool:
    try:
        return path.is_file() and not path.is_symlink() and path.read_bytes() == data
    except OSError:
        return False


def _text(path: Path, text: str) -> None:
    path.write_bytes(text.encode("latin-1"))


def _flip(path: Path, at: int, mask: int) -> None:
    data = bytearray(path.read_bytes())
    if not data:
        return
    data[at % len(data)] ^= mask % 255 + 1
    path.write_bytes(data)


def _cut(path: Path, at: int) -> None:
    path.write_bytes(path.read_bytes()[:at])


def _absent(path: Path) -> None:
    path.unlink()


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _link(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


def _parent(path: Path, what: str) -> None:
    """Put something else in the place of the file's directory."""
    parent = path.parent
    for file in parent.iterdir():
        file.unlink()
    parent.rmdir()
    if what == "file":
        parent.write_text("")
    elif what == "loop":
        parent.symlink_to(parent.name)


_APPLY: dict[str, Callable[..., None]] = {
    "text": _text, "flip": _flip, "cut": _cut, "absent": _absent, "fifo": _fifo, "directory": _directory,
    "link": _link, "parent": _parent,
}  # fmt: skip


def _sign(root: Path) -> None:
    """Write into every record the checksums that its files have now, and then its own."""
    for name in _RECORDS:
        for record in sorted(file for file in files_below(root) if file.name == name):
            with contextlib.suppress(ValueError, OSError):
                if not record.is_file() or record.is_symlink():
                    continue
                text = record.read_bytes()
                for file in record.parent.iterdir():
                    if file.name != name and file.is_file() and not file.is_symlink():
                        text = _signed(text, file)
                record.write_bytes(_sealed(text))


def _signed(text: bytes, file: Path) -> bytes:
    """Return a record's text with a file's checksum: the value of its name, or of the ``sha256`` behind it."""
    name, digest = f'"{file.name}"'.encode(), seals.digest(file.read_bytes()).encode()
    text = re.sub(re.escape(name) + rb'(\s*:\s*)"[0-9a-f]{64}"', rb'%s\1"%s"' % (name, digest), text)
    at = text.find(name)
    found = text.find(b'"sha256"', at)
    if at < 0 or found < 0:
        return text
    value = text.find(b'"', text.find(b":", found)) + 1
    return text[:value] + digest + text[text.find(b'"', value) :]


def _sealed(text: bytes) -> bytes:
    """Return a record's text, which may be hardly JSON, with its own checksum at its end."""
    body = _OLD_SEAL.sub(b"}", text).rstrip()
    if not body.endswith(b"}") or body == b"{}":
        return text
    seal = f'  "{seals.KEY}": "{"0" * 64}"\n}}\n'.encode()
    return seals.sealed_again(body[:-1].rstrip() + b",\n" + seal)


def mutator(files: Callable[[], Files]) -> Callable[[bytes, Random], bytes]:
    """Return what changes the edits of a directory."""

    def mutate(data: bytes, random: Random) -> bytes:
        edits = edits_of(data)
        if edits and random.random() < 0.25:
            del edits[random.randrange(len(edits))]
        if edits and random.random() < 0.3:
            _again(edits[random.randrange(len(edits))], random)
        else:
            edits.insert(random.randrange(len(edits) + 1), _new(files(), random))
        if random.random() < 0.3 and not any(edit[0] == SIGN for edit in edits):
            edits.append([SIGN, ""])
        return written(edits)

    return mutate


def _again(edit: Edit, random: Random) -> None:
    # atheris changes bytes, too: an edit may be one no longer.
    if edit[0] == "text" and len(edit) > 2:
        edit[2] = mutate_json(str(edit[2]).encode("latin-1", "replace"), random).decode("latin-1")
    elif len(edit) > 2 and isinstance(edit[2], int):
        edit[2] += random.choice((-1, 1, 8, -8, 100))


def _new(files: Files, random: Random) -> Edit:
    # A kind of file first: there are many fio outputs, and one plan.
    kinds: dict[str, list[str]] = {}
    for name in sorted(files):
        kinds.setdefault(_kind_of(name), []).append(name)
    name = random.choice(kinds[random.choice(sorted(kinds))])
    data, what = files[name], random.random()
    if what < 0.6:
        change = mutate_json if name.endswith(".json") else mutate_lines
        return ["text", name, change(data, random).decode("latin-1")]
    if what < 0.8:
        return ["flip", name, random.randrange(len(data)), random.randrange(255)]
    if what < 0.85:
        return ["text", name, mutate_bytes(data, random).decode("latin-1")]
    if what < 0.9:
        return ["cut", name, random.randrange(len(data))]
    other = random.choice(sorted(files))
    return random.choice(
        (
            ["absent", name], ["fifo", name], ["directory", name], ["link", name, "nowhere"], ["link", name, name.rpartition("/")[2]],
            ["link", name, "/dev/zero"], ["link", name, "/proc/self/mem"], ["parent", name, "absent"], ["parent", name, "file"],
            ["parent", name, "loop"], ["text", name, files[other].decode("latin-1")],
        )
    )  # fmt: skip


def _kind_of(name: str) -> str:
    parts = name.split("/")
    return parts[-1].lstrip("0123456789-") or parts[-1]
