"""A run directory of counts as a run leaves it, with numbers of the test's choice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.adapters.guestless.store import CountDirectory
from harness.core.counting.records import CountingRun, CountRecord
from harness.core.experiment import load_experiment
from harness.core.records import FORMAT_VERSION, IterationState, RunState
from harness.shell.counting import count_plan_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.core.counting.planning import PlannedCount

EXPERIMENT = """\
name: counted
workload: instructions
builds: {OLD: {path: /old}, NEW: {path: /new}}
baseline: OLD
disk: {queue_size: 256}
matrix: {rw: randread, bs: 4k, iodepth: [1, 64]}
"""
OUTPUT = """\
version: 1
thread: {thread}
events: Ir
ob=(1) /{variant}/usr/bin/qemu-system-x86_64
fl=(1) ???
fn=(1) virtqueue_pop
0 {own}
cob=(2) /lib/libc.so.6
cfi=(2) ./string/memset.S
cfn=(2) memset
calls=1 0
0 {memset}
fn=(3) 0x{address:016x}
0 1000

ob=(2)
fl=(2)
fn=(2)
0 {memset}

totals: {total}
"""


def output(thread: int, variant: str, total: int, memset: int = 0) -> str:
    """Return what callgrind writes: ``total`` instructions, 1,000 of them of a function without a name."""
    own = total - memset - 1000
    address = 0x1000 if variant == "OLD" else 0x2000
    return OUTPUT.format(thread=thread, variant=variant, own=own, memset=memset, total=total, address=address)


def make(path: Path, instructions: Callable[[PlannedCount], int | None], text: str = EXPERIMENT) -> Path:
    """Make a run directory.

    Args:
        path: the new directory.
        instructions: of the IOThread for a count; None leaves it out, a negative number fails it. NEW spends
            half of it in memset.
        text: the experiment.
    """
    experiment = load_experiment(text, "counted.yml")
    build = {"kind": "path", "emulator": "/x", "binary": "/x", "package_version": None}
    head = CountingRun(
        format_version=FORMAT_VERSION,
        workload="instructions",
        run_id="counted-1",
        name="counted",
        state=RunState.FINISHED,
        created="2026-01-01T00:00:00+00:00",
        harness_version="0",
        counted_with="valgrind-3.19.0",
        builds={
            name: build | {"name": name, "version": f"QEMU {name}", "sha256": name} for name in ("OLD", "NEW")
        },
        stopped="the plan is done",
    )
    plan = count_plan_of(experiment)
    run = CountDirectory.create(path, record=head, experiment=text, plan=plan, environment={"host": {}})
    for planned in plan.counts:
        total = instructions(planned)
        if total is not None:
            _count(run, planned, total, path.parent)
    return path


def _count(run: CountDirectory, planned: PlannedCount, total: int, scratch: Path) -> None:
    failed = total < 0
    record = CountRecord(
        number=planned.number,
        variant=planned.variant,
        repeat=planned.repeat,
        factors=planned.cell.factors(),
        requests=planned.requests,
        started="2026-01-01T00:00:00+00:00",
        seconds=1.0,
        state=IterationState.FAILED if failed else IterationState.OK,
        reason="QEMU ended early" if failed else None,
    )
    if not failed:
        main, io = scratch / "main", scratch / "io"
        main.write_text(output(1, planned.variant, 5_000_000))
        io.write_text(output(3, planned.variant, total, total // 2 if planned.variant == "NEW" else 0))
        record.threads = run.keep_outputs(planned, [(1, "main", False, main), (3, "IO io0", True, io)])
    run.save(planned, record)
