"""The harness is killed while libvirt starts a guest for it: whatever the moment, nothing of it stays.

A campaign's trial takes most of a minute, and meets the tenths of a second that a start takes now and then;
here one kill takes a second. `--faults N` makes it longer.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest
from support import ROOT, harness

from harness.adapters.reaper import Reaper
from harness.adapters.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest_plugins = ["tiny_fixtures"]
pytestmark = [pytest.mark.system, pytest.mark.usefixtures("no_guest_left")]

GUEST = """\
<domain type="qemu">
  <name>qemu-ab-start-000-OLD</name>
  <memory unit="MiB">64</memory>
  <os><type arch="x86_64" machine="q35">hvm</type></os>
  <features><acpi/></features>
  <devices>
    <emulator>{emulator}</emulator>
    <controller type="usb" model="none"/>
    <memballoon model="none"/>
  </devices>
</domain>
"""
STARTER = """\
import sys, time
from pathlib import Path
from harness.adapters.hypervisor import Hypervisor
with Hypervisor("qemu:///embed", Path(sys.argv[1])) as hypervisor:
    print(flush=True)
    hypervisor.start(sys.argv[2])
    print(flush=True)
    time.sleep(300)
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where guests are started.

    Attributes:
        state: the state directory.
        emulator: that they run on.
    """

    state: Path
    emulator: str

    @property
    def root(self) -> Path:
        """Of the embedded libvirt."""
        return Workspace.at(self.state).embed_root

    @contextlib.contextmanager
    def starter(self) -> Iterator[IO[str]]:
        """A process that starts a guest, and says when it has; killed when the ``with`` block is left."""
        argv = [sys.executable, "-c", STARTER, str(self.root), GUEST.format(emulator=self.emulator)]
        with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            process.stdout.readline()
            try:
                yield process.stdout
            finally:
                process.kill()

    def seconds(self) -> float:
        """Return how long a start takes; its guest is gone again."""
        with self.starter() as says:
            began = time.monotonic()
            says.readline()
            took = time.monotonic() - began
        self.clean()
        return took

    def clean(self) -> dict[str, str]:
        """Return what ``harness clean`` removed."""
        done = harness("clean", "--state-dir", str(self.state), "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        return {one["name"]: one["kind"] for one in json.loads(done.stdout)["leftovers"]}

    def emulators(self) -> list[int]:
        """Return the processes of QEMU that libvirt started here."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                argv = (entry / "cmdline").read_bytes()
                if b"qemu-system" in argv.partition(b"\0")[0] and f"{self.root}/".encode() in argv:
                    found.append(int(entry.name))
        return found

    def left(self) -> list[str]:
        """Return what is there of any guest, and of any QEMU."""
        names = ("run/qemu/qemu-ab-*", "log/qemu/qemu-ab-*", "lib/qemu/*-*", "lib/qemu/channel/target/*-*")
        return [str(path) for name in names for path in self.root.glob(name)] + list(
            map(str, self.emulators())
        )

    def forget_capabilities(self) -> None:
        """Have libvirt ask QEMU what it can, as before its first guest."""
        shutil.rmtree(self.root / "cache", ignore_errors=True)


@pytest.fixture
def started(fresh_state: Path, provisioned: Path) -> Place:
    # Orphans of what is killed come to this process: a container's PID 1 may take seconds to see one end.
    Reaper.running()
    return Place(fresh_state, json.loads(provisioned.read_text())["builds"]["NEW"]["emulator"])


@pytest.mark.parametrize("asked", [False, True], ids=["known-qemu", "unknown-qemu"])
def test_whatever_moment_of_a_start_the_harness_is_killed_at(
    started: Place, request: pytest.FixtureRequest, *, asked: bool
) -> None:
    chance = random.Random(84)  # noqa: S311 - reproducible on purpose
    started.seconds()
    if asked:
        started.forget_capabilities()
    span = started.seconds()
    for _kill in range(request.config.getoption("--faults")):
        if asked:
            started.forget_capabilities()
        with started.starter():
            time.sleep(moment := chance.uniform(0, span))
        started.clean()
        assert started.left() == [], f"killed {moment:.3f} s after a start of {span:.3f} s had begun"


def test_a_start_that_was_cut_off_before_there_was_a_qemu_is_forgotten(started: Place) -> None:
    with started.starter() as says:
        says.readline()
    for pid in started.emulators():
        os.kill(pid, signal.SIGKILL)
    # So libvirt leaves it for some hundredths of a second: no process yet, and a start under way.
    (status,) = started.root.glob("run/qemu/qemu-ab-*.xml")
    tree = ET.parse(status)  # noqa: S314 - libvirt's own
    tree.getroot().attrib |= {"state": "paused", "reason": "starting up", "pid": "0"}
    ET.SubElement(tree.getroot(), "job", {"type": "none", "async": "start", "flags": "0x0"})
    tree.write(status)
    assert started.clean()["qemu-ab-start-000-OLD"] == "guest"
    assert started.left() == []
    assert started.seconds() > 0, "another guest of the same name can be started"
