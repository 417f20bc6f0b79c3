"""After a fault: is a sample lost, doubled or out of order, is the analysis another one, is anything left?"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fault_watch import records_of
from fault_world import MARK

from harness.adapters.host.locks import holder_of, host_holder
from harness.adapters.results.store import RunDirectory
from harness.analysis.tables import render
from harness.core.records import IterationState, SessionRecord, SessionState
from harness.shell.cli.main import run_cli
from harness.shell.comparing import compare_run
from harness.shell.judging import Judgement

if TYPE_CHECKING:
    from fault_world import World

    from harness.core.planning import PlannedSession

_SETTLED_SECONDS = 60
"""What a killed run left to a guard (settings to put back) may take to be done, on a busy host."""

MAP_COUNT = Path("/proc/sys/vm/max_map_count")
THP = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_MAY_CHANGE = ("lv/cache/", "experience.json", "accel.json")
"""What a state directory is there to keep: of libvirt's, what it found out about a QEMU."""


# -- samples -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kept:
    """An iteration that counts, as it is on disk.

    Attributes:
        factors: its cell.
        data: fio's output.
    """

    number: int
    factors: dict[str, Any]
    data: bytes


def kept(run: Path) -> list[Kept]:
    """Return the iterations that are on disk and count, session by session, in the order of the record."""
    return [
        Kept(entry["number"], entry["factors"], (path.parent / entry["file"]).read_bytes())
        for path in records_of(run)
        for entry in json.loads(path.read_text())["iterations"]
        if entry["state"] == "ok"
    ]


def planned_by_harness(experiment: Path, seed: int) -> dict[str, Any]:
    """Return what ``harness plan --json`` says of an experiment."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert run_cli(["plan", str(experiment), "--seed", str(seed), "--json"]) == 0
    plan: dict[str, Any] = json.loads(out.getvalue())
    return plan


def lost(promised: list[Kept], run: Path) -> list[str]:
    """Return which iterations that were done before a fault are not there any more as they were."""
    now = {one.number: one for one in kept(run)}
    return [f"iteration {one.number} is lost" for one in promised if now.get(one.number) != one]


def out_of_plan(run: Path, plan: dict[str, Any]) -> list[str]:
    """Return in what the iterations that count differ from the planned ones."""
    names = [key for key in plan["iterations"][0] if key not in {"number", "session", "repeat"}]
    wanted = [(entry["number"], {name: entry[name] for name in names}) for entry in plan["iterations"]]
    found = [(one.number, {name: one.factors[name] for name in names}) for one in kept(run)]
    # What failed is measured last, so a record may hold it behind what came after it.
    found.sort(key=lambda iteration: [number for number, _cell in wanted].index(iteration[0]))
    complaints = [] if found == wanted else [f"planned were {wanted}, there are {found}"]
    for number, times in Counter(number for number, _cell in found).items():
        complaints += [f"iteration {number} counts {times} times"] if times > 1 else []
    return complaints


def out_of_order(run: Path, plan: dict[str, Any]) -> list[str]:
    """Return the boots whose iterations did not run in the order of the plan."""
    turns = {entry["number"]: turn for turn, entry in enumerate(plan["iterations"])}
    complaints = []
    for path in records_of(run):
        entries = json.loads(path.read_text())["iterations"]
        for boot in {entry["boot"] for entry in entries}:
            ran = [turns[entry["number"]] for entry in entries if entry["boot"] == boot]
            if ran != sorted(ran):
                complaints.append(f"{path.parent.name}, boot {boot}: not in the order of the plan")
    return complaints


def measured_again(run: Path) -> list[str]:
    """Return the iterations that ran although they had been done already."""
    complaints = []
    for path in records_of(run):
        done: set[int] = set()
        for entry in json.loads(path.read_text())["iterations"]:
            if entry["number"] in done:
                complaints.append(f"iteration {entry['number']} ran again after it was done")
            done |= {entry["number"]} if entry["state"] == "ok" else set()
    return complaints


def not_a_beginning(run: Path, plan: dict[str, Any]) -> list[str]:
    """Return in what the iterations done so far are not the first ones of the plan, in its order."""
    found = [one.number for one in kept(run)]
    wanted = [entry["number"] for entry in plan["iterations"]][: len(found)]
    return [] if found == wanted else [f"done so far are {found}, not {wanted}"]


def any_failed(run: Path) -> bool:
    """Return whether a session ended otherwise than done or interrupted, or an iteration did not count."""
    records = [json.loads(path.read_text()) for path in records_of(run)]
    states = {record["state"] for record in records}
    states |= {entry["state"] for record in records for entry in record["iterations"]}
    return bool(states & {"failed", "crashed"})


# -- the analysis --------------------------------------------------------------------------------------------


def analysis_differs(run: Path, place: Path) -> list[str]:
    """Compare a run's analysis with that of an undisturbed run that has the same data.

    Args:
        run: the disturbed one, finished.
        place: where the other one is made, by the project's own store, in one go.
    """
    ours, theirs = _analysis(run), _analysis(_undisturbed(RunDirectory.open(run), place).path)
    return [f"{what}: {ours[what]} instead of {theirs[what]}" for what in ours if ours[what] != theirs[what]]


def _undisturbed(run: RunDirectory, place: Path) -> RunDirectory:
    made = RunDirectory.create(
        place,
        record=replace(run.record, stopped="the plan is done", wall_seconds=0.0),
        experiment=run.experiment,
        plan=run.plan,
        environment=run.environment,
    )
    for planned in run.plan.sessions:
        made.save_session(planned, _in_one_go(run, made, planned))
    return made


def _in_one_go(run: RunDirectory, made: RunDirectory, planned: PlannedSession) -> SessionRecord:
    disturbed = run.load_session(planned)
    last = disturbed.boots[max(entry.boot for entry in disturbed.iterations)]
    record = replace(
        disturbed,
        state=SessionState.DONE,
        boots=[replace(last, failure=None, crash=None, telemetry=None)],
        iterations=[],
        files={},
    )
    for iteration in planned.iterations:
        (entry,) = (
            one
            for one in disturbed.iterations
            if one.number == iteration.number and one.state is IterationState.OK
        )
        text = run.read_output(planned, entry.file or "", entry.sha256 or "")
        file, sha256 = made.save_output(planned, iteration, text, boot=0)
        assert sha256 == hashlib.sha256(text.encode()).hexdigest()
        record.iterations.append(replace(entry, boot=0, file=file, sha256=sha256))
    return record


def _analysis(run: Path) -> dict[str, Any]:
    found = json.loads(render(compare_run(run, Judgement()), "json"))
    for cell in found["cells"]:
        # A QEMU that died is told beside the numbers, and only where one did.
        del cell["crashed_baseline"], cell["crashed_contender"]
    return {name: found[name] for name in ("cells", "pooled", "no_verdict", "margin", "alpha", "metric")}


# -- what is left --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a run could leave behind on its host: empty, or as it was before."""

    processes: tuple[str, ...]
    sockets: tuple[str, ...]
    locks: tuple[str, ...]
    mounts: tuple[str, ...]
    files: tuple[str, ...]
    settings: tuple[str, ...]


