"""The directory of a nightly job: a directory a night, and where the branch stood last."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from harness.adapters.files import make_directory, read_json, write_json
from harness.adapters.host.locks import exclusive
from harness.adapters.process import run
from harness.core.errors import HarnessError, InputError
from harness.core.nightly import Night, is_commit

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from harness.core.nightly import Followed

_NAME = "%Y%m%dT%H%M%SZ"
_IS_NIGHT = re.compile(r"[0-9]{8}T[0-9]{6}Z")
_REMOTE_SECONDS = 120
_OFFLINE = {"GIT_TERMINAL_PROMPT": "0"}
"""A job at night has nobody to ask for a password."""


@dataclass(frozen=True, slots=True)
class Nights:
    """All nights of one job."""

    path: Path

    def alone(self) -> AbstractContextManager[None]:
        """Be the only one who works in it.

        Raises:
            BusyError: another night goes on; names the process.
        """
        return exclusive(
            make_directory(self.path) / "lock",
            what=f"the nightly job of {self.path}",
            remedy="wait for it to end, or end it: systemctl stop qemu-ab-nightly.service",
        )

    def begin(self) -> Path:
        """Return the new directory of a night that begins now."""
        directory = self.path / datetime.now(UTC).strftime(_NAME)
        make_directory(directory)
        return directory

    def all(self) -> list[Night]:
        """Return the nights there are; what else lies here is none of them."""
        directories = [entry for entry in self.path.iterdir() if entry.is_dir() and not entry.is_symlink()]
        return [
            Night(entry.name, began, _size(entry))
            for entry in directories
            if (began := _began(entry.name)) is not None
        ]

    def remove(self, night: Night) -> None:
        """Remove one night."""
        shutil.rmtree(self.path / night.name)

    def last_commit(self) -> str | None:
        """Return the commit that was measured last; None before the first night.

        Raises:
            InputError: the file that says so is damaged.
        """
        path = self.path / "last.json"
        if not path.exists():
            return None
        noted = read_json(path)
        commit = noted.get("commit") if isinstance(noted, dict) else None
        if not (isinstance(commit, str) and is_commit(commit)):
            raise InputError.single(
                f"{path}: commit", "is not the hash of a commit", "remove the file; the next night writes it"
            )
        return commit

    def keep_commit(self, commit: str, night: Path) -> None:
        """Note what was measured, for the next night."""
        write_json(self.path / "last.json", {"commit": commit, "night": night.name})


def commit_of(follow: Followed) -> str:
    """Ask a repository where a branch stands now.

    Raises:
        HarnessError: it does not answer, or has no such ref.
    """
    # "--" keeps a repository's or a ref's name from being read as an option.
    done = run(
        ["git", "ls-remote", "--exit-code", "--", follow.repository, follow.ref, f"{follow.ref}^{{}}"],
        timeout=_REMOTE_SECONDS,
        env=_OFFLINE,
        check=False,
    )
    lines = [line.split("\t") for line in done.stdout.splitlines() if "\t" in line]
    if done.returncode or not lines:
        said = done.stderr.strip().splitlines()
        why = f": {said[0]}" if said else ""
        raise HarnessError(
            f"{follow.repository} does not tell where {follow.ref} stands{why}",
            remedy=f"git ls-remote {follow.repository} {follow.ref} has to answer for this user",
        )
    exact = {name: commit for commit, name in lines}
    # Of an annotated tag the commit is wanted, which git shows as TAG^{}.
    tag = f"refs/tags/{follow.ref}"
    wanted = (follow.ref, f"refs/heads/{follow.ref}", f"{tag}^{{}}", tag)
    return next((exact[name] for name in wanted if name in exact), lines[0][0])


def _began(name: str) -> datetime | None:
    """Return when the night of a name began; None where it is no night's."""
    # strptime alone takes a name with fewer digits, too.
    if not _IS_NIGHT.fullmatch(name):
        return None
    try:
        return datetime.strptime(name, _NAME).replace(tzinfo=UTC)
    except ValueError:
        return None


def _size(directory: Path) -> int:
    """Return what a directory's files take on disk, in bytes."""
    return sum(path.lstat().st_blocks * 512 for path in directory.rglob("*"))
