"""The way in by SSH, against a real sshd on this machine's loopback: no guest, but all else."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.adapters.guest.disk_guest import free_port
from harness.adapters.guest.seed import new_key_pair
from harness.adapters.guest.ssh import HOST, SshAccess, SshConnection
from harness.adapters.waiting import Stop, Waiter
from harness.core.errors import GuestError, HarnessError, Interrupted
from harness.core.guest_seed import KeyPair, known_host
from sshd import find_sshd, passwd

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.ansible
"""As little as a playbook needs: packages."""

LONG = 20.0


@dataclass
class Guest:
    """An sshd of the tests' own in place of a guest's.

    Attributes:
        access: with the right key, and the right host key.
    """

    port: int
    access: SshAccess
    sshd: subprocess.Popen[bytes]


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory with a path short enough for ssh's socket."""
    directory = Path(tempfile.mkdtemp(prefix="ab-ssh-"))
    yield directory
    shutil.rmtree(directory)


def _write_key(path: Path, pair: KeyPair) -> Path:
    path.touch(0o600)
    path.write_text(pair.private)
    path.with_suffix(".pub").write_text(pair.public + "\n")
    return path


@pytest.fixture(scope="module")
def guest(place: Path) -> Iterator[Guest]:
    packages = place / "packages"
    packages.mkdir()
    program, environment = find_sshd(packages)
    host, login = new_key_pair(), new_key_pair()
    _write_key(place / "host", host)
    key = _write_key(place / "login", login)
    (place / "known_hosts").write_text(known_host(HOST, host.public))
    port, user = free_port(), pwd.getpwuid(os.geteuid()).pw_name
    (place / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {place}/host\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {place}/login.pub\nPermitRootLogin prohibit-password\n"
    )
    # sshd wants a user of its own; this machine need not get one.
    (place / "passwd").write_text(passwd())
    start = f"mount --bind {place}/passwd /etc/passwd && mkdir -p /run/sshd && exec {program} -D -e -f"
    with (place / "sshd.log").open("wb") as log:
        sshd = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", f"{start} {place}/sshd_config"], env=environment, stderr=log
        )
    yield Guest(port, SshAccess(user, key, place / "known_hosts", place), sshd)
    sshd.terminate()
    sshd.wait()


class Bench:
    """A waiter, with what can end a wait."""

    def __init__(self) -> None:
        self.stop, self.stopped = Stop(), threading.Event()
        self.waiter = Waiter(self.stop, self.stopped, lambda: GuestError("the guest stopped by itself"))

    def die(self) -> None:
        self.stopped.set()
        self.waiter.wake()


@contextmanager
def connected(guest: Guest, bench: Bench | None = None) -> Iterator[SshConnection]:
    with SshConnection(guest.access, guest.port, (bench or Bench()).waiter) as connection:
        assert connection.wait_ready(LONG), connection.why_silent()
        yield connection


def test_a_program_runs_to_its_end_with_its_output(guest: Guest) -> None:
    with connected(guest) as connection:
        done = connection.run(
            ["/bin/sh", "-s", "--", "a b", "$HOME;'"], stdin='echo "$1|$2"; echo no >&2; exit 7', grace=LONG
        )
        assert (done.exit_code, done.stdout, done.stderr) == (7, "a b|$HOME;'\n", "no\n")
        # A remote program may well end as a broken connection would.
        assert connection.run(["/bin/sh", "-c", "exit 255"], grace=LONG).exit_code == 255
        big = connection.run(["/bin/sh", "-c", "head -c 2000000 /dev/zero | tr '\\0' x"], grace=LONG)
        assert len(big.stdout) == 2_000_000
    assert not guest.access.socket.exists(), "the connection ends with the session"


def test_a_flood_is_cut_off(guest: Guest) -> None:
    with connected(guest) as connection, pytest.raises(GuestError, match="more than 16777216 bytes"):
        connection.run(["/bin/cat", "/dev/zero"], grace=LONG)


def test_what_hangs_is_given_up_and_what_ends_waiting_ends_it_at_once(guest: Guest) -> None:
    bench = Bench()
    with connected(guest, bench) as connection:
        with pytest.raises(GuestError, match=r"/bin/sleep in the guest did not end within 1 s"):
            connection.run(["/bin/sleep", "60"], grace=1)
        threading.Timer(0.2, bench.die).start()
        began = time.monotonic()
        with pytest.raises(GuestError, match="stopped by itself"):
            connection.run(["/bin/sleep", "60"], due=60, grace=LONG)
        bench.stopped.clear()
        threading.Timer(0.2, bench.stop.set).start()
        with pytest.raises(Interrupted):
            connection.run(["/bin/sleep", "60"], due=60, grace=LONG)
        assert time.monotonic() - began < LONG


def test_another_host_key_is_never_spoken_to(guest: Guest, place: Path) -> None:
    other = place / "other_hosts"
    other.write_text(known_host(HOST, new_key_pair().public))
    theirs = replace(guest.access, known_hosts=other, final=True)
    with (
        SshConnection(theirs, guest.port, Bench().waiter) as connection,
        pytest.raises(GuestError, match="host key is not the one that is pinned") as caught,
    ):
        connection.wait_ready(LONG)
    assert "guest.ssh.host_key" in str(caught.value.remedy)
    # Our own may not be in place yet: cloud-init is still to write it.
    with SshConnection(replace(theirs, final=False), guest.port, Bench().waiter) as connection:
        assert not connection.wait_ready(5)
        why, remedy = connection.why_silent()
    assert "host key" in why
    assert "cloud-init" in remedy


def test_a_key_that_is_refused_says_so(guest: Guest, place: Path) -> None:
    wrong = replace(guest.access, key=_write_key(place / "wrong", new_key_pair()), final=True)
    with (
        SshConnection(wrong, guest.port, Bench().waiter) as connection,
        pytest.raises(GuestError, match=r"refuses .*'s key: .*Permission denied") as caught,
    ):
        connection.wait_ready(LONG)
    assert "passwords are not used" in str(caught.value.remedy)


def test_nobody_there_is_no_answer(guest: Guest) -> None:
    with SshConnection(guest.access, free_port(), Bench().waiter) as connection:
        assert not connection.wait_ready(3)
        why, _remedy = connection.why_silent()
    assert "Connection refused" in why


def test_a_lost_connection_is_no_exit_code(guest: Guest) -> None:
    with connected(guest) as connection:
        assert connection._master is not None  # noqa: SLF001 - what the test breaks
        connection._master.terminate()  # noqa: SLF001 - likewise
        connection._master.wait(LONG)  # noqa: SLF001 - likewise
        guest.access.socket.unlink(missing_ok=True)
        lost = replace(guest.access, key=Path("/nonexistent"))
        connection._access = lost  # noqa: SLF001 - likewise
        with pytest.raises(GuestError, match="connection to the guest is lost"):
            connection.run(["/bin/true"], grace=LONG)


def test_without_an_ssh_program_nobody_waits(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    connection = SshConnection(guest.access, guest.port, Bench().waiter)
    with connection, pytest.raises(HarnessError, match="the program ssh is not there") as caught:
        connection.wait_ready(60)
    assert caught.value.remedy == "install it, or put it in PATH"
