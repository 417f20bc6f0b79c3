"""What tells whose machine something came from, replaced by words that tell nothing, everywhere the same.

Two names that differ stay different, and one name stays one, so that whatever compares them finds what it
found before. No number that was measured is touched: it is text that is looked at, and only names in it.
"""

from __future__ import annotations

import ipaddress
import re
from collections import defaultdict
from typing import TYPE_CHECKING

from harness.core.redaction import redacted
from harness.core.run_ids import host_in_run_id

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

_PUBLIC_ROOTS = frozenset({"usr", "lib", "lib32", "lib64", "bin", "sbin", "proc", "sys", "etc"})
"""Directories that look the same on everybody's machine."""

_OWN_BELOW_USR = frozenset({"local", "src"})
_KEPT = frozenset(
    {
        "var", "lib", "lib64", "usr", "bin", "sbin", "share", "libexec", "home", "tmp", "run", "opt", "srv",
        "dev", "disk", "by-id", "by-path", "by-uuid", "fdset", "channel", "target", "sessions", "counts",
        "qemu", "seabios", "ipxe", "builds", "images", "disks", "lv", "x86_64-linux-gnu",
        "aarch64-linux-gnu",
    }
)  # fmt: skip
"""Components of a path that say nothing of whose it is, and that readers of a run look for."""

_KEPT_SHAPES = re.compile(
    r"[0-9]+"
    r"|[0-9]{3,}-[\w.+-]+"  # a session's directory
    r"|domain-[0-9]+-[\w.-]+"  # libvirt's, of one boot
    r"|[\w+.-]+\.so(?:\.[0-9.]+)?"
    r"|qemu-(?:system-\w+|img|io|nbd|storage-daemon)"
    r"|virtio-disk[0-9]+"
    r"|(?:[hsv]d[a-z]+|xvd[a-z]+)[0-9]*|nvme[0-9]+(?:n[0-9]+(?:p[0-9]+)?)?|null|zero|kvm|shm|u?random"
)
_SUFFIX = re.compile(r"\.(?:raw|qcow2|img|json|xml|yml|log|sock|fd|bin|rom|so|c|h)$")
_END = r"\s/\"'`,;:|<>=(){}\[\]\\&?#*!$"
_PATH = rf"(?<![\w.~/<-])(?:/[^{_END}]+)+"
_URI = re.compile(
    r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.-]*://)(?P<host>[^/\s\"'<>\\]*)(?P<path>/[^\s\"'<>?\\]*)?"
)
_PUBLIC_HOSTS = frozenset(
    {"", "libvirt.org", "www.w3.org", "www.qemu.org", "gitlab.com", "qemu-ab-harness.invalid"}
)
_UUID = re.compile(r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b")
_MAC = re.compile(r"(?<![0-9A-Fa-f:])(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}(?![0-9A-Fa-f:])")
_IPV4 = re.compile(r"(?<![\w.+~-])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w+~-]|\.[0-9])")
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f:]{3,39}(?![\w:])")
_SERIAL = re.compile(
    r"(?P<key>\"(?:\w+_)?(?:serial(?:_number|_no)?|wwn|wwid|machine_id|asset_tag)\"\s*:\s*\")(?P<value>[^\"]+)"
)
_USERS = re.compile(rf"/(?:home|Users)/([^{_END}]+)")
_BEGAN = r"(?<=[0-9]{8}T[0-9]{6}Z-)"
"""What stands before the host in a run's id: nothing else can be meant there, be the name short or a word."""

_FEWEST_LETTERS = 4
_ORDINARY = frozenset({
    "root", "localhost", "linux", "debian", "fedora", "ubuntu", "qemu", "libvirt", "harness", "baseline",
    "contender", "host", "guest", "fio", "nobody", "read", "write", "randread", "randwrite", "native",
    "io_uring", "threads", "iops", "error", "jobs", "user", "build", "name",
})  # fmt: skip
"""Names of machines and people that are words of a run too: replacing them would change what it says."""


def users_in(text: str) -> set[str]:
    """Return the names of people whose home directories a text mentions."""
    return set(_USERS.findall(text))


