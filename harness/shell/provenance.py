"""What a run ran on, as lines for people: what differs between its variants, host, QEMU's view, guest."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_WIDTH = 118
_HANGING = 12
_BUILD_ITSELF = ("exe", "sha256", "qemu.version", "qemu.package")
"""What the builds' own lines say already."""

_TELLING = (
    "num-queues", "queue-size", "iothread", "iothread-vq-mapping", "seg-max-adjust", "discard",
    "write-zeroes", "event_idx", "indirect_desc", "packed", "ioeventfd", "request-merging", "config-wce",
)  # fmt: skip
"""Which of a device's hundred properties are shown without being asked for."""


def difference_lines(found: Mapping[str, Any], *, full: bool) -> Iterator[str]:
    """Return what sessions and variants differ in: first what forbids a verdict."""
    if found["disagreements"]:
        yield "  no verdict, since sessions differ in more than the build:"
        for sentence in found["disagreements"]:
            yield f"    {sentence}"
    shown = [entry for entry in found["differences"] if full or entry["what"] not in _BUILD_ITSELF]
    if shown:
        variants = dict.fromkeys(variant for entry in shown for variant in entry["values"])
        yield f"  what differs between {' and '.join(variants)}, as builds may:"
        yield from _every(shown) if full else _grouped(shown)


def _every(differences: list[dict[str, Any]]) -> Iterator[str]:
    for entry in differences:
        yield f"    {entry['what']} ({entry['why']}):"
        for variant, value in entry["values"].items():
            yield from _tree(variant, "does not know it" if value is None else value, 6)


def _grouped(differences: list[dict[str, Any]]) -> Iterator[str]:
    """Return a paragraph a fact, and one for all properties of a device."""
    groups: dict[str, list[str]] = {}
    devices: dict[str, dict[str, list[str]]] = {}
    for entry in differences:
        what, values = entry["what"], entry["values"]
        known = {variant: value for variant, value in values.items() if value is not None}
        if what.startswith("qemu.devices."):
            device, _dot, name = what.removeprefix("qemu.devices.").rpartition(".")
            ways = devices.setdefault(device, {})
            if len(known) < len(values):
                ways.setdefault(f"only {', '.join(known)} knows", []).append(name)
            else:
                ways.setdefault("", []).append(f"{name} {_each(values)}")
        elif any(isinstance(value, list) for value in known.values()):
            groups[what] = [
                f"only {variant}: {names_text(value)}" for variant, value in known.items() if value
            ]
        else:
            groups[what] = [_each(values)]
    for device, ways in devices.items():
        groups[device] = [f"{way} {', '.join(names)}".strip() for way, names in ways.items()]
    for name, parts in groups.items():
        yield from _wrapped(f"  {name}", "; ".join(parts))


