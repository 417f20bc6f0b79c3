"""What the kernel says of processes and the host, as text; what it does not say is None, never 0."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.adapters.host.processes import every_pid, head_of
from harness.core.procfs import (
    HostStat,
    ProcessStat,
    ThreadKind,
    ThreadStatus,
    parse_head,
    parse_host_stat,
    parse_loadavg,
    parse_schedstat,
    parse_stat,
    parse_status,
    thread_kind,
)

counts = st.integers(0, 2**64 - 1)


def stat_line(name: str, fields: dict[int, int]) -> str:
    """Return /proc/PID/stat with some of its 52 fields set, by their number in proc(5)."""
    return f"7 ({name}) S " + " ".join(str(fields.get(number, 0)) for number in range(4, 53))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("CPU 0/TCG", ThreadKind.VCPU),
        ("CPU 12/KVM", ThreadKind.VCPU),
        ("IO iothread1", ThreadKind.IOTHREAD),
        ("IO hot", ThreadKind.IOTHREAD),
        ("IO mon_iothread", ThreadKind.WORKER),
        ("worker", ThreadKind.WORKER),
        ("call_rcu", ThreadKind.WORKER),
        ("qemu-system-x86", ThreadKind.WORKER),
        ("CPU", ThreadKind.WORKER),
        ("", ThreadKind.WORKER),
    ],
)
def test_a_threads_name_tells_what_it_is_for(name: str, kind: ThreadKind) -> None:
    assert thread_kind(name, is_main=False) is kind
    assert thread_kind(name, is_main=True) is ThreadKind.MAIN


@given(counts, counts, counts)
def test_schedstat_gives_nanoseconds(ran: int, waited: int, slices: int) -> None:
    expected = ran if (ran, waited, slices) != (0, 0, 0) else None
    assert parse_schedstat(f"{ran} {waited} {slices}\n") == expected


def test_a_kernel_without_schedstats_prints_zeros_which_mean_nothing() -> None:
    assert parse_schedstat("0 0 0\n") is None
    assert parse_schedstat("0 51 1\n") == 0, "waited, and not yet run"


@given(st.text(alphabet="ab )(1/", max_size=15), counts, counts, counts, counts)
def test_stat_is_read_whatever_the_thread_is_called(
    name: str, minor: int, major: int, user: int, system: int
) -> None:
    line = stat_line(name, {10: minor, 12: major, 14: user, 15: system})
    assert parse_stat(line) == ProcessStat(user + system, minor, major)


def test_status_gives_memory_in_bytes_and_both_kinds_of_switches() -> None:
    text = "Name:\tq\nVmRSS:\t  2048 kB\nvoluntary_ctxt_switches:\t5\nnonvoluntary_ctxt_switches:\t7\n"
    assert parse_status(text) == ThreadStatus(2048 * 1024, 5, 7)
    # A process that has ended, and is not yet reaped, has no memory.
    assert parse_status("Name:\tq\nState:\tZ (zombie)\n") == ThreadStatus(None, None, None)


def test_the_hosts_busy_and_stolen_time() -> None:
    assert parse_host_stat("cpu  1 2 4 800 900 8 16 32 1 2\ncpu0 9 9 9 9\n") == HostStat(31, 32)
    assert parse_host_stat("cpu  1 2 4 800\n") == HostStat(7, None), "too old to count steal"


def test_load() -> None:
    assert parse_loadavg("1.45 0.82 0.46 5/110 11354\n") == 1.45


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: raw.decode(errors="replace")))
def test_anything_else_gives_nothing_and_breaks_nothing(text: str) -> None:
    for parse in (parse_schedstat, parse_stat, parse_head, parse_host_stat, parse_loadavg):
        assert parse(text) is None or any(character.isdigit() for character in text)
    assert isinstance(parse_status(text), ThreadStatus)


@pytest.mark.parametrize("text", ["", "\n", "a b c", "1 2", "-1 2 3", "1 2 3 4"])
def test_what_is_no_schedstat(text: str) -> None:
    assert parse_schedstat(text) is None


def test_what_a_process_is_stands_behind_its_name() -> None:
    head = parse_head("7 (a) Z 1 (b)) S 5 7 6 0 -1 0 0 0 0 0 1 2 0 0 20 0 1 0 4711 99 1\n")
    assert head is not None
    assert (head.command, head.state, head.parent, head.session) == ("a) Z 1 (b)", "S", 5, 6)
    assert (head.began, head.has_ended) == (4711, False)
    zombie = parse_head("7 (q) Z 5 7 6 0 -1 0 0 0 0 0 1 2 0 0 20 0 1 0 4711")
    assert zombie is not None
    assert zombie.has_ended
    assert parse_head("7 (q) Z 5 7 6") is None


def test_this_process_is_what_it_is() -> None:
    head = head_of(os.getpid())
    assert head is not None
    assert (head.parent, head.session, head.has_ended) == (os.getppid(), os.getsid(0), False)
    assert os.getpid() in every_pid()
    assert head_of(2**30) is None
