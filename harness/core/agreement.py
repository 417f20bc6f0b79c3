"""The check that all sessions of a run agree in everything but the emulator.

A verdict blames the build. It may do so only when nothing else differed: not the accelerator, not the
host's settings, not the guest's kernel, not one setting of the domain, and within one variant not even a
library. ``RULES`` says what may differ between variants, and why.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from harness.core.errors import InputError
from harness.core.provenance import comparable, without_port

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from harness.core.model import GuestConfig


class Within(StrEnum):
    """Where sessions must be equal."""

    RUN = "run"
    """In all sessions of one guest configuration."""

    VARIANT = "variant"
    """In all sessions of one variant: builds may differ in it."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What must be equal.

    Attributes:
        names: pattern of the names of `comparable`; the first rule that fits counts.
        within: where.
        why: what makes a difference between variants legitimate; empty where none is.
    """

    names: str
    within: Within
    why: str = ""


_VERSION = "the build itself"
_DEFAULT = "a default of the build, or of its version of the machine type"
_ASKED = "asked for by the experiment"

RULES = (
    # The emulator: what is compared.
    Rule("exe", Within.VARIANT, _VERSION),
    Rule("sha256", Within.VARIANT, _VERSION),
    Rule("qemu.version", Within.VARIANT, _VERSION),
    Rule("qemu.package", Within.VARIANT, _VERSION),
    Rule("qemu.kvm.present", Within.VARIANT, "how the build was configured"),
    Rule("libraries", Within.VARIANT, "what the build is linked with, or brings along"),
    Rule("argv", Within.VARIANT, "libvirt speaks to each version of QEMU in the options it knows"),
    # The machine: another version of the same one, with the defaults that go with it.
    Rule("qemu.machine", Within.VARIANT, "each build's newest version of the machine type"),
    Rule("qemu.cpu.model-id", Within.VARIANT, _DEFAULT),
    Rule("guest.cpu.*", Within.VARIANT, "the CPU features that the build offers for this CPU model"),
    # The disk: what the experiment asked for is the same in all; the rest is the build's to choose.
    Rule("qemu.devices.*.drive", Within.RUN, _ASKED),
    Rule("qemu.devices.*.serial", Within.RUN, _ASKED),
    Rule("qemu.devices.*.iothread", Within.RUN, _ASKED),
    Rule("qemu.devices.*.iothread-vq-mapping", Within.RUN, _ASKED),
    Rule("qemu.devices.*.num-queues", Within.RUN, _ASKED),
    Rule("qemu.devices.*.queue-size", Within.RUN, _ASKED),
    Rule("qemu.devices.*", Within.VARIANT, _DEFAULT),
    Rule("qemu.iothreads.*", Within.VARIANT, _DEFAULT),
    Rule("guest.disk.scheduler", Within.RUN),
    Rule("guest.disk.hw_queues", Within.RUN),
    Rule("guest.disk.nr_requests", Within.RUN),
    Rule("guest.disk.*", Within.VARIANT, "what the build's device offers to the guest"),
    # Everything else that is known of host, guest and QEMU is no build's to change.
    Rule("accel", Within.RUN),
    Rule("host_kernel", Within.RUN),
    Rule("guest_kernel", Within.RUN),
    Rule("guest_fio", Within.RUN),
    Rule("image_sha256", Within.RUN),
    Rule("host.*", Within.RUN),
    Rule("guest.*", Within.RUN),
    Rule("qemu.*", Within.RUN),
)
"""What must be equal in what; a fact that no rule names (a process number) is one session's own."""

_QEMU = "{http://libvirt.org/schemas/domain/qemu/1.0}"
_OWN = ("name", "uuid", "title", "metadata", "devices/emulator", f"{_QEMU}capabilities")
"""What of a domain belongs to one session, or to the build; or says how libvirt is to ask QEMU, whose command
line and answers are compared for themselves."""

_OPEN = "qemu.devices."
"""Where a build may know what another does not."""

