"""Three hosts on one machine: real sshd servers in namespaces of their own, which can lose their power."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from support import ROOT
from tiny import wait_until

SCRIPT = Path(__file__).with_name("fleet_host.sh")
UNSHARE = ("unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc")
SSHD_PACKAGES = ("openssh-server", "libwrap0")


@dataclass
class Host:
    """A host of the fleet.

    Attributes:
        directory: its own files: sshd's configuration and keys, what it changed in the state directory.
        state: where it finds the state directory, as every host does.
    """

    name: str
    port: int
    directory: Path
    state: Path
    sshd: Path
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None

    @property
    def changed(self) -> Path:
        """What the host changed below the state directory, seen from outside."""
        return self.directory / "upper"

    def power_on(self) -> None:
        """Start it, and return once its sshd answers."""
        assert self.process is None
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*UNSHARE, str(SCRIPT), self.name, str(self.directory), str(self.state), str(self.sshd)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
            )
        wait_until(self.answers, 30)

    def power_off(self) -> None:
        """End everything on it at once; what it has written stays."""
        if self.process is not None:
            # unshare's only child is the first process of the host: with it the kernel ends all others.
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(60)
            self.process = None
            wait_until(lambda: not self.answers(), 30)

    def answers(self) -> bool:
        """Return whether its sshd listens."""
        assert self.process is None or self.process.poll() is None, (self.directory / "log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@dataclass
class Fleet:
    """Hosts, and the inventory that names them."""

    directory: Path
    hosts: dict[str, Host] = field(default_factory=dict)

    @property
    def inventory(self) -> Path:
        return self.directory / "fleet.yml"

    def power_off(self) -> None:
        for host in self.hosts.values():
            host.power_off()


def find_sshd(directory: Path) -> tuple[Path, dict[str, str]]:
    """Return an sshd and the environment it needs: the system's, or one unpacked from its package.

    Unpacked only: installing it would open a port on the developer's machine, at every boot.
    """
    environment = dict(os.environ)
    if found := shutil.which("sshd", path="/usr/sbin:/usr/local/sbin"):
        return Path(found), environment
    assert shutil.which("apt-get"), "this test needs sshd: install openssh-server"
    packages = directory / "packages"
    packages.mkdir()
    packages.chmod(0o777)  # for apt's user
    subprocess.run(["apt-get", "-q", "download", *SSHD_PACKAGES], cwd=packages, check=True, timeout=120)
    for package in packages.glob("*.deb"):
        subprocess.run(["dpkg-deb", "--extract", str(package), str(directory / "sshd")], check=True)
    libraries = next((directory / "sshd").rglob("libwrap.so.0")).parent
    return directory / "sshd/usr/sbin/sshd", environment | {"LD_LIBRARY_PATH": str(libraries)}


def make_fleet(directory: Path, names: list[str], *, state: Path, variables: dict[str, object]) -> Fleet:
    """Make hosts that are off, keys for them, and the inventory: host keys pinned, one key to log in with.

    Args:
        directory: for all files; a short path, for ssh's control sockets.
        names: of the hosts.
        state: the state directory of the machine, which every host sees as it is now.
        variables: of each host, beside how to reach it.
    """
    sshd, environment = find_sshd(directory)
    _keygen(directory / "login")
    fleet = Fleet(directory)
    known: list[str] = []
    entries: dict[str, object] = {}
    for name in names:
        own = directory / name
        own.mkdir()
        _keygen(own / "host_key")
        port = _free_port()
        known.append(f"[127.0.0.1]:{port} {(own / 'host_key.pub').read_text().strip()}")
        (own / "passwd").write_text(_passwd())
        (own / "sshd_config").write_text(
            f"ListenAddress 127.0.0.1:{port}\nHostKey {own}/host_key\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {directory}/login.pub\nStrictModes no\nPermitRootLogin prohibit-password\n"
            "Subsystem sftp internal-sftp\nAllowTcpForwarding no\n"
        )
        fleet.hosts[name] = Host(name, port, own, state, sshd, environment)
        # With the host: what playbooks/group_vars sets outweighs an inventory's groups.
        entries[name] = {"ansible_port": port, "harness_command": str(directory / "harness"), **variables}
    (directory / "known_hosts").write_text("\n".join(known) + "\n")
    ssh = f"-o UserKnownHostsFile={directory}/known_hosts -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes"
    common = {
        "ansible_host": "127.0.0.1",
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(directory / "login"),
        "ansible_ssh_common_args": ssh,
        "ansible_ssh_control_path_dir": str(directory / "cp"),
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    inventory = {"bench": {"hosts": entries, "vars": common}}
    fleet.inventory.write_text(yaml.safe_dump(inventory))
    _write_command(directory / "harness")
    return fleet


def _write_command(path: Path) -> None:
    """Write the harness's command of all hosts: this checkout's."""
    import sys

    path.write_text(f'#!/bin/sh\ncd / && PYTHONPATH={ROOT} exec {sys.executable} -m harness "$@"\n')
    path.chmod(0o755)


def _keygen(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True, timeout=30)


def _passwd() -> str:
    """Return this machine's accounts with the one that sshd's unprivileged part runs as."""
    text = Path("/etc/passwd").read_text()
    has = any(line.startswith("sshd:") for line in text.splitlines())
    return text if has else f"{text}sshd:x:64999:65534::/run/sshd:/usr/sbin/nologin\n"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
