"""What a guest and QEMU answer: the guest agent's replies, and facts of guest, process and QEMU."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import threading
from typing import TYPE_CHECKING, Any, cast
from unittest import mock

import libvirt_qemu
import orjson

from fuzz.agent_answers import mutate_agent
from fuzz.mutation import mutate_bytes, mutate_json, mutate_lines, parsed, write
from fuzz.target import READ, Target, outcome_of, require
from harness.adapters.domain import Domain
from harness.adapters.files import printable_lines
from harness.adapters.guest.agent import AgentConnection
from harness.adapters.qemu_view import QemuView
from harness.core import procfs
from harness.core.errors import HarnessError
from harness.core.guest_view import QUEUE_SETTINGS, parse_guest
from harness.core.mappings import count_mappings
from harness.core.provenance import comparable
from harness.core.qemu_log import last_words, qemu_said

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from random import Random

    from harness.adapters.waiting import Waiter
    from harness.core.protocols import Execution

_AT_ONCE = 0.0
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")


class _Waiter:
    """Waits for nothing."""

    def until(self, condition: Callable[[], bool], _timeout: float) -> bool:
        return condition()

    def sleep(self, _seconds: float) -> None:
        """Time stands still."""

    def wake(self) -> None:
        """Nobody sleeps."""


@contextlib.contextmanager
def _domain(command: str, answers: list[str]) -> Iterator[Domain]:
    """Give libvirt's domain, whose answers come from a list, over and over."""
    domain = object.__new__(Domain)
    domain._handle = None
    domain.agent_connected = threading.Event()
    domain.agent_connected.set()
    rest = list(answers)

    def answer(*_arguments: object) -> str:
        rest.append(rest.pop(0))
        return rest[-1]

    with mock.patch.object(libvirt_qemu, command, answer):
        yield domain


def check_agent(data: bytes, _directory: Path) -> str:
    """Run a program in a guest whose agent says a line of the input to each question."""
    lines = data.decode(errors="replace").split("\n")
    with _domain("qemuAgentCommand", lines) as domain:
        connection = AgentConnection(domain, cast("Waiter", _Waiter()), 1.0)
        try:
            if not connection.wait_ready(1.0):
                return "not ready"
            execution = connection.run(["/bin/true"], grace=_AT_ONCE)
        except HarnessError as error:
            return outcome_of(error)
    require(type(execution.exit_code) is int, f"the exit code {execution.exit_code!r}")
    require(0 <= execution.exit_code < 2**32, f"the exit code {execution.exit_code}")
    _compare(execution, lines)
    return READ


def _compare(found: Execution, lines: list[str]) -> None:
    """Hold what a program printed and how it ended against what some line of the input says."""
    said = [parsed(line.encode("utf-8", "surrogatepass")) for line in lines]
    ends = [
        line["return"] for line in said if isinstance(line, dict) and isinstance(line.get("return"), dict)
    ]
    require(
        any(_says(end, found) for end in ends),
        f"exit code {found.exit_code}, {found.stdout!r:.80} and {found.stderr!r:.80} came from nowhere",
    )


def _says(end: dict[str, Any], found: Execution) -> bool:
    if end.get("exited") is not True or end.get("out-truncated") or end.get("err-truncated"):
        return False
    told, signal = end.get("exitcode"), end.get("signal") or 0
    # Beside an exit code, whatever is said of a signal is not looked at.
    if "exitcode" not in end and isinstance(signal, int):
        told = 128 + signal
    outputs = [end.get(name, "") for name in ("out-data", "err-data")]
    return told == found.exit_code and [_plain(text) for text in outputs] == [found.stdout, found.stderr]


def _plain(text: Any) -> str | None:
    """Return what base64 stands for; None where it is none to the letter."""
    if not isinstance(text, str) or len(text) % 4 or not _BASE64.fullmatch(text):
        return None
    return base64.b64decode(text).decode(errors="replace")


def agent_seeds() -> list[bytes]:
    """Return conversations: of programs that ended well, badly, late, with much or odd output."""
    out = base64.b64encode(b'{"fio version": "fio-3.33"}\n').decode()
    started = {"return": {"pid": 42}}
    ends: list[dict[str, Any]] = [
        {"exited": True, "exitcode": 0, "out-data": out, "err-data": out},
        {"exited": True, "exitcode": 64, "err-data": base64.b64encode(b"\xff\x1b[31m").decode()},
        {"exited": True, "signal": 9},
        {"exited": True, "exitcode": 0, "out-data": out, "out-truncated": True},
        {"exited": False},
    ]
    seeds = ["\n".join(map(json.dumps, ({"return": {}}, started, {"return": end}))) for end in ends]
    return [seed.encode() for seed in seeds]


AGENT = Target("agent", "guest agent's replies", check_agent, agent_seeds, mutate_agent)


# -- facts ---------------------------------------------------------------------------------------------------


def check_facts(data: bytes, _directory: Path) -> str:
    """Read a text as everything that may print it: a guest's script, /proc, QEMU's log and its monitor."""
    text = data.decode(errors="replace")
    facts = parse_guest(printable_lines(text))
    require(set(facts["disk"]) == {"features", "hw_queues", *QUEUE_SETTINGS}, "other facts of the disk")
    for line in text.split("\n"):
        name, colon, value = line.partition(":")
        if colon and name == "fio" and line.isprintable():
            require(facts["fio"] is not None, f"fio's version {value!r} was not read")
    _process(text, data)
    facts["qemu"] = _qemu(text)
    # As it is put on disk, and as sessions are compared by it.
    require(orjson.loads(orjson.dumps(facts)) == facts, "facts that a run directory cannot hold")
    comparable(facts)
    return READ


