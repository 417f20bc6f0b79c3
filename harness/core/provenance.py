"""What a session recorded, as flat names and values that two sessions can be compared by.

``qemu.devices.disk0.num-queues: 1``. What is another at every boot (process numbers, file descriptors, the
domain's name and UUID in paths) is taken out; what could not be read is left out.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

COLLECTIONS = ("qemu.block_nodes", "qemu.iothreads", "qemu.devices")
"""Where the names themselves count: a disk more is a difference, a property nobody read is not."""

_NESTED = ("host", "guest", "qemu")
_MACHINE_VERSION = re.compile(r"-(?:rhel)?[0-9]+(?:\.[0-9]+)+$")
_OPTIONS_OF_A_BUILD = ("-L",)
"""Options that say where a build keeps its own files."""

_PER_BOOT = (
    (re.compile(r"(?<=/domain-)[0-9]+-[^/\",]*"), "..."),
    (re.compile(r"(?<=/sessions/)[^/\",]*"), "..."),
    (re.compile(r"(?<=fdset/)[0-9]+"), "..."),
    (re.compile(r"(?<=\bset=)[0-9]+(?=,fd=)"), "..."),
    (re.compile(r"(?<=\bfd=)[0-9]+"), "..."),
    (re.compile(r"(?<=\"fd\":\")[0-9]+"), "..."),
)
_PORT = re.compile(r"(?<=hostfwd=tcp:127\.0\.0\.1:)[0-9]+")
_GUEST_NAME = re.compile(r"(?:^|,)guest=([^,]*)")


def comparable(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return a session's facts as name -> value, without those that are None.

    Lists are values of their own, in a fixed order: ``argv`` and ``libraries`` too.
    """
    flat: dict[str, Any] = {name: value for name, value in facts.items() if name not in _NESTED}
    if isinstance(argv := facts.get("argv"), list):
        flat["argv"] = argv_settings([str(argument) for argument in argv])
    if isinstance(libraries := facts.get("libraries"), dict):
        flat["libraries"] = _libraries(libraries)
    for name in _NESTED:
        flat |= _flatten(name, facts.get(name))
    flat |= _families(flat)
    return {name: value for name, value in flat.items() if value is not None}


def without_port(text: str) -> str:
    """Return a setting without the port that one boot's SSH was forwarded from."""
    return _PORT.sub("...", text)


def argv_settings(argv: Sequence[str]) -> list[str]:
    """Return QEMU's command line as ``-option value`` strings, sorted, without what belongs to one boot."""
    name, uuid = _after(argv, "-name"), _after(argv, "-uuid")
    own = [text for text in (*_GUEST_NAME.findall(name or ""), uuid) if text]
    found = []
    for option, value in _pairs(argv[1:]):
        if option in _OPTIONS_OF_A_BUILD:
            continue
        for text in own:
            value = value.replace(text, "...")  # noqa: PLW2901 - one after the other
        for pattern, replacement in _PER_BOOT:
            value = pattern.sub(replacement, value)  # noqa: PLW2901 - likewise
        value = without_port(value)  # noqa: PLW2901 - likewise
        found.append(f"{option} {value}".strip())
    return sorted(found)


def _pairs(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Return options with their values; a value is whatever does not begin with a dash."""
    option, value = "", ""
    for argument in arguments:
        if argument.startswith("-"):
            if option:
                yield option, value
            option, value = argument, ""
        else:
            value = f"{value} {argument}".strip()
    if option:
        yield option, value


def _after(argv: Sequence[str], option: str) -> str | None:
    return next((value for found, value in _pairs(argv[1:]) if found == option), None)


def _libraries(libraries: Mapping[str, Any]) -> list[str]:
    # By name, not by path: two builds may each bring the same library along, in a place of its own.
    return sorted(f"{path.rpartition('/')[2]} {identity or path}" for path, identity in libraries.items())


def _flatten(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {name: value}
    flat: dict[str, Any] = {name: sorted(value)} if name in COLLECTIONS else {}
    for key, item in value.items():
        flat |= _flatten(f"{name}.{key}", item)
    return flat


def _families(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is the same machine in whatever version, and CPU flags one by one."""
    machine, flags = flat.get("qemu.machine"), flat.get("guest.cpu.flags")
    found: dict[str, Any] = {}
    if isinstance(machine, str):
        found["qemu.machine family"] = _MACHINE_VERSION.sub("", machine)
    if isinstance(flags, str):
        found["guest.cpu.flags"] = flags.split()
    return found