_SHOWN = 60
_AROUND = 15
_FEW = 3


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """What one session ran on.

    Attributes:
        label: the session's directory.
        variant: whose build it ran.
        guest: its guest configuration; sessions are compared within one.
        facts: as recorded at its boot.
        domain_xml: its domain; None when it was not kept.
    """

    label: str
    variant: str
    guest: GuestConfig
    facts: Mapping[str, Any]
    domain_xml: str | None


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs between variants, and may.

    Attributes:
        what: the name of `comparable`.
        values: by variant; of lists only what not all have; None where a build does not know it.
        why: what makes it legitimate.
    """

    what: str
    values: Mapping[str, Any]
    why: str


@dataclass(frozen=True, slots=True)
class Agreement:
    """What all sessions share, told by what they do not.

    Attributes:
        differences: between variants, legitimate.
        disagreements: what forbids a verdict, a sentence each.
    """

    differences: tuple[Difference, ...] = ()
    disagreements: tuple[str, ...] = ()


@dataclass(slots=True)
class _Found:
    differences: dict[str, Difference] = field(default_factory=dict)
    disagreements: dict[str, None] = field(default_factory=dict)


def agreement(sessions: Sequence[SessionFacts]) -> Agreement:
    """Return in what sessions differ. Their order does not matter; a fact that is missing is not different.

    Raises:
        InputError: a domain is no XML; names the session.
    """
    found = _Found()
    groups: dict[GuestConfig, list[SessionFacts]] = defaultdict(list)
    for session in sorted(sessions, key=lambda session: session.label):
        groups[session.guest].append(session)
    for group in groups.values():
        _compare_facts(group, found)
        _compare_domains(group, found)
    return Agreement(tuple(found.differences.values()), tuple(found.disagreements))


def disagreements(sessions: Sequence[SessionFacts]) -> list[str]:
    """Return what differs between sessions and must not, a sentence each; none when all agree."""
    return list(agreement(sessions).disagreements)


def summary_of(found: Sequence[str]) -> str:
    """Return the first disagreements and how many more there are, in one sentence."""
    more = f"; and {len(found) - _FEW} more (harness show)" if len(found) > _FEW else ""
    return "; ".join(found[:_FEW]) + more


def rule_for(name: str) -> Rule | None:
    """Return the rule for a name of `comparable`; None for what is one session's own."""
    return next((rule for rule in RULES if fnmatchcase(name, rule.names)), None)


def _compare_facts(group: Sequence[SessionFacts], found: _Found) -> None:
    known = [(session, comparable(session.facts)) for session in group]
    for name in sorted({name for _session, values in known for name in values}):
        rule = rule_for(name)
        if rule is None:
            continue
        having = [(session, values[name]) for session, values in known if name in values]
        if rule.within is Within.RUN:
            found.disagreements |= dict.fromkeys(_differing(name, having))
        else:
            for variant, own in _by_variant(having).items():
                found.disagreements |= dict.fromkeys(_differing(f"{name} of {variant}", own))
        if rule.within is Within.VARIANT or name.startswith(_OPEN):
            _note(rule, name, known, found)


def _note(
    rule: Rule, name: str, known: Sequence[tuple[SessionFacts, Mapping[str, Any]]], found: _Found
) -> None:
    """Note what differs between variants: their first values that are known."""
    values: dict[str, Any] = {}
    for variant, sessions in _by_variant(known).items():
        having = [facts[name] for _session, facts in sessions if name in facts]
        if having:
            values[variant] = having[0]
        elif name.startswith(_OPEN) and any(_sibling(name, facts) for _session, facts in sessions):
            values[variant] = None
    if len({_key(value) for value in values.values()}) > 1:
        why = "only some builds know it" if None in values.values() else rule.why
        found.differences.setdefault(name, Difference(name, _particular(values), why))


def _sibling(name: str, facts: Mapping[str, Any]) -> bool:
    """Return whether another property of the same device is known: then this one is not by chance missing."""
    device = name.rpartition(".")[0] + "."
    return any(other.startswith(device) for other in facts)