def _each(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{variant} {value_text(value)}" for variant, value in values.items())


def names_text(value: Any) -> str:
    """Return a list's entries, libraries without their identities; anything else as `value_text` has it."""
    if not isinstance(value, list):
        return value_text(value)
    names = (str(item).partition(" build-id:")[0].partition(" sha256:")[0] for item in value)
    return ", ".join(names) or "nothing"


def host_lines(environment: Mapping[str, Any], *, full: bool) -> Iterator[str]:
    """Return the host as recorded at the run's start."""
    host = environment.get("host") or {}
    cpu, places = host.get("cpu") or {}, host.get("topology") or {}
    where = ""
    if places.get("cores"):
        where = (
            f" ({places.get('sockets')} socket(s), {places['cores']} cores, "
            f"{places.get('threads_per_core')} thread(s) a core, {len(places.get('numa_nodes') or {})} NUMA)"
        )
    kernel = host.get("kernel")
    yield f"  host      {host.get('name')}: {cpu.get('model')} x {cpu.get('count')}{where}, {kernel}"
    settings = {**(host.get("settings") or {}), **(host.get("sysctl") or {})}
    known = [f"{name} {_choice(value)}" for name, value in settings.items() if value is not None]
    if known:
        yield from _wrapped("settings", ", ".join(known))
    if full:
        yield from _tree("host", host)
    commit = environment.get("harness_commit")
    built = f" ({commit})" if commit else ""
    yield (
        f"  libvirt   {environment.get('libvirt')}, python {environment.get('python')}, "
        f"harness {environment.get('harness')}{built}"
    )


def tuning_lines(summary: Mapping[str, Any]) -> Iterator[str]:
    """Return what the run changed of its host, and what changed meanwhile."""
    if tuned := summary["tuned"]:
        told = [f"{change['setting']} {change['during']} (was {change['before']})" for change in tuned]
        yield from _wrapped("tuned", ", ".join(dict.fromkeys(told)))
    for sentence in summary["drift"]:
        yield from _wrapped("changed", sentence)
    for sentence in summary["damaged"]:
        yield from _wrapped("damaged", sentence)


def qemu_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """Return QEMU's own view of the guest of one session."""
    qemu = facts.get("qemu")
    if not qemu:
        return
    cpu = qemu.get("cpu") or {}
    threads = [
        f"{name} (polls up to {polling.get('poll-max-ns')} ns)"
        for name, polling in (qemu.get("iothreads") or {}).items()
    ]
    yield f"  QEMU      {qemu.get('machine')}, {qemu.get('cpus')} x {cpu.get('type')}, " + (
        ", ".join(threads) or "no IOThread"
    )
    for name, node in (qemu.get("block_nodes") or {}).items():
        cache = ", ".join(key for key, on in (node.get("cache") or {}).items() if on)
        text = f"{name}: {node.get('driver')} {node.get('file')}, cache {cache or 'none'}"
        yield from _wrapped("node", text)
    for name, properties in (qemu.get("devices") or {}).items():
        told = [f"{key} {value_text(properties[key])}" for key in _TELLING if properties.get(key) is not None]
        yield from _wrapped("device", f"{name}: {', '.join(told)}")


def guest_lines(facts: Mapping[str, Any], image: Mapping[str, Any]) -> list[str]:
    """Return the guest of one session as it sees itself; of an older run, as it was provisioned."""
    kernel = facts.get("guest_kernel") or image.get("kernel_version")
    if kernel is None:
        return []  # there was no guest
    distribution = (facts.get("guest") or {}).get("distribution") or image.get("distribution")
    text = f"{distribution}, " if distribution else ""
    text += f"Linux {kernel}, {facts.get('guest_fio') or image.get('fio_version')}"
    if guest := facts.get("guest"):
        disk = guest.get("disk") or {}
        text += (
            f", CPUs {guest.get('cpus')}, {len(guest.get('modules') or ())} modules; disk: "
            f"scheduler {_choice(disk.get('scheduler'))}, nr_requests {disk.get('nr_requests')}, "
            f"hw_queues {disk.get('hw_queues')}, rotational {disk.get('rotational')}"
        )
    return _wrapped("guest", text)


def fact_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """Return everything that is known of one session."""
    for name, value in facts.items():
        yield from _tree(name, value)


def _tree(name: str, value: Any, indent: int = 4) -> Iterator[str]:
    space = " " * indent
    if isinstance(value, dict) and value:
        yield f"{space}{name}:"
        for key, item in value.items():
            yield from _tree(str(key), item, indent + 2)
    elif isinstance(value, list) and len(value_text(value)) > _WIDTH:
        yield f"{space}{name}:"
        yield from (f"{space}  {value_text(item)}" for item in value)
    else:
        yield f"{space}{name}: {value_text(value)}"


def _choice(value: Any) -> str:
    """Return what is chosen of the kernel's ``always [madvise] never``."""
    text = str(value)
    return text.partition("[")[2].partition("]")[0] or text


def value_text(value: Any) -> str:
    """Return a fact's value for people."""
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _wrapped(name: str, text: str) -> list[str]:
    """Return a paragraph that hangs behind its name."""
    head = f"  {name:<9} "
    behind = " " * min(len(head), _HANGING)
    return textwrap.wrap(
        text, width=_WIDTH, initial_indent=head, subsequent_indent=behind, break_on_hyphens=False
    )
