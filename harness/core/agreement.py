"""The check that all sessions of a run agree in everything but the emulator.

A verdict blames the build. It may do so only when nothing else differed: not the accelerator, not the
host's kernel, not the guest's, not one setting of the domain.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

COMPARED_FACTS = ("accel", "host_kernel", "guest_kernel", "guest_fio", "image_sha256")
"""What every session records and all must share."""

_OWN = ("name", "uuid", "title", "metadata", "devices/emulator")
"""What belongs to one session, or to the build."""


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """What one session ran on.

    Attributes:
        label: the session's directory.
        guest: its guest configuration; sessions are compared within one.
        facts: as recorded at its boot.
        domain_xml: its domain; None when it was not kept.
    """

    label: str
    guest: tuple[tuple[str, Any], ...]
    facts: Mapping[str, Any]
    domain_xml: str | None


def disagreements(sessions: Sequence[SessionFacts]) -> list[str]:
    """Return what differs between sessions and must not, a sentence each; none when all agree."""
    found: list[str] = []
    groups: dict[tuple[tuple[str, Any], ...], list[SessionFacts]] = defaultdict(list)
    for session in sessions:
        groups[session.guest].append(session)
    for group in groups.values():
        for name in COMPARED_FACTS:
            found += _differing(name, [(s.label, s.facts.get(name)) for s in group])
        settings = [(s.label, domain_settings(s.domain_xml)) for s in group if s.domain_xml is not None]
        for key in sorted({key for _label, values in settings for key in values}):
            found += _differing(f"domain setting {key}", [(label, v.get(key)) for label, v in settings])
    return list(dict.fromkeys(found))


def domain_settings(xml: str) -> dict[str, str]:
    """Return a domain as ``path/to/element@attribute: value``, without what is one session's own.

    Raises:
        ValueError: the text is no XML.
    """
    try:
        root = ET.fromstring(xml)  # noqa: S314 - our own file, and expat expands no external entity
    except ET.ParseError as error:
        raise ValueError(f"not XML: {error}") from error
    settings = dict(_flatten(root, root.tag))
    own = tuple(f"{root.tag}/{path}" for path in _OWN)
    return {
        path: value
        for path, value in settings.items()
        if not path.startswith(own) and not ("/serial" in path and path.endswith("source@path"))
    }


def _flatten(element: ET.Element, path: str) -> Iterable[tuple[str, str]]:
    if element.text and element.text.strip():
        yield path, element.text.strip()
    for name, value in element.attrib.items():
        yield f"{path}@{name}", value
    seen: dict[str, int] = defaultdict(int)
    for child in element:
        number = seen[child.tag]
        seen[child.tag] += 1
        yield from _flatten(child, f"{path}/{child.tag}" + (f"[{number}]" if number else ""))


def _differing(what: str, values: Sequence[tuple[str, Any]]) -> list[str]:
    by_value: dict[Any, str] = {}
    for label, value in values:
        by_value.setdefault(value, label)
    if len(by_value) < 2:  # noqa: PLR2004 - one value is agreement
        return []
    (first, here), (second, there), *_ = by_value.items()
    return [f"{what} differs: {first} in session {here}, {second} in session {there}"]