def _by_variant(
    entries: Iterable[tuple[SessionFacts, Any]],
) -> dict[str, list[tuple[SessionFacts, Any]]]:
    found: dict[str, list[tuple[SessionFacts, Any]]] = defaultdict(list)
    for session, value in entries:
        found[session.variant].append((session, value))
    return dict(sorted(found.items()))


def _compare_domains(group: Sequence[SessionFacts], found: _Found) -> None:
    settings = [(s, _settings_of(s.label, s.domain_xml)) for s in group if s.domain_xml is not None]
    for key in sorted({key for _session, values in settings for key in values}):
        # Nothing is unknown of a domain: a setting that is missing is another setting.
        entries = [(session, values.get(key)) for session, values in settings]
        found.disagreements |= dict.fromkeys(_differing(f"domain setting {key}", entries))


def _settings_of(label: str, xml: str) -> dict[str, str]:
    try:
        return domain_settings(xml)
    except ValueError as error:
        raise InputError.single(f"sessions/{label}/domain.xml", f"is {error}", "restore the file") from error


def domain_settings(xml: str) -> dict[str, str]:
    """Return a domain as ``path/to/element@attribute: value``, without what is one session's own.

    Raises:
        ValueError: the text is no XML.
    """
    try:
        root = ET.fromstring(xml)  # noqa: S314 - our own file, and expat expands no external entity
    except ET.ParseError as error:
        raise ValueError(f"not XML: {error}") from error
    settings = {path: without_port(value) for path, value in _flatten(root, root.tag)}
    own = tuple(f"{root.tag}/{path}" for path in _OWN)
    return {
        path: value
        for path, value in settings.items()
        if not path.startswith(own) and not ("/serial" in path and path.endswith("source@path"))
    }


def _flatten(element: ET.Element, path: str) -> Iterator[tuple[str, str]]:
    if element.text and element.text.strip():
        yield path, element.text.strip()
    for name, value in element.attrib.items():
        yield f"{path}@{name}", value
    seen: dict[str, int] = defaultdict(int)
    for child in element:
        number = seen[child.tag]
        seen[child.tag] += 1
        yield from _flatten(child, f"{path}/{child.tag}" + (f"[{number}]" if number else ""))


def _differing(what: str, entries: Sequence[tuple[SessionFacts, Any]]) -> list[str]:
    """Return a sentence with the first two values and where they occur; none when there is one value."""
    first_of: dict[object, tuple[str, Any]] = {}
    for session, value in entries:
        # Nearly all are text, of which nothing else is told by its key.
        key = (value,) if isinstance(value, str) else _key(value)
        if key not in first_of:
            first_of[key] = session.label, value
    if len(first_of) < 2:  # noqa: PLR2004 - one value is agreement
        return []
    (here, first), (there, second), *_ = first_of.values()
    values = _particular({"first": first, "second": second})
    first, second = _told(_text(values["first"]), _text(values["second"]))
    return [f"{what} differs: {first} in session {here}, {second} in session {there}"]


def _particular(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return of lists only what not all have; other values as they are."""
    lists = [value for value in values.values() if value is not None]
    if not all(isinstance(value, list) for value in lists):
        return dict(values)
    counts = {name: Counter(_key(item) for item in value or ()) for name, value in values.items()}
    first, *others = counts.values()
    common = first.copy()
    for other in others:
        common &= other
    own = {name: (count - common).elements() for name, count in counts.items()}
    return {
        name: None if values[name] is None else [json.loads(key) for key in keys]
        for name, keys in own.items()
    }


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) or "nothing" if isinstance(value, list) else str(value)


def _told(first: str, second: str) -> tuple[str, str]:
    """Return two texts, of long ones the part in which they differ."""
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))
    start = max(0, shared - _AROUND) if max(len(first), len(second)) > _SHOWN else 0
    return _cut(first, start), _cut(second, start)


def _cut(text: str, start: int) -> str:
    text = f"...{text[start:]}" if start else text
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
