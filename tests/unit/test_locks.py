"""Locks: one measurement a host, one writer a run directory; never stale."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from harness.adapters.host import locks
from harness.adapters.host.locks import (
    Patience,
    exclusive,
    holder_of,
    host_alone,
    host_holder,
    host_shared,
)
from harness.core.errors import BusyError, HarnessError, Interrupted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOLDER = """
import sys, time
from pathlib import Path
from harness.adapters.host.locks import exclusive
with exclusive(Path(sys.argv[1]), what="this host", remedy="wait"):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def held_elsewhere(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout
            assert holder.stdout.readline() == b"held\n"
            yield holder
        finally:
            holder.kill()


def take(path: Path) -> None:
    with exclusive(path, what="this host", remedy="wait for it"):
        pass


def test_a_second_process_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with held_elsewhere(lock) as holder, pytest.raises(BusyError) as caught:
        take(lock)
    assert f"this host is in use by process {holder.pid} (" in caught.value.message
    assert caught.value.remedy == "wait for it"
    assert caught.value.exit_code == 1


def test_who_holds_a_lock_is_told_without_taking_it(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    assert holder_of(lock) is None
    assert not lock.exists(), "a look leaves nothing behind"
    with held_elsewhere(lock) as holder:
        assert str(holder_of(lock)).startswith(f"process {holder.pid} (")
        holder.kill()
        holder.wait()
        assert holder_of(lock) is None
    take(lock)


def test_a_run_that_begins_while_somebody_looks_is_not_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "lock"
    descriptor = os.open(lock, os.O_RDONLY | os.O_CREAT, 0o644)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    # Who looks is done while the run waits a moment.
    monkeypatch.setattr(time, "sleep", lambda _seconds: os.close(descriptor))
    take(lock)


def test_a_lock_whose_holder_was_killed_is_free(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with held_elsewhere(lock) as holder:
        holder.kill()
        holder.wait()
        take(lock)
    assert lock.exists()


def take_patiently(path: Path, patience: Patience) -> None:
    with exclusive(path, what="this host", remedy="wait for it", patience=patience):
        pass


def test_whoever_is_patient_gets_the_lock_when_its_holder_is_killed(tmp_path: Path) -> None:
    said: list[str] = []
    with held_elsewhere(tmp_path / "lock") as holder:

        def say(sentence: str) -> None:
            said.append(sentence)
            holder.kill()

        take_patiently(tmp_path / "lock", Patience(60, say))
    assert len(said) == 1
    assert said[0].startswith(f"waiting for process {holder.pid} (")
    assert said[0].endswith(") to end")


def test_patience_that_runs_out_names_the_holder_and_how_long_it_lasted(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path / "lock") as holder, pytest.raises(BusyError) as caught:
        take_patiently(tmp_path / "lock", Patience(1))
    assert caught.value.message.startswith(f"this host is in use by process {holder.pid} (")
    assert caught.value.message.endswith("; waited 1 s")


def test_whoever_waits_long_says_so_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_POLL_SECONDS", 0.05)
    monkeypatch.setattr(locks, "_SAY_AGAIN_SECONDS", 0.1)
    said: list[str] = []
    with held_elsewhere(tmp_path / "lock"), pytest.raises(BusyError):
        take_patiently(tmp_path / "lock", Patience(3, said.append))
    assert len(said) > 2
    assert all(sentence.startswith("still waiting, ") for sentence in said[1:])


def test_a_wait_ends_when_the_user_wants_it(tmp_path: Path) -> None:
    asked: list[int] = []

    def stopped() -> bool:
        asked.append(1)
        return len(asked) > 1

    with held_elsewhere(tmp_path / "lock"), pytest.raises(Interrupted, match="while waiting"):
        take_patiently(tmp_path / "lock", Patience(60, stopped=stopped))


def test_a_lock_is_free_after_use_also_when_the_use_failed(tmp_path: Path) -> None:
    def fail() -> None:
        with exclusive(tmp_path / "lock", what="x", remedy="y"):
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    take(tmp_path / "lock")


def test_it_is_exclusive_within_one_process_too(tmp_path: Path) -> None:
    with (
        exclusive(tmp_path / "lock", what="x", remedy="y"),
        pytest.raises(BusyError, match=f"process {os.getpid()} "),
    ):
        take(tmp_path / "lock")


def test_two_locks_do_not_meet(tmp_path: Path) -> None:
    with exclusive(tmp_path / "one", what="x", remedy="y"):
        take(tmp_path / "two")


def test_a_holder_that_cannot_be_seen_is_still_a_holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As when the file's inode in /proc/locks is another one (overlay file systems).
    descriptor = os.open(tmp_path / "lock", os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    real = os.fstat
    monkeypatch.setattr(os, "fstat", lambda fd: os.stat_result((real(fd)[0], 1, *real(fd)[2:])))
    with pytest.raises(BusyError, match="in use by another process"):
        take(tmp_path / "lock")
    os.close(descriptor)


def test_a_lock_that_cannot_be_made_is_an_error_in_words(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"cannot make the lock .*absent/lock: No such file"):
        take(tmp_path / "absent" / "lock")


def test_anothers_lock_file_in_a_sticky_directory_is_opened_without_making_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real = tmp_path / "lock", os.open
    path.touch()

    def protected(name: Path, flags: int, *mode: int) -> int:
        if flags & os.O_CREAT:
            raise PermissionError(13, "Permission denied")
        return real(name, flags, *mode)

    monkeypatch.setattr(os, "open", protected)
    take(path)


def test_where_run_lock_is_everybodys_there_is_one_lock(host_lock: Path) -> None:
    with host_alone():
        assert host_lock.exists()
        assert not locks.USERS_LOCK.exists()


def test_where_run_lock_is_roots_alone_root_and_users_see_each_other(
    host_lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host_lock.parent.chmod(0o755)
    with host_alone(), pytest.raises(BusyError, match="this host is in use"):
        take(locks.USERS_LOCK)
    host_lock.unlink()
    with held_elsewhere(locks.USERS_LOCK) as user:
        assert f"process {user.pid}" in str(host_holder())
        with pytest.raises(BusyError, match=f"process {user.pid}"), host_alone():
            pass
    host_lock.unlink()
    # What a user does, who may make none there.
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    with host_alone():
        assert not host_lock.exists()
        assert locks.USERS_LOCK.exists()
    # One that is there already is everybody's.
    host_lock.touch()
    with host_alone(), pytest.raises(BusyError, match="this host is in use"):
        take(host_lock)


def test_the_host_is_measured_by_one_at_a_time(host_lock: Path) -> None:
    with held_elsewhere(host_lock) as holder, pytest.raises(BusyError) as caught, host_alone():
        pass
    assert f"process {holder.pid}" in caught.value.message
    assert "must be alone" in str(caught.value.remedy)


@pytest.mark.usefixtures("host_lock")
def test_counts_share_the_host_with_each_other_but_not_with_a_measurement() -> None:
    with host_shared(), host_shared(), pytest.raises(BusyError, match="this host is in use"), host_alone():
        pass
    with host_alone(), pytest.raises(BusyError, match="this host is in use") as caught, host_shared():
        pass
    assert "would disturb the measurement" in str(caught.value.remedy)


def test_a_link_in_the_locks_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "victim")
    with pytest.raises(HarnessError, match=r"cannot make the lock .*/lock") as caught:
        take(tmp_path / "lock")
    assert "symbolic link" in str(caught.value.remedy)
    assert not (tmp_path / "victim").exists()
    assert holder_of(tmp_path / "lock") is None


def test_a_pipe_in_the_locks_place_blocks_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "lock")
    with pytest.raises(HarnessError, match="is no file"):
        take(tmp_path / "lock")
    holder_of(tmp_path / "lock")


def test_the_holder_is_not_that_of_a_file_of_the_same_number_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock"
    with locks.exclusive(path, what="it", remedy="wait"):
        status = path.stat()
        here = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
        lines = [
            f"{number}: FLOCK ADVISORY WRITE {pid} {device}:{status.st_ino} 0 EOF"
            for number, (pid, device) in enumerate([(1, "fe:ff"), (os.getpid(), here)])
        ]
        monkeypatch.setattr(locks, "_LOCKS", tmp_path / "locks")
        (tmp_path / "locks").write_text("\n".join(lines))
        assert f"process {os.getpid()} " in str(locks.holder_of(path))
        (tmp_path / "locks").write_text(lines[0])
        assert "process 1 " in str(locks.holder_of(path)), (
            "where devices are told otherwise, the number has to do"
        )
