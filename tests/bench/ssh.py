"""What an iteration costs in a guest that boots from a disk image and is reached by SSH."""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from bench.bare_guest import MACHINE, MEASURED_DISK
from bench.figures import Target, Who, Work
from bench.guests import NAME, RUNTIME_S, STATE, Costs, Plan, run_harness
from cloud_image import cloud_image
from harness.adapters.guest.disk_guest import disk_guest
from harness.adapters.guest.ssh import HOST
from harness.adapters.manifest import read_manifest
from harness.core.experiment import Guest
from harness.core.model import Connection

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.adapters.guest.ssh import SshAccess
    from harness.core.domain_specs import RootSpec
    from harness.core.model import BuildRecord

_BIN = Path(sys.executable).parent
_PATIENCE_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class _Guest:
    """A guest that answers by SSH.

    Attributes:
        ssh: ssh and its options, without a command.
        variables: Ansible's for it.
    """

    ssh: Sequence[str]
    variables: dict[str, str | int]


def measure(*, quick: bool) -> Iterator[Work]:
    """Measure the same cells in guests of each build: in the guest's shell, by the harness, by a playbook."""
    plan = Plan(sizes=("4k",), depths=(1, 8) if quick else (1, 8, 16, 32, 64), blocks=1)
    builds = read_manifest(STATE / "manifests" / f"{NAME}.json").builds
    image = cloud_image()
    costs = {who: Costs() for who in (Who.BARE, Who.HARNESS, Who.ANSIBLE)}
    with TemporaryDirectory(prefix="bench-") as name:
        place = Path(name)
        for variant, build in builds.items():
            here = place / variant
            here.mkdir()
            with _booted(build, image, here) as guest:
                costs[Who.BARE].cell.append(_by_hand(plan, guest))
                costs[Who.ANSIBLE].cell.append(_by_ansible(plan, guest, here))
        experiment = plan.experiment(guest=f", image: {image}, connection: ssh")
        run_harness(experiment, place, costs[Who.HARNESS])
    yield Work(
        "an iteration in a guest reached by SSH, beyond fio's runtime",
        "s",
        {who: statistics.mean(cost.cell) for who, cost in costs.items()},
        [Target(Who.BARE, 1.15), Target(Who.ANSIBLE, 0.2)],
        f"Means of {plan.cells} in a session, and of {len(costs[Who.HARNESS].cell)} sessions, in a Debian "
        "that boots from a disk image. The limit is a loop in the guest's shell. The playbook has the guest "
        "in its inventory, one connection, pipelining.",
    )


def _by_hand(plan: Plan, guest: _Guest) -> float:
    argv = [*guest.ssh, plan.loop()]
    return plan.beyond_fio(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)


def _by_ansible(plan: Plan, guest: _Guest, place: Path) -> float:
    variables = {"fio_commands": plan.commands(), "place": str(place)}
    hosts = {"all": {"hosts": {"guest": guest.variables}}}
    for file, content in (("variables.json", variables), ("inventory.json", hosts)):
        (place / file).write_text(json.dumps(content))
    playbook = Path(__file__).with_name("ansible_guest.yml")
    inventory, extra = place / "inventory.json", f"@{place / 'variables.json'}"
    argv = [f"{_BIN}/ansible-playbook", "-i", str(inventory), "-e", extra, str(playbook)]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    return float((place / "seconds").read_text()) / plan.cells - RUNTIME_S


@contextlib.contextmanager
def _booted(build: BuildRecord, image: Path, place: Path) -> Iterator[_Guest]:
    """Boot a guest by hand, with the disks and keys that the harness gives to its own."""
    with (
        disk_guest(Guest(), image, place / "disks", connection=Connection.SSH) as ours,
        ours.root() as root,
        (place / "qemu.log").open("wb") as said,
    ):
        assert ours.access is not None
        argv = [build.emulator, *_devices(root)]
        with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=said) as qemu:
            try:
                guest = _guest(ours.access, root)
                _wait_for(guest)
                yield guest
            finally:
                qemu.terminate()


def _guest(access: SshAccess, root: RootSpec) -> _Guest:
    ssh = ["ssh", *access.options(), "-o", "ControlMaster=no", "-p", str(root.host_port), "root@127.0.0.1"]
    pinned = f"-o UserKnownHostsFile={access.known_hosts} -o HostKeyAlias={HOST} -o IdentitiesOnly=yes"
    variables: dict[str, str | int] = {
        "ansible_host": "127.0.0.1",
        "ansible_port": root.host_port or 0,
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(access.key),
        "ansible_ssh_common_args": pinned,
        "ansible_ssh_control_path_dir": str(access.directory / "cp"),
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    return _Guest(ssh, variables)


def _wait_for(guest: _Guest) -> None:
    """Wait until a guest lets us in and its boot is over."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while subprocess.run([*guest.ssh, "true"], check=False, capture_output=True).returncode:
        assert time.monotonic() < deadline, "the guest did not answer by SSH"
        time.sleep(1)
    # A unit that failed makes the state "degraded": over all the same.
    subprocess.run([*guest.ssh, "systemctl is-system-running --wait"], check=False, stdout=subprocess.DEVNULL)


def _devices(root: RootSpec) -> list[str]:
    forward = f"hostfwd=tcp:127.0.0.1:{root.host_port}-:{root.guest_port}"
    disks = [("harness-root", root.overlay, "qcow2"), ("harness-seed", root.seed, "raw")]
    return [
        *MACHINE,
        *(
            part
            for serial, path, form in disks
            for part in (
                "-blockdev", f"driver=file,filename={path},node-name={serial}-file",
                "-blockdev", f"driver={form},file={serial}-file,node-name={serial}",
                "-device", f"virtio-blk-pci,drive={serial},serial={serial}",
            )
        ),
        *MEASURED_DISK,
        "-netdev", f"user,id=net0,restrict=on,{forward}", "-device", "virtio-net-pci,netdev=net0",
    ]  # fmt: skip
