"""What misses of the coroutine pool cost: from counts to the tables, and what does not fit."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
import socket
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from counted_run import make
from hypothesis import given
from hypothesis import strategies as st

from harness.adapters.guestless.callgrind import counting
from harness.adapters.guestless.qmp import QmpSocket
from harness.adapters.guestless.qtest import ConnectionLostError
from harness.adapters.guestless.store import CountDirectory
from harness.adapters.guestless.strace import Strace, read_calls
from harness.adapters.scratch import scratch
from harness.adapters.waiting import Stop
from harness.analysis.cost_tables import render_costs
from harness.analysis.pool_costs import PoolCount, numbers_of, pool_costs
from harness.core.counting.callgrind import parse_callgrind
from harness.core.counting.planning import (
    count_plan_from_json,
    count_plan_to_json,
    make_pool_plan,
    pool_points,
)
from harness.core.counting.records import CountRecord
from harness.core.counting.rig import RigFiles
from harness.core.counting.strace import StraceFormatError, parse_summary
from harness.core.errors import HarnessError, InputError
from harness.core.experiment import Pool, load_experiment
from harness.core.model import Cell, Counter
from harness.core.pool import counted_arguments, hold_command
from harness.core.records import IterationState
from harness.shell.costing import compare_counts
from resealed import rewrite

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness.core.counting.planning import PlannedCount

EXPERIMENT = """\
name: counted
workload: instructions
builds: {OLD: {path: /old}, NEW: {path: /new}}
baseline: OLD
disk: {queue_size: 1024}
instructions: {load: coroutine-pool, disks: 2}
matrix: {hoarder: [false, true], iodepth: 2048}
"""
SUMMARY = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 51.00    0.100000          29      3399         1 mmap
 49.00    0.090000          25      3501           mprotect
  0.00    0.000100           5        20           munmap
------ ----------- ----------- --------- --------- ----------------
100.00    0.190100          27      6920         1 total
"""


# strace


def test_a_summary_says_how_often_each_call_was_made() -> None:
    assert parse_summary(SUMMARY) == {"mmap": 3399, "mprotect": 3501, "munmap": 20}


@given(st.integers(0, len(SUMMARY) - 8))
def test_a_summary_that_is_not_whole_is_refused(cut: int) -> None:
    with pytest.raises(StraceFormatError, match="no total"):
        parse_summary(SUMMARY[:cut])


def test_a_summary_that_does_not_add_up_is_refused() -> None:
    with pytest.raises(StraceFormatError, match="add up"):
        parse_summary(SUMMARY.replace("3399", "3398"))


MAPS = """\
import ctypes, sys
libc = ctypes.CDLL(None)
libc.mmap.restype, libc.munmap.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_size_t]
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
for _ in range(int(sys.argv[1])):
    libc.munmap(libc.mmap(None, 4096, 3, 0x22, -1, 0), 4096)
"""


def traced(times: int) -> dict[str, int]:
    """Return the calls of a real process under a real strace."""
    strace = Strace.find()
    assert strace is not None, "strace is a package of the host's role"
    with scratch() as directory:
        command = strace.command([sys.executable, "-c", MAPS, str(times)], directory)
        with counting(command, directory, stop=Stop(), timeout=120) as counted:
            assert counted.wait() == 0, counted.said()
            return read_calls(counted, directory)


def test_a_real_process_is_counted_to_the_last_call() -> None:
    few, many = traced(10), traced(510)
    assert many["mmap"] - few["mmap"] == 500
    assert many["munmap"] - few["munmap"] == 500


def test_a_host_without_strace_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    assert Strace.find() is None


# Planning


