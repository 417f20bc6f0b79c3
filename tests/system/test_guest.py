"""One guest at a time: what fio.sh does in it, and guests that hang."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import tempfile
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tiny import TINY, guests, wait_until

from harness.adapters import lab as lab_module
from harness.adapters.disks import prepare_disks
from harness.adapters.files import read_text
from harness.adapters.guest.fio import fio_arguments
from harness.adapters.host.accel import decide
from harness.adapters.host.locks import host_alone
from harness.adapters.hypervisor import Hypervisor
from harness.adapters.lab import TARGET, BootedGuest, LibvirtLab, Timeouts
from harness.adapters.log_limit import LogLimit
from harness.adapters.manifest import read_manifest
from harness.adapters.waiting import Stop
from harness.adapters.workspace import Workspace
from harness.core.errors import BusyError, GuestDiedError, GuestError, HypervisorError, Interrupted
from harness.core.experiment import load_experiment
from harness.core.fio_output import why_rejected
from harness.core.model import Accel, Cell
from harness.core.planning import PlannedIteration, PlannedSession
from harness.resources import resource_dir

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.adapters.guest.shell import GuestShell
    from harness.core.protocols import Execution

pytest_plugins = ["tiny_fixtures"]

SOON = 40
"""Long before the minute that fio would take, also where QEMU takes its time to end."""
pytestmark = [pytest.mark.system, pytest.mark.usefixtures("no_guest_left")]

CELL = Cell("randread", "4k", 4)
SCHEDULER = f"cat /sys/block/$(basename $(readlink -f {TARGET}))/queue/scheduler"


@contextlib.contextmanager
def alone(patience: float = 300) -> Iterator[None]:
    """Have the host to oneself, once whoever has it is done."""
    deadline = time.monotonic() + patience
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(host_alone())
                break
            except BusyError:
                assert time.monotonic() < deadline
                time.sleep(1)
        yield


@pytest.fixture(scope="module")
def embed_root() -> Iterator[Path]:
    """A driver of this process's own: libvirt keeps it, and its lock, until the process ends."""
    with tempfile.TemporaryDirectory(prefix="ab-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory) / "lv"


@pytest.fixture
def lab(provisioned: Path, embed_root: Path) -> Iterator[Callable[..., LibvirtLab]]:
    """Make laboratories on the real builds."""
    workspace, found = Workspace.at(), read_manifest(provisioned)
    assert found.guest_image is not None
    image = found.guest_image
    with alone(), Hypervisor("qemu:///embed", embed_root) as hypervisor:

        def make(disk: str = "", cpu: str = "auto", agent: float = 10, grace: float = 20) -> LibvirtLab:
            text = TINY.replace("vcpus: 1", f"vcpus: 1, cpu: {cpu}") + disk
            experiment = load_experiment(text, "tiny.yml")
            return LibvirtLab(
                hypervisor=hypervisor,
                experiment=experiment,
                run_id="tiny-guest",
                accel=Accel.TCG,
                builds=found.builds,
                image=image,
                template=resource_dir("templates") / "test.xml.j2",
                fio_script=resource_dir("fio") / "fio.sh",
                disks=prepare_disks(experiment, workspace.disks),
                timeouts=Timeouts(boot=180, agent=agent, grace=grace, destroy=30),
                stop=Stop(),
            )

        yield make


def planned(variant: str = "OLD") -> PlannedSession:
    return PlannedSession(0, 0, variant, (), ())


@dataclass
class Shell:
    """Commands in a guest, beside the harness's own."""

    guest: BootedGuest

    def __call__(self, script: str) -> Execution:
        return self.agent.run(["/bin/sh", "-c", script], grace=20)

    def fio(self, *arguments: str) -> Execution:
        script = read_text(resource_dir("fio") / "fio.sh")
        return self.agent.run(["/bin/sh", "-s", "--", *arguments], stdin=script, grace=20)

    @property
    def agent(self) -> GuestShell:
        return self.guest._fio.shell  # noqa: SLF001 - the way in that the harness itself uses


def test_a_guest_that_never_stops_talking_is_ended(
    lab: Callable[..., LibvirtLab], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 2**20
    monkeypatch.setattr(lab_module, "LogLimit", functools.partial(LogLimit, limit_bytes=limit))
    words = r"the guest on OLD was ended: it wrote more than 1 MiB to console\.log"

    def talk() -> None:
        with lab().session(planned(), place) as guest:
            assert isinstance(guest, BootedGuest)
            script = "tr '\\000' x </dev/zero >/dev/ttyS0"
            Shell(guest).agent.run(["/bin/sh", "-c", script], grace=300)

    with pytest.raises(GuestError, match=words) as caught:
        talk()
    assert not isinstance(caught.value, GuestDiedError)
    assert (place / "console.log").stat().st_size == limit
    assert guests() == []


def test_fio_sh_in_a_guest(lab: Callable[..., LibvirtLab], place: Path) -> None:
    """One boot, on a raw file with an IOThread, for everything that fio.sh promises."""
    with lab("disk: {backend: file, size: 64MiB}\n").session(planned("NEW"), place) as guest:
        assert isinstance(guest, BootedGuest)
        shell = Shell(guest)
        # The kernel's own choice is another one: fio.sh has something to do.
        assert "[none]" not in shell(SCHEDULER).stdout
        done = guest.run(PlannedIteration(0, CELL, 0), runtime=1, ramp=0)
        assert done.exit_code == 0, done.stderr
        assert done.stdout.startswith("{"), "fio's JSON and nothing else"
        reason = why_rejected(done.stdout, done.stderr, exit_code=0, cell=CELL, runtime=1, ramp=0)
        assert reason is None
        assert "[none]" in shell(SCHEDULER).stdout

        arguments = fio_arguments(CELL, [TARGET], runtime=1, ramp=0)
        refused = {
            "/nonexistent/x is not a block device": ("--target", "/nonexistent/x"),
            "/etc/passwd is not a block device": ("--target", "/etc/passwd"),
            "add --destroy-data": (*arguments, "--rw", "randwrite"),
            "whole seconds": (*arguments, "--runtime", "1.5"),
            "no --target": (),
            "unknown option --nosuch": (*arguments, "--nosuch"),
            "needs a value": (*arguments, "--bs"),
        }
        shell("touch /etc/passwd")
        for message, wrong in refused.items():
            done = shell.fio(*wrong)
            assert (done.exit_code, done.stdout) == (64, ""), message
            assert message in done.stderr
        assert shell("ls /nonexistent").exit_code != 0, "no target is created"

        helped = shell.fio("--help")
        assert (helped.exit_code, helped.stderr) == (0, "")
        failed = shell.fio(*arguments, "--ioengine", "nosuch")
        assert failed.exit_code not in {0, 64}, "fio's own exit code"
        reason = why_rejected(
            failed.stdout, failed.stderr, exit_code=failed.exit_code, cell=CELL, runtime=1, ramp=0
        )
        assert reason is not None
        assert "nosuch" in reason

        with pytest.raises(GuestError, match="did not end within 1 s"):
            shell.agent.run(["/bin/sleep", "60"], grace=1)
    assert guests() == []


def test_a_qemu_that_stands_still_is_noticed_and_ended(lab: Callable[..., LibvirtLab], place: Path) -> None:
    with lab().session(planned(), place) as guest:
        os.kill(guest.facts["pid"], signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(GuestError, match="guest agent"):
            guest.run(PlannedIteration(0, CELL, 0), runtime=1, ramp=0)
        assert time.monotonic() - began < SOON
    assert guests() == [], "destroyed, although it did not hear SIGTERM"


def test_a_qemu_that_is_killed_is_noticed_at_once(lab: Callable[..., LibvirtLab], place: Path) -> None:
    with lab().session(planned("NEW"), place) as guest:
        killer = threading.Timer(1, os.kill, (guest.facts["pid"], signal.SIGKILL))
        killer.start()
        began = time.monotonic()
        with pytest.raises(
            GuestError, match="the guest on NEW stopped by itself: QEMU died: SIGKILL; its console ends:"
        ) as caught:
            guest.run(PlannedIteration(0, CELL, 0), runtime=60, ramp=0)
        assert time.monotonic() - began < SOON
        assert "init: " in caught.value.message, "the console's last lines"


def test_an_interrupt_while_fio_measures_ends_the_guest(lab: Callable[..., LibvirtLab], place: Path) -> None:
    stop = Stop()
    began = 0.0
    with (
        contextlib.suppress(Interrupted),
        replace(lab(), stop=stop).session(planned(), place) as guest,
    ):
        threading.Timer(1, stop.set).start()
        began = time.monotonic()
        guest.run(PlannedIteration(0, CELL, 0), runtime=60, ramp=0)
        pytest.fail("it went on to the end")
    assert time.monotonic() - began < SOON
    assert guests() == []


def test_kvm_works_only_if_a_guest_boots(lab: Callable[..., LibvirtLab], place: Path) -> None:
    """With a CPU model that hangs in the firmware where KVM is broken: the time-out decides."""
    laboratory = lab(cpu="qemu64")

    def boots() -> None:
        with laboratory.under(Accel.KVM, boot_seconds=6).session(planned(), place):
            pass

    said: list[str] = []
    cache = place / "accel.json"
    began = time.monotonic()
    decision = decide(Accel.AUTO, cache=cache, boots_under_kvm=boots, say=said.append)
    assert time.monotonic() - began < 30
    assert guests() == []
    if decision.accel is Accel.TCG and said:
        assert decision.reason.startswith("/dev/kvm is there, but no guest boots under it (")
        assert "\n" not in decision.reason

    def asked_again() -> None:
        raise HypervisorError("asked again")

    assert decide(Accel.AUTO, cache=cache, boots_under_kvm=asked_again, say=said.append) == decision
    wait_until(lambda: not guests(), 5)
