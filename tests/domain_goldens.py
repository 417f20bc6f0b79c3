"""The golden domain XML files: tests/data/domain/NAME.yml is the experiment of NAME.xml."""

from __future__ import annotations

from pathlib import Path

from harness.core.domain_specs import DiskSpec, DomainSpec, IOThreadSpec, RootSpec
from harness.core.domain_xml import domain_spec
from harness.core.experiment import Experiment, load_experiment
from harness.core.model import Accel, Backend, Connection

DIRECTORY = Path(__file__).parent / "data" / "domain"
POOL = "many-disks"


def experiments() -> dict[str, Experiment]:
    return {
        path.stem: load_experiment(path.read_text(), path.name) for path in sorted(DIRECTORY.glob("*.yml"))
    }


def spec_of(experiment: Experiment) -> DomainSpec:
    return domain_spec(
        experiment,
        name="qemu-ab-20260101-007-OLD",
        uuid="6a1f3c52-0000-4000-8000-00000000000a",
        run_id="20260101",
        emulator="/opt/old/qemu",
        accel=Accel.KVM if experiment.accel is Accel.KVM else Accel.TCG,
        kernel="" if experiment.guest.disk_image else "/state/images/vmlinuz",
        initrd="" if experiment.guest.disk_image else "/state/images/initramfs.cpio",
        root=root_of(experiment),
        console_log="/runs/20260101/sessions/007-OLD/console.log",
        disk_path="/state/disks/disk.img",
    )


def root_of(experiment: Experiment) -> RootSpec | None:
    """Return what a guest of a disk image boots from, as the lab makes it."""
    guest = experiment.guest
    if guest.disk_image is None:
        return None
    if guest.connection is Connection.AGENT:
        return RootSpec("/state/guest/root.qcow2")
    if guest.ssh:
        return RootSpec("/state/guest/root.qcow2", host_port=41234, guest_port=guest.ssh.port)
    return RootSpec("/state/guest/root.qcow2", seed="/state/guest/seed.iso", host_port=41234)


def many_disks(experiment: Experiment, count: int = 14) -> DomainSpec:
    """Return a guest as the pool experiment needs it: slow disks on one IOThread, others on one each."""
    slow = count * 8 // 14
    disks = tuple(
        DiskSpec(
            Backend.NULL_CO,
            f"disk{index}",
            iothread=1 if index < slow else index - slow + 2,
            queue_size=1024,
            latency_ns=1_500_000_000 if index < slow else None,
        )
        for index in range(count)
    )
    iothreads = tuple(IOThreadSpec(number) for number in range(1, count - slow + 2))
    return domain_spec(
        experiment,
        name="qemu-ab-pool",
        uuid="6a1f3c52-0000-4000-8000-00000000000b",
        run_id="20260102",
        emulator="/opt/old/qemu",
        accel=Accel.TCG,
        kernel="/state/images/vmlinuz",
        initrd="/state/images/initramfs.cpio",
        console_log="/runs/20260102/console.log",
        agent_socket="/run/agent.sock",
        disks=disks,
        iothreads=iothreads,
        extra_cmdline="elevator=none",
        extra_qemu_args=("-name", "x&y"),
    )


def golden_specs() -> dict[str, DomainSpec]:
    known = experiments()
    return {name: spec_of(experiment) for name, experiment in known.items()} | {
        POOL: many_disks(known["null-co"]),
    }