def test_system_calls_are_counted_at_both_ends_of_every_cell() -> None:
    cells = [Cell("randread", "4k", depth) for depth in (512, 2048)]
    plan = make_pool_plan(variants=("OLD", "NEW"), cells=cells, repeats=2, calls=True)
    by_calls = [count for count in plan.counts if count.counter is Counter.STRACE]
    assert {(count.cell.iodepth, count.requests) for count in by_calls} == {
        (depth, pool_points(depth)[end]) for depth in (512, 2048) for end in (0, 2)
    }
    assert len(by_calls) == 2 * 2 * 2 * 2
    assert [count.number for count in plan.counts] == list(range(len(plan.counts)))
    assert count_plan_from_json(count_plan_to_json(plan)) == plan
    blind = make_pool_plan(variants=("OLD", "NEW"), cells=cells, repeats=2, calls=False)
    assert blind.counts == plan.counts[: len(blind.counts)]
    assert all(count.counter is Counter.CALLGRIND for count in blind.counts)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (("queue_size: 1024", "queue_size: 1024, latency: 1s"), "disk.latency"),
        (("queue_size: 1024", "queue_size: 1024, queues: 2"), "disk.queues"),
        (("queue_size: 1024", "queue_size: 1024, backend: file"), "disk.backend"),
        (("iodepth: 2048", "iodepth: 2048, rw: randwrite"), "matrix.rw"),
        (("iodepth: 2048", "iodepth: 2048, bs: 8k"), "matrix.bs"),
        (("iodepth: 2048", "iodepth: 2048, queues: [1, 2]"), "matrix.queues"),
        (("iodepth: 2048", "iodepth: 2049"), "matrix.iodepth"),
        (("iodepth: 2048", "iodepth: 4096"), "matrix.iodepth"),
        (("disks: 2", "disks: 2, ring: packed"), "instructions.ring"),
        (("load: coroutine-pool", "load: virtio-blk, indirect: true"), "matrix.hoarder"),
    ],
)
def test_what_the_bursts_do_not_do_is_refused(change: tuple[str, str], key: str) -> None:
    with pytest.raises(InputError) as caught:
        load_experiment(EXPERIMENT.replace(*change), "x.yml")
    assert any(key in problem.where for problem in caught.value.problems), str(caught.value)


def test_a_guest_has_no_hoarder() -> None:
    text = EXPERIMENT.replace("workload: instructions\n", "").replace(
        "instructions: {load: coroutine-pool, disks: 2}\n", ""
    )
    with pytest.raises(InputError, match="hoarder"):
        load_experiment(text.replace("iodepth: 2048", "iodepth: 1"), "x.yml")


def test_disks_that_are_held_have_no_timers_and_no_polling() -> None:
    pool = Pool(rounds=5, burst_disks=2, queue_size=1024)
    argv = counted_arguments(pool, "q35", RigFiles("/b", "/m", "/q"), "/qmp", memory=2**26)
    assert argv[argv.index("-qmp") + 1] == "unix:/qmp"
    assert not any("latency" in argument for argument in argv)
    iothreads = [argument for argument in argv if argument.startswith("iothread,")]
    assert len(iothreads) == 6
    assert all(argument.endswith("poll-max-ns=0") for argument in iothreads)
    held, free = (hold_command("burst0", hold=hold)[1] for hold in (True, False))
    assert held["id"] == free["id"] == "/machine/peripheral/burst0/virtio-backend"
    assert (held["iops"], held["iops_size"]) == (1, 1)
    assert free["iops_size"] == 0


# QEMU's monitor


@contextmanager
def monitor(answers: bytes) -> Iterator[QmpSocket]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(5)
        theirs.sendall(answers)
        theirs.shutdown(socket.SHUT_WR)
        yield QmpSocket(ours)


GREETING = b'{"QMP": {"version": {}}}\n{"return": {}}\n'


def test_a_monitor_answers_between_its_events() -> None:
    with monitor(GREETING + b'{"event": "STOP"}\n{"return": {}}\n') as qmp:
        qmp.execute("stop", {})
        with pytest.raises(ConnectionLostError):
            qmp.execute("stop", {})


def test_a_monitor_that_refuses_or_goes_is_an_error() -> None:
    refused = GREETING + b'{"error": {"desc": "no such device"}}\n'
    with monitor(refused) as qmp, pytest.raises(HarnessError, match="refused x: no such device"):
        qmp.execute("x", {})
    with monitor(GREETING) as qmp, pytest.raises(ConnectionLostError):
        qmp.execute("x", {})
    with pytest.raises(HarnessError, match="does not greet"), monitor(b"{}\n"):
        pass


# From counts to tables

PROFILE = """\
version: 1
thread: 3
events: Ir
fn=(1) qemu_coroutine_create
0 100
cfn=(2) qemu_coroutine_new
calls={made} 0
0 {new}
fn=(2)
0 10
cfn=(5) qemu_alloc_stack
calls={made} 0
0 50
fn=(6) __longjmp
0 10
cfn=(2)
calls={made} 0
0 {back}
fn=(3) coroutine_delete
0 10
cfn=(4) qemu_coroutine_delete
calls={freed} 0
0 {delete}

totals: {total}
"""


def profile(made: int, freed: int, *, total: int = 10**6) -> str:
    return PROFILE.format(
        made=made, new=600 * made, back=300 * made, freed=freed, delete=200 * freed, total=total
    )


