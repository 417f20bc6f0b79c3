"""The host's processors as /sys shows them: how they are arranged, and how deep they may sleep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.core.quiet.placement import HostCpu, Topology
from harness.core.quiet.settings import cpu_numbers

_CPUS = Path("/sys/devices/system/cpu")
_NODES = Path("/sys/devices/system/node")


def read_setting(path: str | Path) -> str | None:
    """Return a one-line file of /proc or /sys, or None when it cannot be read here."""
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None


def topology() -> dict[str, Any]:
    """Return sockets, cores, threads a core and NUMA nodes (name -> CPU list); None where unknown."""
    threads = [cpu / "topology" for cpu in _CPUS.glob("cpu[0-9]*")]
    placed = [(read_setting(cpu / "physical_package_id"), read_setting(cpu / "core_id")) for cpu in threads]
    # CPUs that are offline have no topology.
    cores = {(socket, core) for socket, core in placed if socket is not None and core is not None}
    online = sum(socket is not None for socket, _core in placed)
    return {
        "sockets": len({socket for socket, _core in cores}) or None,
        "cores": len(cores) or None,
        "threads_per_core": online // len(cores) if cores else None,
        "online": read_setting(_CPUS / "online"),
        "isolated": read_setting(_CPUS / "isolated"),
        "numa_nodes": {
            node.name: read_setting(node / "cpulist") for node in sorted(_NODES.glob("node[0-9]*"))
        }
        or None,
    }


def cpu_topology(root: Path = Path("/")) -> Topology:
    """Return the CPUs that are online: core and node of each, and which are isolated."""
    cpus = root / _CPUS.relative_to("/")
    nodes = {
        int(link.parent.name.removeprefix("node")): link
        for link in (root / _NODES.relative_to("/")).glob("node[0-9]*/cpulist")
    }
    node_of = {cpu: node for node, link in nodes.items() for cpu in cpu_numbers(read_setting(link) or "")}
    found: dict[int, HostCpu] = {}
    for directory in cpus.glob("cpu[0-9]*"):
        number = int(directory.name.removeprefix("cpu"))
        socket = read_setting(directory / "topology/physical_package_id")
        # Not core_id: dies of one socket may number their cores alike. CPUs that are offline have neither.
        siblings = read_setting(directory / "topology/thread_siblings_list")
        if socket is not None and siblings:
            found[number] = HostCpu((int(socket), min(cpu_numbers(siblings))), node_of.get(number))
    return Topology(dict(sorted(found.items())), cpu_numbers(read_setting(cpus / "isolated") or ""))


def idle_states() -> dict[str, Any]:
    """Return who decides on idle states, their limit, and CPU 0's states (name -> exit latency, disabled)."""
    states = sorted(_CPUS.glob("cpu0/cpuidle/state[0-9]*"))
    return {
        "driver": read_setting(_CPUS / "cpuidle/current_driver"),
        "governor": read_setting(_CPUS / "cpuidle/current_governor"),
        "max_cstate": read_setting("/sys/module/intel_idle/parameters/max_cstate"),
        "states": {
            read_setting(state / "name") or state.name: {
                "latency_us": read_setting(state / "latency"),
                "disabled": read_setting(state / "disable"),
            }
            for state in states
        }
        or None,
    }
