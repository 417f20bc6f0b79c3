"""An ordinary user, for tests that run as root."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]

SOMEBODY = "54321"
"""A user of no name, no home and no groups."""


class Somebody:
    """An ordinary user with a directory of their own."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def own(self) -> None:
        if os.geteuid() == 0:
            subprocess.run(["chown", "-R", f"{SOMEBODY}:{SOMEBODY}", str(self.home)], check=True)

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        self.own()
        # What root may, root's capabilities included, is given up for good.
        argv = ["setpriv", f"--reuid={SOMEBODY}", f"--regid={SOMEBODY}", "--clear-groups"]
        argv += ["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
        if os.geteuid() != 0:
            argv = []  # an ordinary user as it is
        return subprocess.run(
            [*argv, sys.executable, "-m", "harness", *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.home,
            env={
                "PATH": "/usr/local/bin:/usr/bin:/bin",
                "HOME": str(self.home),
                "TMPDIR": str(self.home / "tmp"),
                "PYTHONPATH": str(ROOT),
                "PYTHONDONTWRITEBYTECODE": "1",
            },
        )


@contextlib.contextmanager
def somebody() -> Iterator[Somebody]:
    """Provide an ordinary user, whose directory is gone afterwards."""
    home = Path(tempfile.mkdtemp(prefix="ab-somebody-", dir="/tmp"))
    (home / "tmp").mkdir()
    try:
        yield Somebody(home)
    finally:
        shutil.rmtree(home)
