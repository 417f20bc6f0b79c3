"""What a session and an iteration cost beyond fio's own time: against bare loops, and against a playbook."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import pairwise, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from bench.bare_guest import TARGET, BareGuest
from bench.figures import Target, Who, Work
from harness.adapters.manifest import read_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.adapters.manifest import Manifest

_BIN = Path(sys.executable).parent
_HERE = Path(__file__).parent
STATE = Path("/var/lib/qemu-ab-harness")
NAME = "quick"
"""The experiment that `make bench` provisions; the one here has its builds and its name, and other cells."""

RUNTIME_S = 1
_EXPERIMENT = """\
name: {name}
builds:
  OLD: {{package: qemu-system-x86, suite: bookworm}}
  NEW: {{package: qemu-system-x86, suite: bookworm-backports}}
baseline: OLD
guest: {{memory: 1GiB, vcpus: 2{guest}}}
disk: {{backend: null-co, size: 1GiB, iothreads: 1}}
matrix: {{rw: randread, bs: [{sizes}], iodepth: [{depths}]}}
protocol: {{blocks: {blocks}, runtime: {runtime}s, ramp: 0s}}
accel: tcg
"""


@dataclass
class Plan:
    """What all of them measure.

    Attributes:
        sizes: of a request.
        depths: requests in flight.
        blocks: how often each build is booted.
    """

    sizes: Sequence[str] = ("4k", "128k")
    depths: Sequence[int] = (1, 8, 16, 32, 64)
    blocks: int = 4

    @property
    def cells(self) -> int:
        """How many cells there are."""
        return len(self.sizes) * len(self.depths)

    @property
    def fio_seconds(self) -> float:
        """What fio is asked to take."""
        return self.cells * self.blocks * 2 * RUNTIME_S

    def experiment(self, *, runtime: int = RUNTIME_S, guest: str = "") -> str:
        """Return fio/coroutine-pool.yml, shortened; emulated on every host, as what it is held against.

        Args:
            runtime: of a cell, in seconds.
            guest: further settings of the guest, from a comma on.
        """
        return _EXPERIMENT.format(
            name=NAME,
            guest=guest,
            sizes=", ".join(self.sizes),
            depths=", ".join(map(str, self.depths)),
            blocks=self.blocks,
            runtime=runtime,
        )

    def commands(self) -> list[str]:
        """Return fio for each cell, with the options that fio/fio.sh gives it."""
        return [
            f"fio --rw=randread --bs={size} --iodepth={depth} --numjobs=1 --ioengine=libaio --direct=1 "
            f"--time_based --runtime={RUNTIME_S} --ramp_time=0 --group_reporting --randrepeat=0 "
            "--norandommap --allow_file_create=0 --readonly --eta=never --output-format=json --name=fio "
            f"--filename={TARGET}"
            for size, depth in product(self.sizes, self.depths)
        ]

    def loop(self) -> str:
        """Return a shell script that runs fio for each cell, and prints the time before and after."""
        loop = "; ".join(f"{command} >/dev/shm/out || exit 1" for command in self.commands())
        return f"read -r began _ </proc/uptime; {loop}; read -r ended _ </proc/uptime; echo $began $ended"

    def beyond_fio(self, said: str) -> float:
        """Return the seconds of an iteration beyond fio's own, by what that script printed."""
        began, ended = map(float, said.split())
        return (ended - began) / self.cells - RUNTIME_S


@dataclass
class Costs:
    """What was measured of one of them.

    Attributes:
        cell: seconds of an iteration beyond fio's own, the mean of each session.
        session: seconds between one session's last iteration and the next one's first.
        wall: seconds of the whole experiment.
    """

    cell: list[float] = field(default_factory=list)
    session: list[float] = field(default_factory=list)
    wall: float | None = None


