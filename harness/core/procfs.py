"""What the kernel says of processes, threads and the host, as text of /proc; pure parsers.

Every parser returns None for what the text does not say: a kernel without a feature is no zero.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

_KIB = 1024
_MOST_DIGITS = 20
_STATUS_FIELD = re.compile(
    r"^(VmRSS|(?:non)?voluntary_ctxt_switches):\s+(\d{1,20})\b", re.MULTILINE | re.ASCII
)


class ThreadKind(StrEnum):
    """What a thread of QEMU is for."""

    VCPU = "vcpu"
    IOTHREAD = "iothread"
    MAIN = "main"
    WORKER = "worker"


def thread_kind(name: str, *, is_main: bool) -> ThreadKind:
    """Return a thread's kind from its name, as QEMU gives it with ``debug-threads=on``.

    vCPUs are called ``CPU 0/TCG`` or ``CPU 0/KVM``, IOThreads ``IO iothread1``. The monitor has an IOThread
    of its own, which moves no disk I/O: it counts as a worker, like the thread pool and RCU.

    Args:
        name: the thread's comm.
        is_main: whether its id is the process's: the main loop.
    """
    if is_main:
        return ThreadKind.MAIN
    if re.match(r"CPU \d+/", name):
        return ThreadKind.VCPU
    if name.startswith("IO ") and name != "IO mon_iothread":
        return ThreadKind.IOTHREAD
    return ThreadKind.WORKER


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """Totals of a process, threads that ended included; or of one thread.

    Attributes:
        cpu_ticks: in user and kernel mode, in clock ticks (``SC_CLK_TCK`` a second).
        minor_faults: page faults that needed no I/O.
        major_faults: page faults that did.
    """

    cpu_ticks: int
    minor_faults: int
    major_faults: int


@dataclass(frozen=True, slots=True)
class ThreadStatus:
    """What /proc/PID/status tells.

    Attributes:
        rss_bytes: resident memory of the whole process; a process that is ending has none left.
        voluntary_switches: context switches of this one thread because it waited.
        involuntary_switches: because another thread's turn came.
    """

    rss_bytes: int | None
    voluntary_switches: int | None
    involuntary_switches: int | None


@dataclass(frozen=True, slots=True)
class HostStat:
    """CPU time of all CPUs since the host was started, in clock ticks.

    Attributes:
        busy: in user and kernel mode, guests and interrupts included.
        steal: that a hypervisor below this host gave to others; None where the kernel does not count it.
    """

    busy: int
    steal: int | None


@dataclass(frozen=True, slots=True)
class ProcessHead:
    """What a process is, by the beginning of /proc/PID/stat.

    Attributes:
        command: the kernel's name of it, 15 characters at most.
        state: a letter; Z and X of one that has ended.
        parent: the process's.
        session: the leader's.
        began: in clock ticks since the host's boot: with its number it names a process for good.
    """

    command: str
    state: str
    parent: int
    session: int
    began: int

    @property
    def has_ended(self) -> bool:
        """Whether it only waits for somebody to take note of its end."""
        return self.state in {"Z", "X"}


def parse_head(text: str) -> ProcessHead | None:
    """Read what a process is from /proc/PID/stat."""
    command, _, rest = text.partition("(")[2].rpartition(")")
    fields = rest.split()
    wanted = [fields[at] for at in (1, 3, 19)] if len(fields) > 19 else []  # noqa: PLR2004
    if not wanted or not all(map(_is_count, wanted)):
        return None
    return ProcessHead(command, fields[0], *map(int, wanted))


def parse_schedstat(text: str) -> int | None:
    """Return the nanoseconds a thread was on a CPU.

    None where the kernel keeps no such count: it then prints ``0 0 0``.
    """
    fields = text.split()
    if len(fields) != 3 or not all(map(_is_count, fields)) or fields == ["0", "0", "0"]:  # noqa: PLR2004
        return None
    return int(fields[0])


def parse_stat(text: str) -> ProcessStat | None:
    """Read /proc/PID/stat or /proc/PID/task/TID/stat."""
    # The name stands in parentheses and may itself hold blanks and parentheses.
    fields = text.rpartition(")")[2].split()
    wanted = [fields[at] for at in (7, 9, 11, 12)] if len(fields) > 12 else []  # noqa: PLR2004
    if not wanted or not all(map(_is_count, wanted)):
        return None
    minor, major, user, system = map(int, wanted)
    return ProcessStat(user + system, minor, major)


def parse_status(text: str) -> ThreadStatus:
    """Read /proc/PID/status or /proc/PID/task/TID/status."""
    fields = {name: int(value) for name, value in _STATUS_FIELD.findall(text)}
    rss = fields.get("VmRSS")
    return ThreadStatus(
        None if rss is None else rss * _KIB,
        fields.get("voluntary_ctxt_switches"),
        fields.get("nonvoluntary_ctxt_switches"),
    )


def parse_host_stat(text: str) -> HostStat | None:
    """Read the first line of /proc/stat."""
    name, *fields = (text.partition("\n")[0].split() or [""])[:9]
    if name != "cpu" or len(fields) < 4 or not all(map(_is_count, fields)):  # noqa: PLR2004
        return None
    # user nice system idle iowait irq softirq steal; guests' time is part of user and nice.
    ticks = dict(enumerate(map(int, fields)))
    return HostStat(sum(ticks.get(at, 0) for at in (0, 1, 2, 5, 6)), ticks.get(7))


def parse_loadavg(text: str) -> float | None:
    """Return the load average over one minute, from /proc/loadavg."""
    first = text.split(maxsplit=1)[:1]
    return float(first[0]) if first and re.fullmatch(r"\d{1,9}\.\d{1,9}", first[0], re.ASCII) else None


def _is_count(field: str) -> bool:
    # The kernel's counters are 64 bits wide; Python itself refuses to read thousands of digits.
    return field.isascii() and field.isdigit() and len(field) <= _MOST_DIGITS