def test_misses_are_the_calls_that_make_coroutines() -> None:
    found = numbers_of([parse_callgrind(profile(30, 20))])
    assert found == {"misses": 30, "instructions": 30 * 900 + 20 * 200}
    nameless = profile(30, 20).replace("qemu_alloc_stack", "0x0000000000001234")
    assert numbers_of([parse_callgrind(nameless)]) == {}


def test_the_difference_of_two_counts_is_the_cost_of_a_request() -> None:
    counts = [
        PoolCount("OLD", ("a",), requests, {"misses": 500 + requests // 4, "calls": 900 + 3 * requests // 4})
        for requests in (1000, 2000)
    ]
    (cost,) = pool_costs(counts).values()
    assert (cost.misses, cost.calls) == (0.25, 0.75)
    assert math.isnan(cost.instructions)
    (alone,) = pool_costs(counts[:1]).values()
    assert math.isnan(alone.misses)


def run_of(path: Path, monkeypatch: pytest.MonkeyPatch, *, strace: bool = True, symbols: bool = True) -> Path:
    """Make a run in which OLD misses where there is a hoarder, and NEW always a quarter."""
    version = "strace -- version 6.1" if strace else None
    found = Strace("/usr/bin/strace", "strace -- version 6.1") if strace else None
    monkeypatch.setattr(Strace, "find", classmethod(lambda _cls: found))
    make(path, lambda _planned: None, EXPERIMENT)
    run = CountDirectory.open(path)
    environment = json.loads((path / "environment.json").read_text())
    rewrite(path, "environment.json", {**environment, "strace": version})
    for planned in run.plan.counts:
        keep(run, planned, path.parent, symbols=symbols)
    return path


def keep(run: CountDirectory, planned: PlannedCount, place: Path, *, symbols: bool) -> None:
    hoards = dict(planned.cell.guest)["hoarder"] == "on"
    share = 0.25 if planned.variant == "NEW" else float(hoards)
    made = 300 + round(share * planned.requests)
    record = CountRecord(
        number=planned.number,
        variant=planned.variant,
        repeat=planned.repeat,
        factors=planned.cell.factors(),
        requests=planned.requests,
        started="2026-01-01T00:00:00+00:00",
        seconds=1.0,
        state=IterationState.OK,
    )
    if planned.counter is Counter.STRACE:
        record.calls = {"mmap": made, "mprotect": made, "munmap": made if planned.variant == "NEW" else 20}
    else:
        text = profile(made, made if planned.variant == "NEW" else 0, total=10_000 * planned.requests)
        output = place / "io"
        output.write_text(text if symbols else text.replace("qemu_alloc_stack", "???"))
        record.threads = run.keep_outputs(planned, [(3, "IO iothread1", True, output)])
    run.save(planned, record)


def test_tables_have_misses_instructions_and_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    comparison = compare_counts(run_of(tmp_path / "run", monkeypatch))
    text = render_costs(comparison)
    head = "OLD MISSES NEW MISSES OLD INSTRUCTIONS NEW INSTRUCTIONS OLD CALLS NEW CALLS"
    lines = [" ".join(line.split()) for line in text.splitlines()]
    at = lines.index(f"RW BLKSIZE IODEPTH HOARDER {head}")
    assert lines[at + 1] == "randread 4k 2048 off 0.000 0.250 0 275 0.000 0.750"
    assert lines[at + 2] == "randread 4k 2048 on 1.000 0.250 900 275 2.000 0.750"
    assert "System calls were counted by strace -- version 6.1." in lines
    first = json.loads(render_costs(comparison, "json"))["cells"][1]
    assert (first["baseline_pool_misses"], first["contender_pool_calls"]) == (1.0, 0.75)
    row = list(csv.DictReader(io.StringIO(render_costs(comparison, "csv"))))[1]
    assert (row["baseline_pool_calls"], row["contender_pool_instructions"]) == ("2.0", "275.0")
    assert "**NEW against OLD: what the coroutine pool costs a request**" in render_costs(
        comparison, "markdown"
    )


def test_without_strace_the_column_is_absent_and_why_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comparison = compare_counts(run_of(tmp_path / "run", monkeypatch, strace=False))
    text = render_costs(comparison)
    assert "OLD MISSES" in text
    assert "CALLS NEW" not in text
    assert "OLD CALLS" not in text
    assert "System calls were not counted: strace is not installed" in text
    assert json.loads(render_costs(comparison, "json"))["cells"][0]["baseline_pool_calls"] is None


def test_without_symbols_there_are_calls_only_and_why_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = render_costs(compare_counts(run_of(tmp_path / "run", monkeypatch, symbols=False)))
    assert "OLD CALLS" in text
    assert "OLD MISSES" not in text
    assert "no symbol says where coroutines are made" in text