def measure(*, quick: bool) -> Iterator[Work]:
    """Measure a whole experiment: by the harness, by hand (half before it, half after), and by a playbook."""
    plan = Plan(sizes=("4k",), depths=(1, 8), blocks=2) if quick else Plan()
    manifest = read_manifest(STATE / "manifests" / f"{NAME}.json")
    bare, harness, ansible = Costs(), Costs(), Costs()
    with TemporaryDirectory(prefix="bench-") as place:
        here = Path(place)
        here.chmod(0o755)
        half = replace(plan, blocks=plan.blocks // 2)
        _by_hand(half, manifest, here / "before", bare)
        run_harness(plan.experiment(), here, harness)
        _by_hand(half, manifest, here / "after", bare)
        _by_ansible(plan, manifest, here / "ansible", ansible)
    yield from _works(plan, bare, harness, ansible)


def _works(plan: Plan, bare: Costs, harness: Costs, ansible: Costs) -> Iterator[Work]:
    everyone = {Who.BARE: bare, Who.HARNESS: harness, Who.ANSIBLE: ansible}
    yield Work(
        "an iteration, beyond fio's runtime",
        "s",
        {who: statistics.median(costs.cell) for who, costs in everyone.items()},
        [Target(Who.BARE, 1.15), Target(Who.ANSIBLE, 0.2)],
        f"Means of a session's {plan.cells}; medians of {len(harness.cell)} sessions. The limit is a loop in "
        "the guest's shell that keeps fio's outputs in memory; here each output and its record is on the "
        "host's disk, synced, before the next one starts. The playbook gets into the guest by its agent "
        "too: no SSH, and no Python in the guest.",
    )
    yield Work(
        "from a session's last iteration to the next one's first",
        "s",
        {who: statistics.median(costs.session) for who, costs in everyone.items() if costs.session},
        [Target(Who.BARE, 1.3)],
        f"Medians of {len(harness.session)} and {len(bare.session)}. The limit is QEMU with the same kernel, "
        "initramfs and devices, started by hand, until its agent answers, and its exit.",
    )
    yield Work(
        f"a whole experiment of {plan.fio_seconds:.0f} s of fio: wall time over fio's time",
        "x",
        {who: costs.wall / plan.fio_seconds for who, costs in everyone.items() if costs.wall},
        [Target(None, 1.6)],
        f"fio/coroutine-pool.yml with {plan.cells} cells of {RUNTIME_S} s and {plan.blocks} blocks, from the "
        "command's start to its table.",
    )


def _by_hand(plan: Plan, manifest: Manifest, place: Path, costs: Costs) -> None:
    """Boot each build once a block, and loop over fio in the guest's shell."""
    assert manifest.guest_image is not None
    for number in range(plan.blocks):
        for variant, build in manifest.builds.items():
            here = place / f"{number}-{variant}"
            here.mkdir(parents=True)
            with BareGuest(build, manifest.guest_image, here) as guest:
                costs.cell.append(plan.beyond_fio(guest.run(plan.loop())))
            costs.session.append(guest.boot_seconds + guest.exit_seconds)


def run_harness(experiment: str, place: Path, costs: Costs) -> None:
    """Run an experiment as its users do, and add what it cost beyond fio's time.

    Args:
        experiment: its text.
        place: a directory for it and for its run.
        costs: to add to.
    """
    file, run = place / "experiment.yml", place / "run"
    file.write_text(experiment)
    began = time.monotonic()
    argv = [f"{_BIN}/harness", "run", str(file), "--no-provision", "--run-dir", str(run)]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    costs.wall = time.monotonic() - began
    records = [json.loads(path.read_text()) for path in sorted(run.glob("sessions/*/session.json"))]
    for record in records:
        iterations = record["iterations"]
        took = _ended(record) - _moment(iterations[0]["started"])
        costs.cell.append(took / len(iterations) - RUNTIME_S)
    costs.session += [
        _moment(after["iterations"][0]["started"]) - _ended(before) for before, after in pairwise(records)
    ]


def _by_ansible(plan: Plan, manifest: Manifest, place: Path, costs: Costs) -> None:
    assert manifest.guest_image is not None
    order = [(number, variant) for number in range(plan.blocks) for variant in manifest.builds]
    places = [place / f"{number}-{variant}" for number, variant in order]
    guests = [
        BareGuest(manifest.builds[variant], manifest.guest_image, here)
        for (_number, variant), here in zip(order, places, strict=True)
    ]
    variables: dict[str, Any] = {
        "python": sys.executable,
        "ansible_python_interpreter": sys.executable,
        "fio_commands": plan.commands(),
        "sessions": [{"directory": str(g.place), "argv": g.argv} for g in guests],
    }
    place.mkdir()
    file = place / "variables.json"
    file.write_text(json.dumps(variables))
    argv = [f"{_BIN}/ansible-playbook", "-i", "localhost,", "-e", f"@{file}", f"{_HERE}/ansible_loop.yml"]
    began = time.monotonic()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    costs.wall = time.monotonic() - began
    costs.cell += [float((here / "seconds").read_text()) / plan.cells - RUNTIME_S for here in places]


def _ended(record: dict[str, Any]) -> float:
    last = record["iterations"][-1]
    return _moment(last["started"]) + float(last["seconds"])


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
