"""Where the guest's threads run, held against topologies that this machine does not have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from harness.adapters.host.cpus import cpu_topology
from harness.core.experiment import Experiment, load_experiment
from harness.core.quiet.findings import Finding, Health
from harness.core.quiet.placement import HostCpu, Topology, placement_findings, suggestion
from harness.core.quiet.settings import cpu_numbers
from made_up_host import CPU, put

if TYPE_CHECKING:
    from pathlib import Path

BASE = """\
name: place
builds: {OLD: {path: /old}, NEW: {path: /new}}
baseline: OLD
guest: {vcpus: VCPUS}
disk: {iothreads: IOTHREADS, queues: 4, iothread_mapping: MAPPED}
"""


def experiment(placement: str = "", *, vcpus: int = 2, iothreads: int = 1) -> Experiment:
    text = BASE.replace("VCPUS", str(vcpus)).replace("IOTHREADS", str(iothreads))
    return load_experiment(text.replace("MAPPED", "true" if iothreads > 1 else "false") + placement, "e.yml")


def server(*, nodes: int = 2, cores: int = 4, threads: int = 2, isolated: str = "") -> Topology:
    """Return a server whose SMT siblings are numbered after all cores, as Linux finds them."""
    total = nodes * cores
    cpus = {
        thread * total + core: HostCpu((core // cores, core), core // cores)
        for thread in range(threads)
        for core in range(total)
    }
    return Topology(cpus, cpu_numbers(isolated))


def found(placement: str, topology: Topology | None = None, disk_node: int | None = 1) -> dict[str, Finding]:
    findings = placement_findings(experiment(placement), topology or server(), disk_node)
    return {finding.what: finding for finding in findings}


GOOD = """\
placement:
  vcpupin: {0: 5, 1: 6}
  iothreadpin: {1: 7}
  emulatorpin: 4
  numa: {nodeset: 1}
