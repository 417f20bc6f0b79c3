"""Small programs and libraries in C, and the scripts that make a guest's image."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "playbooks/roles/guest_image/files"


def compiled(to: Path, source: str, *options: str | Path) -> Path:
    """Return a program or library that the C compiler made."""
    if shutil.which("gcc") is None:
        pytest.fail("gcc is missing; ./bootstrap.sh installs it")
    argv = ["gcc", "-x", "c", "-o", str(to), "-", "-x", "none", *map(str, options)]
    done = subprocess.run(argv, input=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return to


def shared(to: Path, source: str, *options: str | Path, versions: str = "") -> Path:
    """Return a library, whose symbols have the versions of a linker's version script."""
    more: list[str | Path] = [*options, "-shared", "-fPIC", f"-Wl,-soname,{to.name}"]
    if versions:
        script = to.with_name(f"{to.name.split('.')[0]}.map")
        script.write_text(versions)
        more.append(f"-Wl,--version-script,{script}")
    return compiled(to, source, *more)


def script(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a script as the build of an image does."""
    argv = [sys.executable, "-B", str(SCRIPTS / name), *map(str, arguments)]
    return subprocess.run(argv, capture_output=True, text=True, check=False)
