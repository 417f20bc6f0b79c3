"""libvirt's log of a QEMU process: what of it QEMU itself said.

libvirt writes its own lines around QEMU's error output: times, the whole command line, and before it the
environment, which is nobody's business and never kept.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_LIBVIRT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:.]+\+0000: ")
_QEMU_TIME = re.compile(r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z ")
_START = "starting up libvirt version"
_OWN_END = ("terminating on signal",)
"""What QEMU says when it is told to end: no cause of anything."""


def qemu_said(log: str) -> list[str]:
    """Return the lines that QEMU wrote since its last start, without times; in order."""
    lines = log[log.rfind(_START) :].splitlines() if _START in log else log.splitlines()
    said = []
    for before, line in pairwise(["", *lines]):
        of_command = before.endswith("\\") or line.endswith("\\")
        if line and not of_command and not _LIBVIRT.match(line) and _START not in line:
            said.append(_QEMU_TIME.sub("", line))
    return said


def last_words(said: Sequence[str]) -> str | None:
    """Return the line that best says why QEMU died: its last one that is no farewell; None without any."""
    words = [line for line in said if not any(end in line for end in _OWN_END)]
    return words[-1] if words else None
