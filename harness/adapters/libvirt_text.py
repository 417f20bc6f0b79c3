"""What is read of libvirt's texts: a domain's XML, answers that come through it, and where its logs are."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import orjson

from harness.core.errors import HypervisorError

__all__ = ["log_directory", "name_and_files", "read_answer"]

_SHOWN, _MOST_SAID = 60, 1000


def read_answer(who: str, text: str) -> Any:
    """Return the ``return`` of an answer, as JSON that a run directory can hold: whoever sent it.

    Raises:
        HypervisorError: it is another thing, or an error.
    """
    try:
        answer = orjson.loads(text)
        # Neither nested without end nor with numbers that no record can hold.
        orjson.dumps(answer)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError) as error:
        raise HypervisorError(f"{who}: the answer cannot be read: {error}") from error
    if not isinstance(answer, dict) or not answer.keys() & {"return", "error"}:
        raise HypervisorError(f"{who}: the answer is none: {text:.{_SHOWN}}")
    if "error" in answer:
        failure = answer["error"]
        said = failure.get("desc", failure) if isinstance(failure, dict) else failure
        raise HypervisorError(f"{who}: {said!s:.{_MOST_SAID}}")
    return answer["return"]


def name_and_files(xml: str) -> tuple[str, bool]:
    """Return a domain's name, and whether it holds disks or devices of the host."""
    try:
        root = ET.fromstring(xml)  # noqa: S314 - the harness rendered it
    except ET.ParseError:
        return "", True  # libvirt has better words for it
    holds = any(root.find(f"devices/{kind}") is not None for kind in ("disk", "hostdev"))
    return root.findtext("name", ""), holds


def log_directory(uri: str, embed_root: Path) -> Path | None:
    """Return where libvirt keeps the logs of this connection's QEMU processes; None on another host."""
    if uri.startswith("qemu:///embed"):
        return embed_root / "log" / "qemu"
    if uri.startswith("qemu:///system"):
        return Path("/var/log/libvirt/qemu")
    if uri.startswith("qemu:///session"):
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(cache) / "libvirt" / "qemu" / "log"
    return None
