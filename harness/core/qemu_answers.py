"""QEMU's answers to QMP's questions, cut down to what describes a guest and says the same at every boot."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from harness.core.redaction import redacted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_NODE_KEYS = ("ro", "detect_zeroes", "encrypted", "cache", "iops", "bps", "backing_file")
_IMAGE_KEYS = ("virtual-size", "cluster-size")
_GROWING = ("file",)
"""Drivers whose size is no setting: an image file grows with what is written to it."""

_POLL_KEYS = ("poll-max-ns", "poll-grow", "poll-shrink", "aio-max-batch")
_GENERATED_NODE = re.compile(r"#block[0-9]+")
_SILENT = {"hotpluggable", "hotplugged", "realized", "type", "parent_bus"}
"""Properties of every device that say nothing of how it works."""


def version(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``query-version`` as ``version`` and ``package``."""
    number = answer["qemu"]
    return {
        "version": f"{number['major']}.{number['minor']}.{number['micro']}",
        "package": answer.get("package") or None,
    }


def block_nodes(answer: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return ``query-named-block-nodes`` as node name -> driver, file and options."""
    found: dict[str, dict[str, Any]] = {}
    for node in answer:
        name = str(node.get("node-name"))
        if _GENERATED_NODE.fullmatch(name):
            # QEMU puts a random number into the names it makes up.
            name = f"#block-{sum(key.startswith('#block-') for key in found)}"
        image = node.get("image") or {}
        kept = {key: node[key] for key in _NODE_KEYS if key in node}
        if node.get("drv") not in _GROWING:
            kept |= {key: image[key] for key in _IMAGE_KEYS if key in image}
        found[name] = {"driver": node.get("drv"), "file": _file(str(node.get("file"))), **kept}
    return found


def _file(text: str) -> str:
    """Return a node's file; a pseudo-file name in JSON has its keys in order."""
    if text.startswith("json:"):
        try:
            return "json:" + json.dumps(json.loads(text[5:]), sort_keys=True)
        except (ValueError, RecursionError):
            pass  # Cut off by QEMU: compared as it is.
    return redacted(text)


def iothreads(answer: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return ``query-iothreads`` as id -> its polling; not the thread's number, another at every boot."""
    return {str(thread["id"]): {key: thread[key] for key in _POLL_KEYS if key in thread} for thread in answer}


def devices_of(path: str, answer: Iterable[Mapping[str, Any]], type_name: str) -> Iterator[str]:
    """Return the paths of the devices of one type in what ``qom-list`` says of a container."""
    for entry in answer:
        if str(entry.get("type")).startswith(f"child<{type_name}"):
            yield f"{path}/{entry.get('name')}"


def telling_properties(answer: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Return which of a device's properties, as ``qom-list`` gives them, say how it works."""
    for entry in answer:
        name, kind = str(entry.get("name")), str(entry.get("type"))
        if not (kind.startswith("child<") or name in _SILENT or name.startswith("legacy-")):
            yield name
