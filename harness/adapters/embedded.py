"""The root of the embedded libvirt: its configuration, and starts of guests that were cut off in it."""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
import xml.etree.ElementTree as ET
from pathlib import Path

from harness.adapters.files import PASSABLE, make_directory, write_atomic
from harness.core.errors import HypervisorError

_QEMU_CONF = """\
# Written by qemu-ab-harness: this driver lives inside the harness, for the run's own guests only.
user = "{user}"
group = "{group}"
security_driver = "none"
stdio_handler = "file"
namespaces = []
cgroup_controllers = []
remember_owner = 0
"""


def prepare_root(root: Path) -> None:
    """Make the directory and the configuration of an embedded driver.

    Raises:
        HypervisorError: the directory is somebody else's, so nothing in it can be trusted.
    """
    # QEMU runs as an ordinary user below it: the way down must be passable.
    make_directory(root, PASSABLE)
    if root.is_symlink() or root.stat().st_uid != os.geteuid():
        raise HypervisorError(
            f"{root} belongs to somebody else",
            remedy="remove it, or name another state directory (--state-dir)",
        )
    if os.geteuid() == 0:
        user = group = _qemu_user()
        conf = _QEMU_CONF.format(user=user, group=group).encode()
        path = make_directory(root / "etc") / "qemu.conf"
        if not path.exists() or path.read_bytes() != conf:
            write_atomic(path, conf)


def _qemu_user() -> str:
    """Return the user QEMU runs as: libvirt's own, or root where that one may not open /dev/kvm.

    libvirt throws away what it found out about a QEMU binary whenever that QEMU says KVM and the user
    may not use it; each start of a guest then takes 12 s longer. So it is on hosts without udev.
    """
    for name in ("libvirt-qemu", "qemu"):
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(name)
            return name if _may_use_kvm(user) else "root"
    raise HypervisorError(
        "neither user libvirt-qemu nor qemu exists: libvirt's QEMU driver is not installed",
        remedy="run `harness provision EXPERIMENT`",
    )


def _may_use_kvm(user: pwd.struct_passwd) -> bool:
    try:
        status = Path("/dev/kvm").stat()
    except FileNotFoundError:
        return True
    for_all, for_group = stat.S_IROTH | stat.S_IWOTH, stat.S_IRGRP | stat.S_IWGRP
    if status.st_gid in os.getgrouplist(user.pw_name, user.pw_gid):
        return status.st_mode & for_group == for_group
    return status.st_mode & for_all == for_all


def statuses(root: Path, prefix: str) -> list[Path]:
    """Return the status files of the guests that libvirt would find when it is opened.

    Args:
        root: of the embedded driver.
        prefix: of the domains' names.
    """
    return sorted(root.glob(f"run/qemu/{prefix}*.xml"))


def starts_cut_off(root: Path, prefix: str) -> list[Path]:
    """Return the status files of guests whose start was cut off before there was a QEMU.

    libvirt (9.0 at least) takes such a guest for one that is about to start: it holds the lock on it for ever
    and refuses to end it. So the file has to go before libvirt is opened, by whoever is alone on the host.
    """
    return [path for path in statuses(root, prefix) if _has_no_process(path)]


def _has_no_process(status: Path) -> bool:
    try:
        return ET.parse(status).getroot().get("pid") == "0"  # noqa: S314 - libvirt's own
    except (OSError, ET.ParseError):
        # libvirt ignores what it cannot read, too.
        return False
