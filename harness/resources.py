"""Where the files live that a checkout has beside the package, and a wheel inside it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from harness.core.errors import HarnessError

Kind = Literal["playbooks", "templates", "fio", "inventory"]


def resource_dir(kind: Kind) -> Path:
    """Return the directory of one kind of files: the wheel's own, or else the checkout's.

    Raises:
        HarnessError: there is neither, so the installation is broken.
    """
    package = Path(__file__).resolve().parent
    for directory in (package / "_data" / kind, package.parent / kind):
        if directory.is_dir():
            return directory
    raise HarnessError(
        f"the installation lacks its {kind} ({package / '_data' / kind})",
        remedy="install qemu-ab-harness again, or run it from a checkout",
    )
