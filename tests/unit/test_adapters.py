"""Small adapters: locks, atomic files, the accelerator's memory, disk images, fio.sh's refusals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.adapters import accel as accel_module
from harness.adapters.accel import decide
from harness.adapters.files import printable, write_atomic
from harness.adapters.locks import exclusive
from harness.adapters.workspace import Workspace
from harness.core.errors import BusyError, GuestError, HarnessError
from harness.core.model import Accel

FIO_SH = Path(__file__).resolve().parents[2] / "fio" / "fio.sh"
HOLDER = """
import sys, time
from pathlib import Path
from harness.adapters.locks import exclusive
with exclusive(Path(sys.argv[1]), what="this host", remedy="wait"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_names_its_holder_and_dies_with_it(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(lock)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        with (
            pytest.raises(BusyError, match=f"process {holder.pid}"),
            exclusive(lock, what="this host", remedy="wait"),
        ):
            pass
        os.kill(holder.pid, signal.SIGKILL)
    with exclusive(lock, what="this host", remedy="wait"):
        assert lock.exists()


def test_a_write_that_fails_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.json"
    write_atomic(path, b"old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(HarnessError, match=r"run\.json: No space left"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_from_a_guest_reaches_the_terminal_as_a_command() -> None:
    assert printable("\x1b]0;evil\x07 ok") == "?]0;evil? ok"


def broken_kvm() -> None:
    raise GuestError("the guest on OLD did not answer within 12 s of its start; its console is empty")


@pytest.fixture
def openable_kvm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = tmp_path / "kvm"
    device.touch()
    monkeypatch.setattr(accel_module, "KVM_DEVICE", device)


@pytest.mark.usefixtures("openable_kvm")
def test_kvm_that_opens_but_boots_nothing_is_found_out_once(tmp_path: Path) -> None:
    cache, said = tmp_path / "accel.json", list[str]()
    decision = decide(Accel.AUTO, cache=cache, boots_under_kvm=broken_kvm, say=said.append)
    assert decision.accel is Accel.TCG
    assert "no guest boots under it" in decision.reason
    assert len(said) == 1
    again = decide(Accel.AUTO, cache=cache, boots_under_kvm=broken_kvm, say=said.append)
    assert again == decision
    assert len(said) == 1


@pytest.mark.usefixtures("openable_kvm")
def test_kvm_asked_for_and_broken_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="asks for KVM") as caught:
        decide(Accel.KVM, cache=tmp_path / "a", boots_under_kvm=broken_kvm, say=lambda _text: None)
    assert caught.value.remedy


@pytest.mark.usefixtures("openable_kvm")
def test_a_damaged_memory_is_not_trusted(tmp_path: Path) -> None:
    cache = tmp_path / "accel.json"
    cache.write_text("{torn")
    decision = decide(Accel.AUTO, cache=cache, boots_under_kvm=lambda: None, say=lambda _text: None)
    assert decision.accel is Accel.KVM


def test_without_kvm_no_guest_is_booted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accel_module, "KVM_DEVICE", tmp_path / "absent")
    decision = decide(Accel.AUTO, cache=tmp_path / "a", boots_under_kvm=broken_kvm, say=lambda _text: None)
    assert (decision.accel, decision.reason) == (Accel.TCG, "this host has no /dev/kvm")


@pytest.mark.parametrize(
    "state", ["/var/lib/qemu-ab-harness", "/home/somebody/with/a/very/long/path/to/state"]
)
def test_the_agents_socket_fits_wherever_the_state_is(state: str) -> None:
    root = Workspace.at(Path(state)).embed_root
    socket = root / "lib/qemu/channel/target" / f"domain-9999-{'x' * 20}" / "org.qemu.guest_agent.0"
    assert len(str(socket)) <= 107


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no --target"),
        (["--target", "/nonexistent/x"], "not a block device"),
        (["--target", "/etc/passwd"], "not a block device"),
        (["--colour", "red"], "unknown option"),
        (["--target"], "needs a value"),
        (["--target", "/dev/null", "--runtime", "1.5"], "not fractions"),
    ],
)
def test_fio_sh_refuses_what_it_cannot_measure(arguments: list[str], message: str, tmp_path: Path) -> None:
    fio = tmp_path / "fio"
    fio.write_text("#!/bin/sh\necho '{}'\n")
    fio.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(
        ["sh", FIO_SH, *arguments], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 64
    assert message in done.stderr
    assert done.stdout == ""
