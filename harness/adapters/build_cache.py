"""The directory of builds: what is in it, what is in use, and how something is taken out."""

from __future__ import annotations

import contextlib
import os
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from harness.adapters.files import make_directory
from harness.adapters.host.locks import exclusive, holder_of
from harness.core.builds import CachedBuild
from harness.core.errors import HarnessError
from harness.core.model import SourceRecord

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

_RECORD, _SOURCE, _PACKAGES = "build.json", "source.json", "tree.json"
_WORKING = (".making-", ".removing-", ".growing-")
_BLOCK_BYTES = 512


class BuildCache:
    """The builds below a state directory.

    Args:
        state: the state directory.
    """

    def __init__(self, state: Path) -> None:
        self._state = state
        self.directory = state / "builds"

    def builds(self) -> list[CachedBuild]:
        """Return everything that lies there, working directories of builds included; the last used first."""
        if not self.directory.is_dir():
            return []
        found = [
            _read(entry)
            for entry in self.directory.iterdir()
            if entry.is_dir() and (not entry.name.startswith(".") or entry.name.startswith(_WORKING))
        ]
        return sorted(found, key=lambda build: (-build.used, build.name))

    def protected(self, *, named_too: bool = False) -> dict[str, str]:
        """Return why some must not be removed: made now, running, or named by an experiment's manifest.

        Args:
            named_too: do not protect for being named by a manifest.
        """
        reasons = {} if named_too else dict(self._named())
        reasons |= dict(self._running())
        for build in self.builds():
            lock = self._lock(build.name)
            if lock is not None and (holder := holder_of(lock)):
                reasons[build.name] = f"made at the moment by {holder}"
        return reasons

    def _lock(self, name: str) -> Path | None:
        """Return the lock that is held while something is made; None where nothing can be."""
        final = name.removeprefix(".making-").removeprefix(".")
        if final.startswith(("source-", "growing-source-")):
            return self.directory / ".locks" / f"{final}.lock"
        # Packages are unpacked under one lock, in working directories with names of no meaning.
        return self._state / "apt" / "lock" if name.startswith(_WORKING) else None

    def remove(self, name: str) -> None:
        """Take a directory out: nothing that is half removed ever looks complete.

        Raises:
            BusyError: it is being made.
            HarnessError: it cannot be removed.
        """
        path, lock = self.directory / name, self._lock(name)
        doomed = path if name.startswith(_WORKING) else self.directory / f".removing-{name}"
        try:
            with self._held(lock, path):
                if doomed != path:
                    path.rename(doomed)
                shutil.rmtree(doomed)
            for link in self.directory.glob(".requests/*"):
                # From what was asked for to what answered it.
                if link.is_symlink() and not link.exists():
                    link.unlink()
        except OSError as error:
            raise HarnessError(
                f"cannot remove {path}: {error.strerror}", remedy="run it as the user who made the builds"
            ) from error

    @staticmethod
    def _held(lock: Path | None, path: Path) -> AbstractContextManager[None]:
        if lock is None:
            return nullcontext()
        make_directory(lock.parent)
        return exclusive(lock, what=str(path), remedy="wait until it is made")

    def logs_of_failures(self) -> list[Path]:
        """Return the logs of builds that failed and are not being made again."""
        logs = sorted(self.directory.glob(".logs/*.log"))
        return [log for log in logs if not holder_of(self.directory / ".locks" / f"{log.stem}.lock")]

    def _owner(self, path: str) -> str | None:
        """Return the directory of the cache that a file belongs to."""
        try:
            return Path(path).relative_to(self.directory).parts[0]
        except (ValueError, IndexError):
            return None

    def _named(self) -> Iterator[tuple[str, str]]:
        for manifest in sorted(self._state.glob("manifests/*.json")):
            builds = (_json(manifest) or {}).get("builds") or {}
            for variant, record in builds.items():
                if name := self._owner(str(record.get("emulator"))):
                    yield name, f"{variant} of the experiment {manifest.stem}"

    def _running(self) -> Iterator[tuple[str, str]]:
        for process in Path("/proc").glob("[0-9]*"):
            # A process that has just ended, or somebody else's.
            with contextlib.suppress(OSError):
                if name := self._owner(str((process / "exe").readlink())):
                    yield name, f"running as process {process.name}"


def _read(path: Path) -> CachedBuild:
    record = _json(path / _RECORD) or {}
    made, packages = _json(path / _SOURCE), _json(path / _PACKAGES)
    source = None
    if made:
        with contextlib.suppress(KeyError, TypeError):
            source = SourceRecord.read(made["source"])
    complete = not path.name.startswith(".") and bool(source or packages)
    kind = "package" if packages else None
    if source is not None:
        kind = "git" if source.commit else "tarball"
    return CachedBuild(
        name=path.name,
        kind=kind,
        version=record.get("version"),
        package_version=(packages or {}).get("version"),
        source=source,
        key=source.key if source else path.name.rpartition("-")[2],
        parts=(made or {}).get("parts") or (packages or {}).get("versions") or {},
        complete=complete,
        size_bytes=_size_bytes(path),
        used=_used(path),
    )


def _json(path: Path) -> dict[str, Any] | None:
    with contextlib.suppress(OSError, orjson.JSONDecodeError):
        found = orjson.loads(path.read_bytes())
        return found if isinstance(found, dict) else None
    return None


def _used(path: Path) -> float:
    """Return when a build was provisioned last: its record is touched each time."""
    for file in (path / _RECORD, path / _SOURCE, path / _PACKAGES, path):
        with contextlib.suppress(OSError):
            return file.stat().st_mtime
    return 0.0


def _size_bytes(path: Path) -> int:
    total = 0
    for directory, _subdirectories, files in os.walk(path):
        for name in files:
            with contextlib.suppress(OSError):
                total += (Path(directory) / name).lstat().st_blocks * _BLOCK_BYTES
    return total
