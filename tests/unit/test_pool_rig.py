"""The QEMU of pool-growth that has no guest: its disks, and what does not fit."""

from __future__ import annotations

import pytest

from harness.adapters.guestless.pool_disks import layouts_of
from harness.core.counting.rig import MEMORY_BASE, RigFiles
from harness.core.errors import InputError
from harness.core.experiment import Experiment, load_experiment
from harness.core.pool import pool_disks, rig_arguments

HEAD = """\
name: x
workload: pool-growth
builds: {OLD: {path: /old}, NEW: {path: /new}}
baseline: OLD
"""
FILES = RigFiles("/x/bios", "/x/memory", "/x/qtest")


def experiment(pool: str) -> Experiment:
    return load_experiment(f"{HEAD}pool: {{driver: qtest, {pool}}}\n", "x.yml")


def test_burst_disks_share_an_iothread_and_each_round_has_one_of_its_own() -> None:
    pool = experiment("rounds: 3, burst_disks: 2, latency: 100ms").pool
    arguments = rig_arguments(pool, "q35", FILES, memory=2**26)
    devices = [argument for argument in arguments if argument.startswith("virtio-blk-pci,")]
    iothreads = [part for device in devices for part in device.split(",") if part.startswith("iothread=")]
    assert iothreads == [f"iothread=iothread{number}" for number in (1, 1, 2, 3, 4)]
    assert sum("latency-ns=100000000" in argument for argument in arguments) == 2
    assert {argument for argument in arguments if argument.startswith("iothread,")} == {
        f"iothread,id=iothread{number}" for number in (1, 2, 3, 4)
    }
    addresses = [device.rpartition("addr=")[2] for device in devices]
    assert len(set(addresses)) == len(addresses)


def test_a_burst_fills_its_queues_and_no_two_lie_on_one_another() -> None:
    pool = experiment("rounds: 3, burst_disks: 2, queue_size: 256").pool
    layouts = layouts_of(pool, depth=pool.queue_size)
    assert [len(layout.slots) for layout in layouts] == [256, 256, 1, 1, 1]
    assert [layout.size for layout in layouts] == [disk.queue_size for disk in pool_disks(pool)]
    ends = [MEMORY_BASE, *(layout.end for layout in layouts)]
    assert all(layout.addresses.descriptors >= end for layout, end in zip(layouts, ends, strict=False))


@pytest.mark.parametrize(
    ("pool", "disks"),
    [
        ("rounds: 24, burst_disks: 4", 28),
        ("rounds: 3, limit_rounds: 20, to_the_limit: true, burst_disks: 8", 28),
    ],
)
def test_more_disks_than_the_bus_takes_are_refused(pool: str, disks: int) -> None:
    with pytest.raises(InputError) as caught:
        experiment(pool)
    assert f"{disks} disks, where the bus of a machine without a guest takes 27" in caught.value.message
    # A guest's disks may share slots.
    load_experiment(f"{HEAD}pool: {{{pool}}}\n", "x.yml")