class Anonymiser:
    """Replaces host names, user names, paths, addresses, UUIDs and serial numbers; secrets are taken out.

    Args:
        hosts: names of machines.
        users: names of people.
        directories: absolute paths that are private whatever they look like, also with blanks in them.
        words: words of the run itself (variants, values of factors), which are never taken for a name.
    """

    def __init__(
        self,
        *,
        hosts: Iterable[str] = (),
        users: Iterable[str] = (),
        directories: Iterable[str] = (),
        words: Iterable[str] = (),
    ) -> None:
        self._known: dict[str, dict[str, int]] = defaultdict(dict)
        known = sorted({d for d in directories if len(d) > 1}, key=lambda d: (-len(d), d))
        # With blanks in it a path has no end that could be seen: it has to be known.
        private = [rf"{re.escape(directory)}(?![\w-])(?:/[^{_END}]+)*" for directory in known]
        self._paths = re.compile("|".join([*private, _PATH]))
        ordinary = _ORDINARY | {word.lower() for word in words}
        forms = _forms_of(hosts)
        names = {(form, host, "host") for form, host in forms.items()} | {(u, u, "user") for u in users}
        self._names = [
            (re.compile(rf"{before}{re.escape(form)}(?![A-Za-z0-9])", re.IGNORECASE), name, kind)
            for form, name, kind in sorted(names, key=lambda entry: (-len(entry[0]), entry[0], entry[2]))
            for before in _befores(form, kind, ordinary)
        ]

    def text(self, text: str) -> str:
        """Return a text without what tells whose machine it came from."""
        text = redacted(text)
        text = _URI.sub(self._uri, text)
        text = self._paths.sub(lambda found: self._path(found[0]), text)
        text = _SERIAL.sub(lambda found: found["key"] + self._name("serial", found["value"]), text)
        text = _UUID.sub(self._uuid, text)
        text = _MAC.sub(self._mac, text)
        text = _IPV6.sub(self._address, text)
        text = _IPV4.sub(self._address, text)
        for pattern, name, kind in self._names:
            text = pattern.sub(self._one(kind, name), text)
        return text

    def host(self, name: str) -> str:
        """Return what stands for a machine's name."""
        return self._name("host", name)

    def _one(self, kind: str, name: str) -> Callable[[re.Match[str]], str]:
        return lambda _found: self._name(kind, name)

    def _number(self, kind: str, value: str) -> int:
        """Return the how-manieth of its kind a value is, from 1."""
        known = self._known[kind]
        return known.setdefault(value, len(known) + 1)

    def _name(self, kind: str, value: str) -> str:
        # A machine's full name and its short one are two forms of one name.
        return f"{kind}{self._number(kind, value.lower().partition('.')[0] if kind == 'host' else value)}"

    def _path(self, path: str) -> str:
        parts = path.split("/")[1:]
        if parts[0] in _PUBLIC_ROOTS and not (
            parts[0] == "usr" and parts[1:2] and parts[1] in _OWN_BELOW_USR
        ):
            return path
        return "".join(f"/{self._component(part)}" for part in parts)

    def _component(self, part: str) -> str:
        if not part or part in _KEPT or part in {".", ".."} or _KEPT_SHAPES.fullmatch(part):
            return part
        suffix = _SUFFIX.search(part)
        return f"p{self._number('path', part)}{suffix[0] if suffix else ''}"

    def _uri(self, found: re.Match[str]) -> str:
        scheme, host, path = found["scheme"], found["host"], found["path"] or ""
        if host in _PUBLIC_HOSTS and scheme != "file://":
            return found[0]
        name = self.host(host) if host else ""
        return scheme + name + (path if scheme.startswith("qemu") else self._path(path) if path else "")

    def _uuid(self, found: re.Match[str]) -> str:
        return f"00000000-0000-4000-8000-{self._number('uuid', found[0].lower()):012d}"

    def _mac(self, found: re.Match[str]) -> str:
        number = self._number("mac", found[0].lower())
        return f"02:00:00:00:{number // 256 % 256:02x}:{number % 256:02x}"

    def _address(self, found: re.Match[str]) -> str:
        try:
            address = ipaddress.ip_address(found[0])
        except ValueError:
            return found[0]
        if address.is_loopback or address.is_unspecified:
            return found[0]
        return f"address{self._number('address', str(address))}"


def _forms_of(hosts: Iterable[str]) -> dict[str, str]:
    """Return what machines are called, in full, for short and in a run's id, and which machine it is."""
    known = sorted(hosts)
    # What one is called by itself counts for more than what a run's id makes of another.
    forms = {host_in_run_id(host): host for host in known}
    forms |= {host.partition(".")[0]: host for host in known} | {host: host for host in known}
    return {form: host for form, host in forms.items() if form}


def _befores(form: str, kind: str, ordinary: Collection[str]) -> Iterator[str]:
    """Yield what has to stand before a form of a name, that it is replaced."""
    if len(form) >= _FEWEST_LETTERS and form.lower() not in ordinary:
        yield r"(?<![A-Za-z0-9])"
    if kind == "host":
        yield _BEGAN