def _process(text: str, data: bytes) -> None:
    numbers = [procfs.parse_schedstat(text), procfs.parse_loadavg(text)]
    if stat := procfs.parse_stat(text):
        numbers += [stat.cpu_ticks, stat.minor_faults, stat.major_faults]
    status = procfs.parse_status(text)
    numbers += [status.rss_bytes, status.voluntary_switches, status.involuntary_switches]
    if host := procfs.parse_host_stat(text):
        numbers += [host.busy, host.steal]
        require(host.busy == _simple_busy(text), "CPU time that is not the sum of its parts")
    require(
        all(number is None or 0 <= number < 2**70 for number in numbers), f"impossible numbers: {numbers}"
    )
    mappings = count_mappings(data)
    require(0 <= mappings.coroutines * 2 <= mappings.vmas + 1, f"more stacks than areas: {mappings}")
    said = qemu_said(text)
    require(last_words(said) in {None, *said}, "last words that nobody said")


def _simple_busy(text: str) -> int:
    numbers = [int(field) for field in text.split("\n", maxsplit=1)[0].split()[1:8]] + [0] * 7
    return sum(numbers[at] for at in (0, 1, 2, 5, 6))


def _qemu(text: str) -> dict[str, Any]:
    with _domain("qemuMonitorCommand", text.split("\n")) as domain:
        view = object.__new__(QemuView)
        # Without its thread, so that what is raised is seen here.
        view._domain, view._stopped = domain, threading.Event()
        return view._view()


def facts_seeds() -> list[bytes]:
    """Return what each of them prints."""
    guest = (
        "hw_queues:2\nfio:fio-3.33\nqueue/scheduler:[none] mq-deadline\nqueue/nr_requests:128\n"
        'device/features:0010101001110000\n/etc/os-release:PRETTY_NAME="Debian GNU/Linux 12"\n'
        "/proc/sys/kernel/osrelease:6.1.0-32-amd64\n/proc/cmdline:console=ttyS0\n"
        "/sys/devices/system/cpu/online:0-3\n/proc/modules:virtio_blk 1 0 - Live 0x0\n"
        "cpuinfo:model name\t: QEMU Virtual CPU\ncpuinfo:flags\t\t: sse2 fpu\ncpuinfo:\n"
    )
    maps = (
        "7f0000000000-7f0000001000 ---p 00000000 00:00 0 \n7f0000001000-7f0000101000 rw-p 00000000 00:00 0 \n"
        "7f0000101000-7f0000102000 r-xp 00000000 08:01 42 /usr/bin/qemu\n"
    )
    status = "Name:\tqemu\nVmRSS:\t  1234 kB\nvoluntary_ctxt_switches:\t5\nnonvoluntary_ctxt_switches:\t6\n"
    stat = "42 (qemu-system x) S 1 42 42 0 -1 4194560 500 0 3 0 700 80 0 0 20 0 5 0 100 1000 200 18446744073709551615\n"
    log = (
        "2026-01-01 10:00:00.000+0000: starting up libvirt version: 9.0.0\nLC_ALL=C \\\n/usr/bin/qemu \\\n-name x\n"
        "2026-01-01T10:00:01.000000Z qemu-system-x86_64: terminating on signal 15\n"
    )
    answers = [
        [{"cpu-index": 0, "qom-path": "/machine/unattached/device[0]", "thread-id": 5}],
        {"qemu": {"micro": 0, "minor": 2, "major": 7}, "package": "Debian 1:7.2"},
        "pc-q35-7.2-machine",
        {"enabled": False, "present": True},
        [{"node-name": "#block123", "drv": "raw", "file": 'json:{"driver": "null-co"}', "ro": False, "image": {"virtual-size": 1024}}],
        [{"id": "iothread1", "poll-max-ns": 32768, "thread-id": 6}],
        [{"name": "vdb", "type": "child<virtio-blk-pci>"}, {"name": "queue-size", "type": "uint16"}],
        256,
    ]  # fmt: skip
    qmp = "\n".join(json.dumps({"return": answer}) for answer in answers)
    return [
        one.encode()
        for one in (
            guest,
            maps,
            status,
            stat,
            "cpu  10 20 30 40 50 60 70 80 0 0\n",
            "0.50 0.4 0.3 1/99 5\n",
            "1 2 3\n",
            log,
            qmp,
        )
    ]


def mutate_facts(data: bytes, random: Random) -> bytes:
    """Change lines, and JSON in them as JSON."""
    lines = data.split(b"\n")
    at = random.randrange(len(lines))
    if parsed(lines[at]) is not None and random.random() < 0.8:
        lines[at] = mutate_json(lines[at], random).replace(b"\n", b" ")
        return b"\n".join(lines)
    if random.random() < 0.1:
        return (
            mutate_bytes(data, random)
            + b"\n"
            + write({"return": random.choice((None, 1, [], [1], {"error": 1}))})
        )
    return mutate_lines(data, random)


FACTS = Target("facts", "facts of guest, process and QEMU", check_facts, facts_seeds, mutate_facts)