"""


def test_a_good_placement_is_good() -> None:
    findings = found(GOOD)
    assert {finding.health for finding in findings.values()} <= {Health.OK, Health.RECORDED}
    assert findings["vCPUs"].found == "vCPU 0 on 5, vCPU 1 on 6"


def test_what_is_pinned_nowhere_is_named() -> None:
    findings = found("placement: {vcpupin: {0: 5}}\n")
    assert (findings["vCPUs"].health, findings["vCPUs"].found) == (Health.NOTE, "1 of 2 pinned nowhere")
    assert findings["IOThreads"].found == "pinned nowhere"
    assert findings["emulator threads"].should == "off the CPUs of the others"


def test_a_vcpu_that_may_wander_is_named() -> None:
    assert found(GOOD.replace("0: 5", "0: 4-5"))["vCPUs"].found == "vCPU 0 wanders over 4-5"


def test_threads_on_one_cpu_and_on_one_core_are_named() -> None:
    same = found(GOOD.replace("1: 7", "1: 6"))["shared CPUs"]
    assert (same.health, same.found) == (Health.NOTE, "vCPU 1 and IOThread 1 (CPU 6)")
    # CPU 14 is the other thread of core 6.
    beside = found(GOOD.replace("1: 7", "1: 14"))["SMT siblings"]
    assert beside.found == "threads of one core: vCPU 1 (CPU 6) and IOThread 1 (CPU 14)"


def test_a_cpu_that_is_not_there_is_broken() -> None:
    missing = placement_findings(experiment(GOOD.replace("1: 7", "1: 99")), server(), 1)[0]
    assert (missing.health, missing.found) == (Health.BROKEN, "CPU 99 is not online here")


def test_cpus_memory_and_disk_of_several_nodes_are_named() -> None:
    numa = found(GOOD.replace("{0: 5", "{0: 1").replace("nodeset: 1", "nodeset: 0"))["NUMA"]
    assert (numa.health, numa.found) == (Health.NOTE, "CPUs on node 0-1, memory on node 0, disk on node 1")
    assert found(GOOD, disk_node=0)["NUMA"].health is Health.NOTE
    unpinned = found("")["NUMA"]
    assert unpinned.found == "CPUs anywhere, memory anywhere, disk on node 1"


def test_isolated_cpus_are_to_be_used() -> None:
    topology = server(isolated="5-6")
    isolation = found(GOOD, topology)["isolated CPUs"]
    assert (isolation.health, isolation.found) == (
        Health.NOTE,
        "5-6; CPU 7 of the guest is not one of them",
    )
    assert found(GOOD, server(isolated="5-7"))["isolated CPUs"].health is Health.OK


def test_the_suggested_placement_is_on_the_disks_node_and_off_cpu_0() -> None:
    assert (
        suggestion(experiment(), server(), 1)
        == GOOD.replace("{0: 5, 1: 6}", "{0: 4, 1: 5}")
        .replace("{1: 7}", "{1: 6}")
        .replace("emulatorpin: 4", "emulatorpin: 7")
        .strip()
    )
    zero = suggestion(experiment(), server(), 0)
    assert zero is not None
    assert "emulatorpin: 0" in zero, "the core of CPU 0 is taken last"


def test_a_guest_that_is_too_large_gets_no_placement() -> None:
    findings = {
        finding.what: finding for finding in placement_findings(experiment(), server(nodes=1, cores=2), None)
    }
    assert findings["placement"].found == (
        "4 threads (vCPUs, IOThreads, emulator) for 2 cores: some share one"
    )


@given(
    nodes=st.integers(1, 4),
    cores=st.integers(1, 16),
    threads=st.integers(1, 2),
    vcpus=st.integers(1, 8),
    iothreads=st.integers(0, 4),
    isolated=st.booleans(),
    disk=st.none() | st.integers(0, 3),
)
def test_a_suggested_placement_is_one_the_doctor_finds_nothing_wrong_with(
    *, nodes: int, cores: int, threads: int, vcpus: int, iothreads: int, isolated: bool, disk: int | None
) -> None:
    # Isolated is everything but CPU 0, where the system works.
    all_but_0 = f"1-{nodes * cores * threads - 1}" if nodes * cores * threads > 1 else ""
    topology = server(nodes=nodes, cores=cores, threads=threads, isolated=all_but_0 if isolated else "")
    wanted = experiment(vcpus=vcpus, iothreads=iothreads)
    block = suggestion(wanted, topology, disk)
    if block is None:
        assert cores < vcpus + iothreads + 1
        return
    pasted = experiment(block + "\n", vcpus=vcpus, iothreads=iothreads)
    wrong = {
        finding.what
        for finding in placement_findings(pasted, topology, disk)
        if finding.health in {Health.NOTE, Health.BROKEN}
    }
    # A disk on a node without CPUs cannot be near.
    assert wrong <= (set() if disk is None or disk in topology.nodes else {"NUMA"})


def test_the_topology_is_read_from_sys(tmp_path: Path) -> None:
    for cpu, (socket, siblings) in enumerate([(0, "0,2"), (1, "1,3"), (0, "0,2"), (1, "1,3")]):
        put(tmp_path, f"{CPU}/cpu{cpu}/topology/physical_package_id", str(socket))
        put(tmp_path, f"{CPU}/cpu{cpu}/topology/thread_siblings_list", siblings)
    put(tmp_path, f"{CPU}/cpu4/online", "0")
    put(tmp_path, f"{CPU}/isolated", "2-3")
    put(tmp_path, "sys/devices/system/node/node0/cpulist", "0,2")
    put(tmp_path, "sys/devices/system/node/node1/cpulist", "1,3-4")
    topology = cpu_topology(tmp_path)
    assert topology.cpus == {
        0: HostCpu((0, 0), 0),
        1: HostCpu((1, 1), 1),
        2: HostCpu((0, 0), 0),
        3: HostCpu((1, 1), 1),
    }
    assert topology.isolated == {2, 3}
    assert topology.nodes == {0, 1}
