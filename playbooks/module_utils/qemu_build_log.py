# ruff: noqa: INP001 - Ansible takes each file here by itself: there can be no __init__.py
"""What a build's log says went wrong: the compiler's own words, not the last lines of a parallel build."""

from __future__ import annotations

import re

SHOWN_LINES = 15

_CAUSE = re.compile(r"\b(?:fatal )?error:|undefined reference|multiple definition|No such file|ld returned")
_PROGRESS = re.compile(r"^\[[0-9]+/[0-9]+\] |^ninja: ")
_CONFIGURE = re.compile(r"^ERROR:|: ERROR: |^error: |^patch failed")
_HOST = re.compile(
    r"No space left on device|Disk quota exceeded|Cannot allocate memory|virtual memory exhausted|"
    r"Killed signal terminated program|Read-only file system|^ *Killed$",
    re.MULTILINE,
)
_UNKNOWN = re.compile(r"^ERROR: unknown option (\S+)", re.MULTILINE)


def compile_errors(log: str) -> list[str]:
    """Return what the compiler or linker said of the first step that failed.

    ninja lets other steps end after one has failed, so that its last lines are of something else.
    """
    lines = log.splitlines()
    failed = next((number for number, line in enumerate(lines) if line.startswith("FAILED: ")), None)
    if failed is None:
        return lines[-SHOWN_LINES:]
    said = []
    # After FAILED comes the command, in one line of some thousand characters.
    for line in lines[failed + 2 :]:
        if _PROGRESS.match(line) or line.startswith("FAILED: "):
            break
        said.append(line)
    first = next((number for number, line in enumerate(said) if _CAUSE.search(line)), None)
    # The line before says in which function it is.
    start = max(0, first - 1) if first is not None else max(0, len(said) - SHOWN_LINES)
    return [lines[failed], *said[start : start + SHOWN_LINES]]


def configure_errors(log: str) -> list[str]:
    """Return what configure or meson complained of: from its first ERROR on."""
    lines = [line for line in log.splitlines() if line.strip()]
    first = next((number for number, line in enumerate(lines) if _CONFIGURE.search(line)), None)
    return lines[-SHOWN_LINES:] if first is None else lines[first : first + SHOWN_LINES]


def unknown_option(log: str) -> str | None:
    """Return the argument that a version of configure does not know."""
    found = _UNKNOWN.findall(log)
    return found[-1] if found else None


def host_at_fault(said: str) -> bool:
    """Tell whether a build failed for want of disk or memory, which says nothing of its source."""
    return _HOST.search(said) is not None
