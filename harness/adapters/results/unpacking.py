"""A bundle read again: into a private directory that is gone afterwards, and nothing of it is trusted.

An archive from a mail may name files outside, link to them, repeat a name, or grow without end. So its
headers are read one by one, plain files and directories only, within limits, and what was unpacked has to be
what its manifest lists.
"""

from __future__ import annotations

import contextlib
import hashlib
import tarfile
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Protocol

import orjson
import zstandard
from pydantic import ValidationError

from harness.adapters.files import read_bytes
from harness.adapters.results.bundle import BUNDLE_FORMAT, BUNDLE_VERSION, MANIFEST, Manifest
from harness.adapters.results.run_layout import ZSTD_MAGIC
from harness.adapters.scratch import scratch
from harness.core.errors import InputError
from harness.core.type_adapters import adapter_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import NoReturn

_WINDOW_BYTES = 2**27
_CHUNK_BYTES = 2**20
_BLOCK = tarfile.BLOCKSIZE
_LONGEST_NAME = 256
_MOST_MANIFEST_BYTES = 64 * 2**20
_PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE)
_ANOTHER = "ask for another copy, or make one: harness export RUN_DIR --bundle FILE.tar.zst"
_NOT_OURS = "a bundle is made by: harness export RUN_DIR --bundle FILE.tar.zst"


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a bundle may be.

    Attributes:
        files: members.
        bytes: all of it, unpacked.
        ratio: unpacked / packed, of what is larger than ``free_bytes``.
    """

    files: int = 200_000
    bytes: int = 8 * 2**30
    ratio: int = 300
    free_bytes: int = 64 * 2**20


DEFAULT_LIMITS = Limits()


@contextlib.contextmanager
def unpacked(path: Path, limits: Limits = DEFAULT_LIMITS) -> Iterator[Path]:
    """Give the run directory in a bundle, for the duration of the ``with`` block.

    Raises:
        InputError: it is no bundle, one of a newer format, damaged, or tries something.
    """
    with scratch() as directory:
        yield _unpack(path, directory, limits)


def _unpack(path: Path, directory: Path, limits: Limits) -> Path:
    try:
        with path.open("rb") as packed:
            if packed.read(len(ZSTD_MAGIC)) != ZSTD_MAGIC:
                _refuse(path, "is no bundle: it is not compressed with zstd", _NOT_OURS)
            packed.seek(0)
            most = min(limits.bytes, limits.free_bytes + limits.ratio * path.stat().st_size)
            decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES)
            with decompressor.stream_reader(packed, read_across_frames=True) as stream:
                return _Unpacking(path, directory, limits.files, most, stream).run()
    except zstandard.ZstdError as error:
        _refuse(path, f"is damaged: {error}", _ANOTHER, error)
    except OSError as error:
        _refuse(path, f"cannot be read or unpacked: {error.strerror or error}", _ANOTHER, error)


def _refuse(path: Path, message: str, remedy: str, cause: BaseException | None = None) -> NoReturn:
    raise InputError.single(str(path), message, remedy) from cause


@dataclass
class _Unpacking:
    """One bundle on its way to the disk.

    Attributes:
        most_files: members it may have.
        most_bytes: it may have, unpacked.
        found: SHA-256 of what is on disk, by name.
    """

    path: Path
    directory: Path
    most_files: int
    most_bytes: int
    stream: _Readable
    found: dict[str, str] = field(default_factory=dict)
    top: str | None = None
    taken: int = 0

    def run(self) -> Path:
        """Unpack everything and hold it against the manifest; return the run directory."""
        manifest: Manifest | None = None
        while (info := self._header()) is not None:
            if info.isdir():
                self._checked_name(info.name, directory=True)
                continue
            name = self._checked_name(info.name)
            if manifest is None and name != MANIFEST:
                _refuse(self.path, f"is no bundle: it does not begin with {MANIFEST}", _NOT_OURS)
            if name in self.found:
                self._bad(f"has {name} twice")
            if len(self.found) >= self.most_files:
                self._bad(f"has more than {self.most_files} files")
            if manifest is None and info.size > _MOST_MANIFEST_BYTES:
                self._bad(f"has a {MANIFEST} of {info.size:,} bytes")
            self.found[name] = self._content(name, info.size)
            if manifest is None:
                manifest = self._manifest()
            elif name not in manifest.files:
                self._bad(f"has {name}, which its {MANIFEST} does not list")
        if manifest is None or self.top is None:
            _refuse(self.path, "is no bundle: nothing is in it", _NOT_OURS)
        self._compare(manifest)
        return self.directory / self.top

    def _header(self) -> tarfile.TarInfo | None:
        block = self._read(_BLOCK)
        # An archive ends with blocks of zeroes.
        if not block.strip(b"\0"):
            if len(block) < _BLOCK:
                self._bad("ends too early")
            return None
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
        except (tarfile.TarError, ValueError) as error:
            _refuse(self.path, f"is no bundle, or damaged: {error}", _ANOTHER, error)
        if not (info.type in _PLAIN or info.isdir()):
            self._bad(f"has {info.name!r}, which is neither a plain file nor a directory")
        if info.size < 0 or (info.isdir() and info.size):
            self._bad(f"has {info.name!r}, whose size is impossible")
        return info

    def _checked_name(self, name: str, *, directory: bool = False) -> str:
        """Return a member's name relative to the run directory."""
        parts = name.rstrip("/").split("/")
        safe = len(name) <= _LONGEST_NAME and name.isprintable() and "\\" not in name
        if not safe or any(part in {"", ".", ".."} for part in parts):
            self._bad(f"has a member called {name[:_LONGEST_NAME]!r}, which leads elsewhere")
        self.top = self.top or parts[0]
        if parts[0] != self.top:
            self._bad("has more than one directory at its top")
        if len(parts) == 1 and not directory:
            self._bad(f"has {name!r} outside of its directory")
        return PurePosixPath(*parts[1:]).as_posix()

    def _content(self, name: str, size: int) -> str:
        """Put one file on disk; return its SHA-256."""
        if self.taken + size > self.most_bytes:
            self._too_large()
        assert self.top is not None  # noqa: S101 - set with the name
        target = self.directory / self.top / name
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        sha256, left = hashlib.sha256(), size
        with target.open("xb") as file:
            while left:
                part = self._read(min(left, _CHUNK_BYTES))
                if not part:
                    self._bad("ends too early")
                file.write(part)
                sha256.update(part)
                left -= len(part)
        self._read(-size % _BLOCK)
        return sha256.hexdigest()

    def _read(self, size: int) -> bytes:
        parts = []
        while size and (part := self.stream.read(size)):
            parts.append(part)
            size -= len(part)
            self.taken += len(part)
            if self.taken > self.most_bytes:
                self._too_large()
        return b"".join(parts)

    def _manifest(self) -> Manifest:
        where = f"{self.path}: {MANIFEST}"
        assert self.top is not None  # noqa: S101 - set with the name
        try:
            data = orjson.loads(read_bytes(self.directory / self.top / MANIFEST))
        except orjson.JSONDecodeError as error:
            raise InputError.single(where, f"is not JSON: {error}", _ANOTHER) from error
        if not isinstance(data, dict) or data.get("format") != BUNDLE_FORMAT:
            raise InputError.single(where, "is not that of a bundle", _NOT_OURS)
        version = data.get("format_version")
        if isinstance(version, int) and version > BUNDLE_VERSION:
            raise InputError.single(
                where,
                f"has format version {version}; this harness reads up to {BUNDLE_VERSION}",
                "use a newer qemu-ab-harness",
            )
        try:
            return adapter_of(Manifest).validate_python(data)
        except ValidationError as error:
            first = error.errors()[0]
            at = ".".join(str(part) for part in first["loc"])
            raise InputError.single(where, f"is damaged at {at}: {first['msg']}", _ANOTHER) from error

    def _compare(self, manifest: Manifest) -> None:
        """Hold what is on disk against the manifest."""
        for name, member in manifest.files.items():
            if name not in self.found:
                self._bad(f"lacks {name}, which its {MANIFEST} lists")
            if self.found[name] != member.sha256:
                self._bad(f"has a {name} that is not the one its {MANIFEST} lists: the SHA-256 differs")

    def _too_large(self) -> NoReturn:
        self._bad(f"unpacks to more than {self.most_bytes:,} bytes, which no run does")

    def _bad(self, message: str) -> NoReturn:
        _refuse(self.path, message, _ANOTHER)
