"""The bundle reader: archives from anybody.

An input's first byte says what follows: ``z`` a file as it is, ``t`` a tar archive that is then compressed,
``m`` a JSON list of members, of which archive and manifest are made: each of them gets past the guard before.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

import zstandard

from fuzz import run_target
from fuzz.mutation import mutate_bytes, mutate_json, parsed
from fuzz.target import READ, Target, outcome_of, require
from harness.adapters.results.bundle import BUNDLE_FORMAT, MANIFEST, pack
from harness.adapters.results.run_layout import is_bundle
from harness.adapters.results.samples import read_samples
from harness.adapters.results.store import RunDirectory
from harness.adapters.results.unpacking import Limits, unpacked
from harness.core.errors import HarnessError

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

_LIMITS = Limits(files=50, bytes=2**20, ratio=300, free_bytes=2**20)
_BLOCK = tarfile.BLOCKSIZE


def check(data: bytes, directory: Path) -> str:
    """Unpack a bundle: what comes out is what went in, and lies where it belongs."""
    kind, rest = data[:1], data[1:]
    path = directory / "x.tar.zst"
    packed = rest if kind == b"z" else zstandard.compress(_archive(rest) if kind == b"m" else rest, 1)
    path.write_bytes(packed)
    is_bundle(path)
    try:
        with unpacked(path, _LIMITS) as run:
            found = {
                file.relative_to(run).as_posix(): file.read_bytes()
                for file in sorted(run.rglob("*"))
                if file.is_file()
            }
            require(not any(file.is_symlink() for file in run.parent.rglob("*")), "a link was unpacked")
            require(sum(map(len, found.values())) <= _LIMITS.bytes, "more than may be was unpacked")
            _compare(found, packed)
            outcome = _read(run)
    except HarnessError as error:
        outcome = outcome_of(error)
    require([entry.name for entry in directory.iterdir()] == [path.name], "something was unpacked elsewhere")
    return outcome


def _compare(found: dict[str, bytes], packed: bytes) -> None:
    """Hold what was unpacked against the manifest, and against what Python's own tar reader makes of it."""
    manifest = json.loads(found[MANIFEST])
    listed = {name: member["sha256"] for name, member in manifest["files"].items()}
    hashes = {
        name: hashlib.sha256(content).hexdigest() for name, content in found.items() if name != MANIFEST
    }
    require(hashes == listed, "what was unpacked is not what the manifest lists")
    try:
        plain = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(packed), read_across_frames=True).read()
        with tarfile.open(fileobj=io.BytesIO(plain), mode="r:") as archive:
            members = {m.name.partition("/")[2]: archive.extractfile(m).read() for m in archive if m.isreg()}  # type: ignore[union-attr]
    except (tarfile.TarError, zstandard.ZstdError, ValueError, OSError, EOFError):
        return
    require(members == found, "another content than tar's")


def _read(run: Path) -> str:
    try:
        read_samples(RunDirectory.open(run))
    except HarnessError as error:
        outcome_of(error)
        return f"unpacked, then {type(error).__name__}"
    return READ


def _archive(text: bytes) -> bytes:
    """Return an archive of a list of ``[name, content, type, size, mode of the manifest]``."""
    members = parsed(text)
    members = members if isinstance(members, list) else []
    blocks, listed = [], {}
    for member in members:
        if not (
            isinstance(member, list)
            and len(member) == 4
            and isinstance(member[0], str)
            and isinstance(member[1], str)
        ):
            continue
        name, content, kind, size = member
        data = content.encode("utf-8", "surrogatepass")
        info = tarfile.TarInfo(name)
        info.type = str(kind)[:1].encode(errors="replace")[:1] or tarfile.REGTYPE
        info.linkname = "/etc/passwd"
        info.size = size if type(size) is int and 0 <= size < 2**70 else len(data)
        try:
            head = info.tobuf(tarfile.GNU_FORMAT, errors="surrogateescape")
        except (ValueError, UnicodeError):
            continue
        blocks.append(head + data + bytes(-len(data) % _BLOCK))
        listed[name.partition("/")[2]] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    manifest = {
        "format": BUNDLE_FORMAT, "format_version": 1, "run_id": "r", "harness_version": "0",
        "anonymous": False, "logs": False, "files": listed,
    }  # fmt: skip
    head = json.dumps(manifest).encode()
    info = tarfile.TarInfo(f"{_top(members)}/{MANIFEST}")
    info.size = len(head)
    try:
        first = info.tobuf(tarfile.GNU_FORMAT, errors="surrogateescape")
    except (ValueError, UnicodeError):
        first = b""
    return first + head + bytes(-len(head) % _BLOCK) + b"".join(blocks) + bytes(2 * _BLOCK)


def _top(members: list[Any]) -> str:
    first = next((m[0] for m in members if isinstance(m, list) and m and isinstance(m[0], str)), "r/")
    return first.partition("/")[0]


@functools.cache
def _bundle() -> bytes:
    return pack(run_target.sound(), run_id="r", harness_version="0", anonymous=False, logs=False)


@functools.cache
def seeds() -> list[bytes]:
    """Return a bundle in each of the three ways."""
    plain = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(_bundle())).read()
    small = pack(
        {"run.json": b"{}", "sessions/000-OLD/a.json": b"1"},
        run_id="r",
        harness_version="0",
        anonymous=False,
        logs=False,
    )
    plain_small = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(small)).read()
    members: list[list[Any]] = [
        ["r/run.json", "{}", "0", None],
        ["r/sessions", "", "5", None],
        ["r/sessions/a", "x", "0", None],
    ]
    return [
        b"z" + _bundle(),
        b"z" + small,
        b"t" + plain,
        b"t" + plain_small,
        b"m" + json.dumps(members).encode(),
    ]


_NAMES = (
    "/etc/x", "../x", "r/../../x", "r/./x", "r//x", "r", "", "r/a\0b", "r/" + "x" * 300, "r/" + "é" * 120, "r/\x1b[0m",
    "q/run.json", "r/manifest.json", "r/run.json", "r/run.json/x", "r/a\\b", "r/sessions", "~/x", "r/\ud800",
)  # fmt: skip


def mutate(data: bytes, random: Random) -> bytes:
    """Change members, archive or file."""
    kind, rest = data[:1], data[1:]
    if kind == b"m":
        members = parsed(rest)
        if isinstance(members, list) and random.random() < 0.6:
            name = random.choice(_NAMES)
            members.insert(
                random.randrange(len(members) + 1),
                [name, "x", random.choice("0012567xgLKS"), random.choice((None, None, 0, 5, 2**40, 2**65))],
            )
            return kind + json.dumps(members).encode()
        return kind + mutate_json(rest, random)
    if kind == b"t" and random.random() < 0.7:
        return kind + _changed_header(rest, random)
    return (kind if random.random() < 0.95 else random.choice((b"z", b"t", b"m"))) + mutate_bytes(
        rest, random
    )


def _changed_header(archive: bytes, random: Random) -> bytes:
    """Change one header of an archive, and make its checksum fit."""
    at = random.randrange(max(1, len(archive) // _BLOCK)) * _BLOCK
    block = bytearray(mutate_bytes(archive[at : at + _BLOCK], random)[:_BLOCK].ljust(_BLOCK, b"\0"))
    if random.random() < 0.8:
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
    return archive[:at] + bytes(block) + archive[at + _BLOCK :]


TARGET = Target("bundle", "bundle reader", check, seeds, mutate, longest=1 << 17)
