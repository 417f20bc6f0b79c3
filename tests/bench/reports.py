"""Results as fio and the harness leave them, as many as wanted: one real report, with other numbers each."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fakes import EXPERIMENT, head
from harness.adapters.results.store import RunDirectory
from harness.core import seals
from harness.core.model import Cell
from harness.core.planning import make_plan
from harness.core.records import (
    BootRecord,
    IterationRecord,
    IterationState,
    RunState,
    SessionRecord,
    SessionState,
)
from harness.core.units import parse_size
from recorded import DOMAIN, FACTS

if TYPE_CHECKING:
    from harness.core.planning import PlannedSession

_REAL = Path(__file__).parents[1] / "data" / "fio" / "ramp.json"
_SIZES, _DEPTHS = ("4k", "16k", "64k", "256k"), (1, 4, 8, 16, 32)
CELLS = [Cell("randread", size, depth, ioengine="null") for size in _SIZES for depth in _DEPTHS]
PER_DIRECTORY = 500
_REPEATS = 15
PER_SESSION = len(CELLS) * _REPEATS
_RUNTIME_MS = 1000
_MOMENT_MS = 1_795_391_507_470


class Reports:
    """Prints reports of fio's, each with numbers of its own that agree with each other."""

    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)  # noqa: S311 - no secret
        self._template = {cell: _template(cell) for cell in CELLS}

    def text(self, number: int, cell: Cell, iops: float) -> bytes:
        """Return a report of a cell that made about so many IOPS; no two numbers give the same."""
        ios = round(iops * self._random.gauss(1.0, 0.02)) + number % 7
        moved = ios * parse_size(cell.bs)
        mean = 1e9 / ios * cell.iodepth
        values = {
            "TOTAL": ios,
            "IOPS": f"{ios * 1000 / _RUNTIME_MS:.6f}",
            "IO_BYTES": moved,
            "IO_KBYTES": moved // 1024,
            "BW_BYTES": moved,
            "BW": moved // 1024,
            "CLAT": f"{mean:.6f}",
            "LAT": f"{mean + 40:.6f}",
            "WHEN": _MOMENT_MS // 1000 + number,
            "WHEN_MS": _MOMENT_MS + 1000 * number,
            "USR": f"{self._random.uniform(20, 40):.6f}",
            **{f"P{rank}": round(mean * (0.9 + rank * 0.01)) for rank in range(_PERCENTILES)},
        }
        return (self._template[cell] % values).encode()


_PERCENTILES = 17


def _template(cell: Cell) -> str:
    """Return the real report of a cell with ``%(NAME)s`` in place of what changes from one to another."""
    report = json.loads(_REAL.read_text())
    (job,) = report["jobs"]
    job["job options"] |= {"bs": cell.bs, "iodepth": str(cell.iodepth), "rw": cell.rw, "numjobs": "1"}
    job |= {"usr_cpu": "%(USR)s", "job_runtime": _RUNTIME_MS}
    # All requests in one bucket that any mean fits: the distribution is not what is measured here.
    for unit in ("latency_ns", "latency_us", "latency_ms"):
        job[unit] = dict.fromkeys(job[unit], 0.0)
    read = job["read"]
    read |= {"iops": "%(IOPS)s", "bw": "%(BW)s", "bw_bytes": "%(BW_BYTES)s", "total_ios": "%(TOTAL)s"}
    read |= {"io_bytes": "%(IO_BYTES)s", "io_kbytes": "%(IO_KBYTES)s", "runtime": _RUNTIME_MS}
    read["clat_ns"] |= {"min": 1, "max": 10**9, "mean": "%(CLAT)s", "N": "%(TOTAL)s"}
    read["lat_ns"] |= {"min": 1, "max": 10**9, "mean": "%(LAT)s", "N": "%(TOTAL)s"}
    read["slat_ns"] |= {"mean": 40.0, "N": "%(TOTAL)s"}
    percentile = read["clat_ns"]["percentile"]
    read["clat_ns"]["percentile"] = {key: f"%(P{rank})s" for rank, key in enumerate(percentile)}
    report |= {"timestamp": "%(WHEN)s", "timestamp_ms": "%(WHEN_MS)s"}
    text = json.dumps(report, indent=2, separators=(",", " : ")) + "\n"
    return text.replace('"%(', "%(").replace(')s"', ")s")


def _speed(cell: Cell, variant: str) -> float:
    return 4e5 * 4096 / parse_size(cell.bs) * (1.03 if variant == "NEW" else 1.0)


def write_trees(place: Path, files: int) -> tuple[Path, Path]:
    """Write ``files`` reports, half of them a side, some hundred in a directory; return OLD and NEW."""
    reports = Reports()
    sides = place / "old", place / "new"
    for number in range(files):
        side, rank = number % 2, number // 2
        directory = sides[side] / f"{rank // PER_DIRECTORY:05d}"
        if rank % PER_DIRECTORY == 0:
            directory.mkdir(parents=True)
        cell = CELLS[rank % len(CELLS)]
        text = reports.text(number, cell, _speed(cell, ("OLD", "NEW")[side]))
        (directory / f"{rank:07d}.json").write_bytes(text)
    return sides


def write_run(path: Path, iterations: int) -> int:
    """Write a finished run of about so many iterations, and no more; return how many it has."""
    blocks = max(2, iterations // (2 * PER_SESSION))
    plan = make_plan(
        variants=["OLD", "NEW"],
        cells=CELLS,
        guests=[()],
        blocks=blocks,
        repeats=_REPEATS,
        runtime=1.0,
        ramp=0.0,
        seed=1,
    )
    run = RunDirectory.create(
        path,
        record=head(plan.variants),
        experiment=_experiment(blocks),
        plan=plan,
        environment={"host": {"cpu": {}}},
    )
    reports = Reports()
    for planned in plan.sessions:
        _write_session(run, planned, reports)
    run.set_state(RunState.FINISHED, stopped=None, wall_seconds=1.0)
    return plan.iteration_count


def _write_session(run: RunDirectory, planned: PlannedSession, reports: Reports) -> None:
    directory = run.session_directory(planned)
    began = f"2026-01-01T00:00:{planned.number % 60:02d}+00:00"
    facts: dict[str, Any] = FACTS[planned.variant]
    domain = DOMAIN.format(label=planned.directory).encode()
    (directory / "domain.xml").write_bytes(domain)
    record = SessionRecord(
        planned.number, planned.block, planned.variant, {}, SessionState.DONE,
        boots=[BootRecord(began, began, 1.0, facts, ordinal=planned.number)],
        files={"domain.xml": seals.digest(domain)},
    )  # fmt: skip
    for planned_iteration in planned.iterations:
        cell = planned_iteration.cell
        data = reports.text(planned_iteration.number, cell, _speed(cell, planned.variant))
        name = f"{planned_iteration.number:05d}-{cell.rw}-{cell.bs}-{cell.iodepth}.json"
        (directory / name).write_bytes(data)
        record.iterations.append(
            IterationRecord(
                planned_iteration.number,
                planned_iteration.repeat,
                cell.factors(),
                0,
                began,
                1.0,
                IterationState.OK,
                exit_code=0,
                file=name,
                sha256=seals.digest(data),
            )
        )
    run.save_session(planned, record)


def _experiment(blocks: int) -> str:
    text = EXPERIMENT.replace("BLOCKS", str(blocks)).replace("REPEATS", str(_REPEATS))
    return text.replace("4k", f"[{', '.join(_SIZES)}]").replace("[1, 8]", str(list(_DEPTHS)))
