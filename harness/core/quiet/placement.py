"""Where the guest's threads run, held against the host's topology; and a placement that would be quiet."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from harness.core.quiet.findings import Finding, Health, Section
from harness.core.quiet.settings import cpu_numbers, ranges

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.core.experiment import Experiment

_ALONE = "a thread that shares its CPU waits for the other one, now more and now less"
_NEAR = "memory and interrupts of another node are farther away, and the way to them is shared"
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class HostCpu:
    """One CPU that is online.

    Attributes:
        core: what its SMT siblings share: (socket, first CPU of the core).
        node: its NUMA node; None when unknown.
    """

    core: tuple[int, int]
    node: int | None = None


@dataclass(frozen=True, slots=True)
class Topology:
    """The host's CPUs.

    Attributes:
        cpus: those online, by number.
        isolated: those that the scheduler leaves alone (isolcpus).
    """

    cpus: Mapping[int, HostCpu]
    isolated: frozenset[int] = frozenset()

    @property
    def nodes(self) -> frozenset[int]:
        """The NUMA nodes that have CPUs."""
        return frozenset(cpu.node for cpu in self.cpus.values() if cpu.node is not None)

    def nodes_of(self, cpus: frozenset[int]) -> frozenset[int]:
        """Return the nodes of some CPUs."""
        found = (self.cpus[cpu].node for cpu in cpus if cpu in self.cpus)
        return frozenset(node for node in found if node is not None)


@dataclass(frozen=True, slots=True)
class _Thread:
    name: str
    cpus: frozenset[int] | None
    """Where it may run; None: anywhere."""


def largest(experiment: Experiment) -> tuple[int, int]:
    """Return the most vCPUs and IOThreads that a guest of the experiment has."""
    vcpus = max(experiment.matrix.vcpus or (experiment.guest.vcpus,))
    return vcpus, max(experiment.matrix.iothreads or (experiment.disk.iothreads,))


def placement_findings(experiment: Experiment, topology: Topology, disk_node: int | None) -> list[Finding]:
    """Hold an experiment's pins against the topology.

    Args:
        experiment: its placement.
        topology: of the host.
        disk_node: the NUMA node of the disk; None when it has none, or none is known.
    """
    threads = _threads(experiment)
    return [
        *_missing(threads, topology),
        _pins("vCPUs", [thread for thread in threads if thread.name.startswith("vCPU")]),
        *_iothreads([thread for thread in threads if thread.name.startswith("IOThread")]),
        _pins("emulator threads", [threads[-1]]),
        *_shared(threads, topology),
        *_isolation(threads, topology),
        *_nodes(experiment, threads, topology, disk_node),
        _suggested(experiment, topology, disk_node, threads),
    ]


def _threads(experiment: Experiment) -> list[_Thread]:
    placement = experiment.placement
    vcpus, iothreads = largest(experiment)

    def at(text: str | None) -> frozenset[int] | None:
        return None if text is None else cpu_numbers(text)

    return [
        *(_Thread(f"vCPU {number}", at(placement.vcpupin.get(number))) for number in range(vcpus)),
        *(
            _Thread(f"IOThread {number}", at(placement.iothreadpin.get(number)))
            for number in range(1, iothreads + 1)
        ),
        _Thread("emulator", at(placement.emulatorpin)),
    ]


def _finding(
    what: str, health: Health, found: str, remedy: str | None = None, *, should: str = "", why: str = ""
) -> Finding:
    return Finding(what, health, found, remedy, should, why, Section.FITS)


def _missing(threads: Sequence[_Thread], topology: Topology) -> Iterator[Finding]:
    asked = frozenset().union(*(thread.cpus or frozenset() for thread in threads))
    if absent := asked - set(topology.cpus):
        yield _finding(
            "placement",
            Health.BROKEN,
            f"CPU {ranges(absent)} is not online here",
            f"pin to CPUs of {ranges(topology.cpus)}",
        )


def _pins(what: str, threads: Sequence[_Thread]) -> Finding:
    free = [thread for thread in threads if thread.cpus is None]
    loose = [thread for thread in threads if thread.cpus is not None and len(thread.cpus) > 1]
    if not free and not (loose and what != "emulator threads"):
        told = ", ".join(f"{thread.name} on {ranges(thread.cpus or ())}" for thread in threads)
        return _finding(what, Health.OK, told)
    if free:
        found = f"{len(free)} of {len(threads)} pinned nowhere" if len(threads) > 1 else "pinned nowhere"
    else:
        found = f"{loose[0].name} wanders over {ranges(loose[0].cpus or ())}"
    return _finding(
        what,
        Health.NOTE,
        found,
        "pin them (placement)",
        should="each on a CPU of its own" if what != "emulator threads" else "off the CPUs of the others",
        why="the scheduler moves them, and what they had in the caches is cold",
    )


def _iothreads(threads: Sequence[_Thread]) -> Iterator[Finding]:
    if threads:
        yield _pins("IOThreads", threads)


def _shared(threads: Sequence[_Thread], topology: Topology) -> Iterator[Finding]:
    """Find pairs of threads on one CPU, or on two threads of one core."""
    same: list[str] = []
    siblings: list[str] = []
    for one, other in combinations([thread for thread in threads if thread.cpus], 2):
        ours, theirs = one.cpus or frozenset(), other.cpus or frozenset()
        cores = {topology.cpus[cpu].core for cpu in ours if cpu in topology.cpus}
        beside = {cpu for cpu in theirs if cpu in topology.cpus and topology.cpus[cpu].core in cores}
        if both := ours & theirs:
            same.append(f"{one.name} and {other.name} (CPU {ranges(both)})")
        elif beside:
            siblings.append(f"{one.name} (CPU {ranges(ours)}) and {other.name} (CPU {ranges(beside)})")
    if same:
        yield _finding(
            "shared CPUs", Health.NOTE, _some(same), "a CPU each (placement)", should="none", why=_ALONE
        )
    if siblings:
        yield _finding(
            "SMT siblings",
            Health.NOTE,
            f"threads of one core: {_some(siblings)}",
            "a core each (placement)",
            should="none",
            why="two threads of a core share its caches and units: each is slow while the other works",
        )


def _some(found: Sequence[str]) -> str:
    more = f", and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(found[:_SHOWN]) + more


def _isolation(threads: Sequence[_Thread], topology: Topology) -> Iterator[Finding]:
    pinned = frozenset().union(*(thread.cpus or frozenset() for thread in threads[:-1]))
    if not topology.isolated:
        yield _finding("isolated CPUs", Health.RECORDED, "none")
    elif outside := pinned - topology.isolated:
        yield _finding(
            "isolated CPUs",
            Health.NOTE,
            f"{ranges(topology.isolated)}; CPU {ranges(outside)} of the guest is not one of them",
            "pin vCPUs and IOThreads to isolated CPUs",
            why="on all others the scheduler also runs everything else",
        )
    else:
        told = "the guest's are among them" if pinned else "the guest is pinned to none of them"
        yield _finding("isolated CPUs", Health.OK, f"{ranges(topology.isolated)}; {told}")


def _nodes(
    experiment: Experiment, threads: Sequence[_Thread], topology: Topology, disk_node: int | None
) -> Iterator[Finding]:
    if len(topology.nodes) < 2:  # noqa: PLR2004 - one node, nothing to choose
        yield _finding("NUMA", Health.OK, "one node")
        return
    numa = experiment.placement.numa
    pinned = frozenset().union(*(thread.cpus or frozenset() for thread in threads))
    places = {
        "CPUs": topology.nodes_of(pinned),
        "memory": cpu_numbers(numa.nodeset) if numa else frozenset(),
        "disk": frozenset() if disk_node is None else frozenset({disk_node}),
    }
    told = ", ".join(
        f"{what} {f'on node {ranges(nodes)}' if nodes else 'anywhere' if what != 'disk' else 'unknown'}"
        for what, nodes in places.items()
    )
    known = frozenset().union(*places.values())
    if len(known) == 1 and places["CPUs"] and places["memory"]:
        yield _finding("NUMA", Health.OK, told)
    else:
        remedy = "pin to one node (placement)"
        yield _finding("NUMA", Health.NOTE, told, remedy, should="all on the disk's node", why=_NEAR)


def _suggested(
    experiment: Experiment, topology: Topology, disk_node: int | None, threads: Sequence[_Thread]
) -> Finding:
    block = suggestion(experiment, topology, disk_node)
    if block is None:
        cores = len({cpu.core for cpu in topology.cpus.values()})
        return _finding(
            "placement",
            Health.NOTE,
            f"{len(threads)} threads (vCPUs, IOThreads, emulator) for {cores} cores: some share one",
            "a smaller guest, or a larger host",
            why=_ALONE,
        )
    return _finding("placement", Health.RECORDED, f"each on a core of its own:\n{block}")


def suggestion(experiment: Experiment, topology: Topology, disk_node: int | None) -> str | None:
    """Return a ``placement`` to paste, each thread on a core of its own, of one node if one has enough.

    The disk's node is taken first, isolated CPUs before others, and the core of CPU 0, where the system has
    its own work, last. None when there are too few cores.
    """
    vcpus, iothreads = largest(experiment)
    needed = vcpus + iothreads + 1
    first = _first_threads(topology)
    system = topology.cpus[0].core if 0 in topology.cpus else None

    def rank(cpu: int) -> tuple[bool, bool, int]:
        return cpu not in topology.isolated, topology.cpus[cpu].core == system, cpu

    order: list[int | None] = [*sorted(topology.nodes, key=lambda node: (node != disk_node, node))] or [None]
    pools = [[cpu for cpu in first if topology.cpus[cpu].node == node] for node in order]
    chosen = next((sorted(pool, key=rank)[:needed] for pool in pools if len(pool) >= needed), None)
    if chosen is None:
        return None
    *served, emulator = chosen
    pins = [f"{number}: {cpu}" for number, cpu in enumerate(served[:vcpus])]
    lines = ["placement:", f"  vcpupin: {{{', '.join(pins)}}}"]
    if iothreads:
        pins = [f"{number}: {cpu}" for number, cpu in enumerate(served[vcpus:], start=1)]
        lines.append(f"  iothreadpin: {{{', '.join(pins)}}}")
    lines.append(f"  emulatorpin: {emulator}")
    if len(topology.nodes) > 1:
        lines.append(f"  numa: {{nodeset: {topology.cpus[emulator].node}}}")
    return "\n".join(lines)


def _first_threads(topology: Topology) -> list[int]:
    """Return one CPU of each core: an isolated one where there is one."""
    found: dict[tuple[int, int], int] = {}
    for cpu in sorted(topology.cpus, key=lambda cpu: (cpu not in topology.isolated, cpu)):
        found.setdefault(topology.cpus[cpu].core, cpu)
    return sorted(found.values())
