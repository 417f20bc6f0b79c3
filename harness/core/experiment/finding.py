"""A contradiction between settings of an experiment."""

from __future__ import annotations

from dataclasses import dataclass

from harness.core.experiment.paths import Path, path_text


@dataclass(frozen=True, slots=True)
class Finding:
    """A contradiction.

    Attributes:
        paths: the keys that contradict one another; the first is the one to report.
        message: what is wrong.
        remedy: how to put it right.
    """

    paths: tuple[Path, ...]
    message: str
    remedy: str

    @property
    def key(self) -> str:
        """The key to report, as messages show it."""
        return path_text(self.paths[0])