def look(world: World, directory: Path, run: Path) -> Surroundings:
    """Look at everything that a run could leave behind.

    Args:
        world: the campaign's.
        directory: the trial's, which is its processes' directory for temporary files.
        run: its run directory.
    """
    return Surroundings(
        processes=tuple(_processes(world, directory)),
        sockets=tuple(
            line.split()[-1]
            for line in Path("/proc/net/unix").read_text().splitlines()
            if str(world.place) in line
        ),
        locks=tuple(filter(None, (host_holder(), holder_of(run / ".lock")))),
        mounts=tuple(line.split(" ", 3)[3] for line in Path("/proc/self/mountinfo").read_text().splitlines()),
        files=tuple(_files(world, directory, run)),
        settings=(MAP_COUNT.read_text().strip(), THP.read_text() if THP.exists() else ""),
    )


def left(before: Surroundings, world: World, directory: Path, run: Path) -> list[str]:
    """Return what is left behind, once nothing goes away any more by itself."""
    deadline = time.monotonic() + _SETTLED_SECONDS
    while complaints := _differences(before, look(world, directory, run)):
        if time.monotonic() > deadline:
            return complaints
        time.sleep(0.1)
    return []


def _differences(before: Surroundings, now: Surroundings) -> list[str]:
    complaints = []
    for name in Surroundings.__slots__:
        was, found = Counter(getattr(before, name)), Counter(getattr(now, name))
        complaints += [f"left behind: {name}: {what}" for what in (found - was).elements()]
        complaints += [f"gone: {name}: {what}" for what in (was - found).elements()]
    return complaints


def _processes(world: World, directory: Path) -> list[str]:
    """Return the processes that a trial started, or that work in its world."""
    mark, found = f"{MARK}={directory.name}".encode(), []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            argv = (entry / "cmdline").read_bytes()
            environment = (entry / "environ").read_bytes().split(b"\0")
            if mark in environment or (b"qemu-system" in argv and f"{world.state}/".encode() in argv):
                found.append(argv.replace(b"\0", b" ").decode(errors="replace"))
    return found


def _files(world: World, directory: Path, run: Path) -> list[str]:
    places = [path for root in (world.state, directory) for path in root.rglob("*")]
    told = [str(path) for path in places if not _may_change(path, world)]
    return told + [str(path) for path in run.rglob(".*.tmp")]


def _may_change(path: Path, world: World) -> bool:
    with contextlib.suppress(ValueError):
        return str(path.relative_to(world.state)).startswith(_MAY_CHANGE)
    return False
