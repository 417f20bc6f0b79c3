"""Block devices of this host: what they are made of, what is stacked upon them, and who uses them."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.adapters import process
from harness.adapters.host.facts import read_setting
from harness.core.device_use import Use, UseKind
from harness.core.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_LOOKS_SECONDS = 30.0
_OCTAL = re.compile(r"\\([0-7]{3})")
_LOOK_BRIEFLY = ("systemd-udevd", "(udev-worker)", "udevd")
"""What opens a device for a moment whenever somebody has closed it."""

_TABLES = frozenset({"dos", "gpt", "PMBR", "sun", "sgi", "bsd", "mac", "atari", "dasd"})
_STACKED = frozenset({UseKind.MOUNTED, UseKind.SWAP, UseKind.HELD, UseKind.LOOP})


@dataclass(frozen=True, slots=True)
class BlockDevices:
    """The host's block devices, by the kernel's names (``sda``).

    Attributes:
        root: what stands for / ; another one in tests.
    """

    root: Path = Path("/")

    def name_of(self, path: Path) -> str:
        """Return the kernel's name of the device that a path leads to.

        Raises:
            OSError: there is none, or it is no block device.
        """
        status = path.stat()
        if not stat.S_ISBLK(status.st_mode):
            raise OSError(errno.ENOTBLK, os.strerror(errno.ENOTBLK))
        number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
        return (self.root / "sys/dev/block" / number).resolve(strict=True).name

    def namespaces(self, address: str) -> list[str]:
        """Return the NVMe namespaces at a PCI address, as far as the host's driver has them."""
        device = self.root / "sys/bus/pci/devices" / address
        # With native multipath they hang on the subsystem, and on the controller under a hidden name.
        places = [*device.glob("nvme/nvme*/nvme*n*"), *device.glob("nvme/nvme*/subsystem*/nvme*n*")]
        names = {place.name for place in places}
        return sorted(name for name in names if read_setting(self._sysfs / name / "dev") is not None)

    def identity(self, name: str) -> tuple[str | None, ...]:
        """Return what tells a device from another one that was plugged in later."""
        return tuple(read_setting(self._sysfs / name / key) for key in ("diskseq", "size", "dev"))

    def uses(self, name: str, *, processes: bool = True, privileged: bool = True) -> list[Use]:
        """Return everything that a device, its partitions and what is stacked upon it are used for.

        Args:
            name: the kernel's.
            processes: also look for processes that hold it open.
            privileged: fail where this user may not look at its content; otherwise leave that out.

        Raises:
            HarnessError: it cannot be looked at.
        """
        above, below = self._above(name), self._below(name)
        found = [*self._mounts({*above, *below}), *self._swaps({*above, *below})]
        found += [*self._holders(above), *self._loops(above)]
        if self._is_read_only(name):
            found.append(Use(UseKind.READ_ONLY, name, ""))
        try:
            stacked = any(use.kind in _STACKED for use in found)
            # Whoever is named already holds it, and a partition's holder its disk: said once is enough.
            found += [] if stacked else self._claims(above)
            found += self._signatures(name)
        except PermissionError as error:
            if privileged:
                raise HarnessError(
                    f"{self._node(name)}: {error.strerror}",
                    remedy="run as root, or as one who may open it",
                ) from error
        return [*found, *(self._openers(above) if processes else ())]

    def file_use(self, path: Path) -> str | None:
        """Return what the kernel uses a file for (``used as swap``, ``behind /dev/loop0``), or None."""
        for line in self._swap_lines():
            if _same_file(path, Path(_unescaped(line.split()[0]))):
                return "used as swap"
        for backing in sorted(self._sysfs.glob("loop*/loop/backing_file")):
            if _same_file(path, Path(read_setting(backing) or "")):
                return f"behind /dev/{backing.parent.parent.name}"
        return None

    # -- what it is made of ----------------------------------------------------------------------------------

    @property
    def _sysfs(self) -> Path:
        return self.root / "sys/class/block"

    def _node(self, name: str) -> Path:
        return self.root / "dev" / name.replace("!", "/")

    def _above(self, name: str) -> list[str]:
        """Return a device, its partitions, and everything stacked upon any of them."""
        return _closure(name, lambda one: [*self._partitions(one), *self._names(one, "holders")])

    def _below(self, name: str) -> list[str]:
        """Return what a device lies on: the disk of a partition, the members of a volume."""
        return _closure(name, lambda one: [*self._disk_of(one), *self._names(one, "slaves")])[1:]

    def _partitions(self, name: str) -> list[str]:
        return sorted(path.parent.name for path in (self._sysfs / name).glob("*/partition"))

    def _disk_of(self, name: str) -> list[str]:
        here = self._sysfs / name
        return [here.resolve().parent.name] if (here / "partition").exists() else []

    def _names(self, name: str, kind: str) -> list[str]:
        with contextlib.suppress(OSError):
            return sorted(path.name for path in (self._sysfs / name / kind).iterdir())
        return []

    # -- who uses it -----------------------------------------------------------------------------------------

    def _mounts(self, names: set[str]) -> Iterator[Use]:
        numbers = {read_setting(self._sysfs / name / "dev"): name for name in names}
        seen: set[tuple[str, str]] = set()
        for line in self._mount_lines():
            fields = line.split(" ")
            source = fields[fields.index("-") + 2] if "-" in fields else ""
            # btrfs and others have a number of their own: then the source says where they lie.
            name = numbers.get(fields[2]) or self._named_by(source, names)
            if name and (name, fields[4]) not in seen:
                seen.add((name, fields[4]))
                yield Use(UseKind.MOUNTED, name, _unescaped(fields[4]))

    def _mount_lines(self) -> Iterator[str]:
        """Return the mounts of every namespace that this user may see: a container's count too."""
        namespaces: set[str] = set()
        for entry in [self.root / "proc/self", *(self.root / "proc").glob("[0-9]*")]:
            with contextlib.suppress(OSError):
                namespace = str((entry / "ns/mnt").readlink())
                if namespace not in namespaces:
                    text = (entry / "mountinfo").read_text(errors="replace")
                    namespaces.add(namespace)
                    yield from text.splitlines()

    def _named_by(self, source: str, names: set[str]) -> str | None:
        if not source.startswith("/dev/"):
            return None
        name = (self.root / source.lstrip("/")).resolve().name
        return name if name in names else None

    def _swaps(self, names: set[str]) -> Iterator[Use]:
        for line in self._swap_lines():
            if name := self._named_by(_unescaped(line.split()[0]), names):
                yield Use(UseKind.SWAP, name, "")

    def _swap_lines(self) -> list[str]:
        return (read_setting(self.root / "proc/swaps") or "").splitlines()[1:]

    def _holders(self, names: Iterable[str]) -> Iterator[Use]:
        for name in names:
            for holder in self._names(name, "holders"):
                yield Use(UseKind.HELD, name, self._called(holder))

    def _called(self, holder: str) -> str:
        """Return a stacked device in words: ``the LVM volume vg-data (dm-0)``."""
        here = self._sysfs / holder
        label, uuid = read_setting(here / "dm/name"), read_setting(here / "dm/uuid") or ""
        if label:
            kind = {"LVM": "LVM volume", "CRYPT": "encrypted device", "mpath": "multipath device"}
            return f"the {kind.get(uuid.partition('-')[0], 'device-mapper device')} {label} ({holder})"
        if (here / "md").is_dir():
            return f"the RAID array {holder} ({read_setting(here / 'md/level') or 'unknown level'})"
        if (here / "bcache").exists():
            return f"the bcache device {holder}"
        return holder

    def _loops(self, names: Iterable[str]) -> Iterator[Use]:
        wanted = set(names)
        for backing in sorted(self._sysfs.glob("loop*/loop/backing_file")):
            if name := self._named_by(read_setting(backing) or "", wanted):
                yield Use(UseKind.LOOP, name, f"/dev/{backing.parent.parent.name}")

    def _is_read_only(self, name: str) -> bool:
        return read_setting(self._sysfs / name / "ro") == "1"

    def _claims(self, names: Iterable[str]) -> list[Use]:
        """Ask the kernel: it grants a second exclusive opening to nobody."""
        found = []
        for name in names:
            try:
                os.close(os.open(self._node(name), os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
            except PermissionError:
                raise
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise HarnessError(f"{self._node(name)}: {error.strerror}") from error
                found.append(Use(UseKind.CLAIMED, name, ""))
        # A partition's claim is also its disk's.
        return found[-1:]

    def _signatures(self, name: str) -> list[Use]:
        node = self._node(name)
        os.close(os.open(node, os.O_RDONLY | os.O_CLOEXEC))
        # Unlike blkid, wipefs shows all there are, also where they contradict each other.
        answer = process.run(["wipefs", "--no-act", "--json", str(node)], timeout=_LOOKS_SECONDS).stdout
        if not answer.strip():
            return []
        partitions = self._partitions(name)
        kinds = dict.fromkeys(str(entry["type"]) for entry in json.loads(answer)["signatures"])
        return [Use(UseKind.SIGNATURE, name, _signature(kind, partitions)) for kind in kinds]

    def _openers(self, names: Iterable[str]) -> list[Use]:
        """Return the processes that have a device open: another QEMU takes no exclusive hold."""
        numbers = {read_setting(self._sysfs / name / "dev"): name for name in names}
        found: dict[tuple[str, str], Use] = {}
        for entry in (self.root / "proc").glob("[0-9]*"):
            comm = read_setting(entry / "comm") or "?"
            if entry.name == str(os.getpid()) or comm in _LOOK_BRIEFLY:
                continue
            with contextlib.suppress(OSError):
                for name in filter(None, (_open_device(link, numbers) for link in (entry / "fd").iterdir())):
                    found[name, entry.name] = Use(UseKind.OPEN, name, f"process {entry.name} ({comm})")
        return list(found.values())


def _open_device(link: Path, numbers: dict[str | None, str]) -> str | None:
    with contextlib.suppress(OSError):
        if str(link.readlink()).startswith("/dev/"):
            status = link.stat()
            if stat.S_ISBLK(status.st_mode):
                return numbers.get(f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}")
    return None


def _same_file(path: Path, other: Path) -> bool:
    with contextlib.suppress(OSError):
        return path.samefile(other)
    return False


def _unescaped(text: str) -> str:
    """Return what the kernel wrote with octal numbers for blanks."""
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), text)


def _signature(kind: str, partitions: list[str]) -> str:
    if kind in _TABLES:
        listed = f" ({', '.join(partitions)})" if partitions else ""
        return f"a partition table of the type {kind}{listed}"
    return f"data of the type {kind}"


def _closure(name: str, more: Callable[[str], list[str]]) -> list[str]:
    """Return a name and everything that can be reached from it, the nearest first."""
    found: list[str] = []
    waiting = [name]
    while waiting:
        one = waiting.pop(0)
        if one not in found:
            found.append(one)
            waiting += more(one)
    return found
