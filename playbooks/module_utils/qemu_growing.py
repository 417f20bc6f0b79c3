# ruff: noqa: INP001 - Ansible takes each file here by itself: there can be no __init__.py
"""A working directory that outlives its build, so that of the next commit only what changed is compiled."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.qemu_source import KEY_DIGITS, key_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ansible.module_utils.qemu_source import Git

CONFIGURED = "configured"
"""Lies in a working directory whose source is complete and configured: ninja can go on there."""

_NOT_SEEN_BY_NINJA = re.compile(
    r"configure|Makefile|VERSION|meson_options\.txt|pythondeps\.toml|\.gitmodules|"
    r"scripts/meson-buildoptions\..*|python/.*|configs/.*|default-configs/.*|subprojects/.*|"
    # Parts of the tree that are repositories of their own.
    r"ui/keycodemapdb|tests/fp/berkeley-.*|dtc|meson"
)
"""What configure reads, or the role puts in place: where it changes, configure has to run again."""


class Growing:
    """The working directory of all commits that are configured and compiled alike.

    Args:
        git: reads the repository.
        parent: the directory of the builds.
        params: those of the module that builds.
    """

    def __init__(self, git: Git, parent: Path, params: dict[str, Any]) -> None:
        self.git = git
        self.params = params
        alike = {name: value for name, value in params["parts"].items() if name not in {"source", "patches"}}
        self.name = f"growing-source-{key_of(alike)[:KEY_DIGITS]}"
        self.path = parent / f".{self.name}"

    @property
    def lock_name(self) -> str:
        """The file that is locked as long as somebody builds here."""
        return f"{self.name}.lock"

    @property
    def _mark(self) -> Path:
        return self.path / CONFIGURED

    def clear(self) -> None:
        """Make room to begin from nothing."""
        shutil.rmtree(self.path, ignore_errors=True)

    def settle(self) -> None:
        """Note what the source here is: from now on ninja knows what has to be made again."""
        commit = self.params["source"]["commit"]
        patches = [patch["sha256"] for patch in self.params["patches"]]
        self._mark.write_text(json.dumps({"commit": commit, "patches": patches}), encoding="utf-8")

    def advance(self) -> str | None:
        """Make the source that of the wanted commit, touching only files that differ.

        Returns:
            The commit that was here; None where one has to begin from nothing.
        """
        try:
            here = json.loads(self._mark.read_text(encoding="utf-8"))
            before, patches = str(here["commit"]), list(here["patches"])
        except (OSError, ValueError, KeyError):
            return None
        commit = self.params["source"]["commit"]
        wanted = [patch["sha256"] for patch in self.params["patches"]]
        if patches != wanted or not self._is_safe(before, commit):
            return None
        if before != commit:
            # Whoever is killed from here on leaves a directory that nobody builds on.
            self._mark.unlink()
            repository, tree = Path(self.params["repository"]), self.path / "src"
            unpatched = self._apply(patches[::-1], "-R")
            if not (unpatched and self.git.change(repository, commit, tree) and self._apply(patches)):
                return None
            self.settle()
        return before

    def _is_safe(self, before: str, commit: str) -> bool:
        """Tell whether ninja, and meson by its order, notice all that differs between two commits."""
        differing = self.git.ask(
            Path(self.params["repository"]), "diff-tree", "-r", "--no-renames", "--name-only", before, commit
        )
        if differing is None:
            return False
        return not any(_NOT_SEEN_BY_NINJA.fullmatch(name) for name in differing.splitlines())

    def _apply(self, patches: Sequence[str], *options: str) -> bool:
        for digest in patches:
            file = Path(self.params["sources"]) / "patches" / digest
            argv = ["-C", str(self.path / "src"), "-c", "apply.whitespace=nowarn", "apply", "-p1", *options]
            code, _, _ = self.git.run(*argv, str(file), env={"GIT_CEILING_DIRECTORIES": str(self.path)})
            if code:
                return False
        return True
