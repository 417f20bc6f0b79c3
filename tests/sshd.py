"""sshd for tests: the system's, or one unpacked from its package."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

PACKAGES = ("openssh-server", "libwrap0")


def find_sshd(directory: Path) -> tuple[Path, dict[str, str]]:
    """Return an sshd and the environment it needs.

    Unpacked only: installing it would open a port on the developer's machine, at every boot.

    Args:
        directory: where it is unpacked.
    """
    environment = dict(os.environ)
    if found := shutil.which("sshd", path="/usr/sbin:/usr/local/sbin"):
        return Path(found), environment
    assert shutil.which("apt-get"), "this test needs sshd: install openssh-server"
    packages = directory / "packages"
    packages.mkdir()
    packages.chmod(0o777)  # for apt's user
    download = ["apt-get", "-q", "-o", "Acquire::Retries=3", "download", *PACKAGES]
    if subprocess.run(download, cwd=packages, check=False, timeout=300).returncode:
        # The lists are as old as the machine, or as the tests; a mirror keeps the newest package only.
        subprocess.run(["apt-get", "-q", "update"], check=True, timeout=300)
        subprocess.run(download, cwd=packages, check=True, timeout=300)
    for package in packages.glob("*.deb"):
        subprocess.run(["dpkg-deb", "--extract", str(package), str(directory / "sshd")], check=True)
    libraries = next((directory / "sshd").rglob("libwrap.so.0")).parent
    return directory / "sshd/usr/sbin/sshd", environment | {"LD_LIBRARY_PATH": str(libraries)}


def passwd() -> str:
    """Return this machine's accounts with the one that sshd's unprivileged part runs as."""
    text = Path("/etc/passwd").read_text()
    has = any(line.startswith("sshd:") for line in text.splitlines())
    return text if has else f"{text}sshd:x:64999:65534::/run/sshd:/usr/sbin/nologin\n"
