"""What benchmark.yml costs the controller, host by host: docs/fleet.md quotes it.

``python tests/system/fleet_cost.py RUN_DIR 1 10 30`` makes so many hosts on this machine (real sshd servers,
real playbook) whose harness only puts a copy of RUN_DIR in place, and prints CPU time and memory of
ansible-playbook, of a first and of a second run.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from fleet_hosts import Fleet, make_fleet

from harness.adapters.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")


def main(counts: list[int], run: Path) -> None:
    """Print a line for each number of hosts and each run."""
    for count in counts:
        directory = Path(tempfile.mkdtemp(prefix="ab-cost-"))
        directory.chmod(0o755)
        names = [f"kvm{number}" for number in range(count)]
        fleet = make_fleet(directory, names, state=Workspace.at().state, variables={})
        # Not the harness: what it costs to measure is the hosts' business.
        command = f'for last; do [ "$before" = --run-dir ] && cp -r {run} "$last"; before=$last; done'
        (directory / "harness").write_text(f"#!/bin/sh\n{command}\n")
        shutil.copy(run / "experiment.yml", directory / "tiny.yml")
        try:
            for host in fleet.hosts.values():
                host.power_on()
            for which in ("first run", "second run"):
                measure(fleet, f"{count} hosts, {which}")
        finally:
            fleet.power_off()
            shutil.rmtree(directory)


def measure(fleet: Fleet, name: str) -> None:
    variables = {
        "experiment": str(fleet.directory / "tiny.yml"),
        "harness_runs_dir": str(fleet.directory / "runs"),
    }
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    process = subprocess.Popen(
        [str(PLAYBOOK), "-i", str(fleet.inventory), "playbooks/benchmark.yml", "-e", json.dumps(variables)],
        cwd=ROOT,
        env=os.environ | {"ANSIBLE_CONFIG": str(ROOT / "playbooks/ansible.cfg")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    peak = [0]
    watcher = threading.Thread(target=watch, args=(process, peak))
    watcher.start()
    said, _ = process.communicate()
    watcher.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    summary = next((line for line in said.splitlines() if "hosts done" in line), said[-2000:])
    wall, most = time.monotonic() - began, peak[0] / 1024
    sys.stdout.write(f"{name}: {cpu:.1f} s of CPU, {wall:.0f} s wall, {most:.0f} MiB at most; {summary}\n")
    sys.stdout.flush()


def watch(process: subprocess.Popen[str], peak: list[int]) -> None:
    """Note the largest memory (PSS, KiB) of the playbook and all its descendants."""
    while process.poll() is None:
        peak[0] = max(peak[0], sum(pss(pid) for pid in descendants(process.pid)))
        time.sleep(0.5)


def descendants(top: int) -> list[int]:
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found = [top]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def pss(pid: int) -> int:
    with contextlib.suppress(OSError):
        match = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
        return int(match[1]) if match else 0
    return 0


if __name__ == "__main__":
    main([int(count) for count in sys.argv[2:]], Path(sys.argv[1]).resolve())
