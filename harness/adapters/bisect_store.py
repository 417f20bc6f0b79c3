"""The directory of a search: what was found out so far, on disk before anything goes on."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from harness.adapters.files import make_directory, read_json, read_text, write_atomic, write_json
from harness.adapters.host.locks import exclusive
from harness.adapters.results.record_files import validated
from harness.adapters.results.store import check_new, is_run_directory
from harness.core.bisecting import FORMAT_VERSION, Search
from harness.core.errors import InputError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

_HEAD = "bisect.json"


class BisectDirectory:
    """One search on disk.

    ``bisect.json`` (what is asked, every commit tested, the end), ``experiment.yml`` as the user gave it,
    ``bisect.log`` for `git bisect replay`, ``repository.git``, and in ``runs`` a run directory a commit.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path) -> BisectDirectory:
        """Make a new one, with nothing in it yet.

        Raises:
            InputError: it exists and is not empty, or may not be made.
        """
        check_new(path)
        return cls(make_directory(path))

    @classmethod
    def open(cls, path: Path) -> BisectDirectory:
        """Open one that exists.

        Raises:
            InputError: it is none.
        """
        if not (path / _HEAD).is_file():
            raise InputError.single(
                str(path), "is no directory of a bisection", "name one that `harness bisect` made"
            )
        return cls(path)

    def remove(self) -> None:
        """Take away what was put into it, and itself."""
        shutil.rmtree(self.path, ignore_errors=True)

    def writing(self) -> AbstractContextManager[None]:
        """Be this directory's only writer.

        Raises:
            BusyError: somebody else is; names the process.
        """
        return exclusive(
            self.path / ".lock", what=str(self.path), remedy="wait for the other bisection to end, or stop it"
        )

    def begin(self, search: Search, experiment: str, source: Path) -> None:
        """Put on disk what is asked.

        Args:
            search: at its start.
            experiment: the user's, its text.
            source: the user's file, beside which its patches are.
        """
        make_directory(self.path / "runs")
        write_atomic(self.path / "experiment.yml", experiment.encode())
        write_json(self.path / "source.json", {"experiment": str(source.absolute())})
        self.save(search)

    @property
    def search(self) -> Search:
        """What was found out so far.

        Raises:
            InputError: the file is damaged, or of a newer format.
        """
        path = self.path / _HEAD
        raw = read_json(path)
        if isinstance(raw, dict) and raw.get("format_version", 0) > FORMAT_VERSION:
            raise InputError.single(str(path), "was written by a newer version", "use that version")
        return validated(Search, raw, path)

    def save(self, search: Search) -> None:
        """Put on disk what was found out."""
        write_json(self.path / _HEAD, asdict(search))

    def keep_log(self, log: str) -> None:
        """Put git's own log on disk."""
        write_atomic(self.path / "bisect.log", log.encode())

    @property
    def experiment(self) -> tuple[str, Path]:
        """The user's experiment, its text, and where its file was."""
        source = Path(str(read_json(self.path / "source.json")["experiment"]))
        return read_text(self.path / "experiment.yml"), source

    @property
    def repository(self) -> Path:
        """Where git bisects."""
        return self.path / "repository.git"

    def run(self, name: str) -> Path:
        """Return the directory of a run, which is there or can be made.

        What a process that was killed left of one that never began is removed.
        """
        path = self.path / "runs" / name
        if path.exists() and not is_run_directory(path):
            shutil.rmtree(path)
        return path
