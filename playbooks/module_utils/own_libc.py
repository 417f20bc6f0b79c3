# ruff: noqa: INP001 - Ansible takes each file here by itself: there can be no __init__.py
"""Unpacked programs that want a newer C library than this host has: they get one of their own.

Not by LD_LIBRARY_PATH, which whatever starts them (a shell, valgrind) obeys as well and dies of: the library
lies apart, and each program names it and its dynamic loader itself. Only these entries change, no code.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PACKAGE = "libc6"
PLACE = "libc"
"""Where it lies in a tree of packages."""

_PROGRAMS = ("bin", "usr/bin", "usr/libexec")
_VERSION = re.compile(r"(\d+)\.(\d+)")


def is_newer(version: str) -> bool:
    """Tell whether a version of the C library is of a newer release than this host's: 2.41-12 than 2.36.

    Older programs run with a newer library, and so does what differs in a distribution's revision only.
    """
    wanted, here = _VERSION.match(version), _VERSION.search(os.confstr("CS_GNU_LIBC_VERSION") or "")
    if wanted is None or here is None:
        return False
    return tuple(map(int, wanted.groups())) > tuple(map(int, here.groups()))


def bind_programs(tree: Path, final: Path, run: Callable[[list[str]], tuple[int, str, str]]) -> str | None:
    """Let a tree's programs use the C library in it.

    Args:
        tree: where the packages are unpacked.
        final: where that will be renamed to.
        run: runs a command and returns its code, output and errors.

    Returns:
        What went wrong; None when nothing did.
    """
    for program in _programs(tree):
        code, out, _ = run(["patchelf", "--print-interpreter", str(program)])
        if code:  # a script, or linked statically
            continue
        loader = next((tree / PLACE).rglob(Path(out.strip()).name), None)
        if loader is None:
            return f"{PACKAGE} has no {out.strip()}, which {program.name} starts with"
        # Debian has a link to it in lib64, where no library is.
        place = loader.resolve()
        own = final / place.relative_to(tree.resolve())
        entries = ["--set-interpreter", str(own), "--force-rpath", "--set-rpath", str(own.parent)]
        code, _, err = run(["patchelf", *entries, str(program)])
        if code:
            return f"cannot give {program.name} its own C library: {err.strip()}"
    return None


def _programs(tree: Path) -> Sequence[Path]:
    places = (tree / place for place in _PROGRAMS)
    return [
        file
        for place in places
        for file in sorted(place.glob("*"))
        if file.is_file() and not file.is_symlink()
    ]
