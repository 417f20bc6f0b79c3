"""Runs as the history keeps them, made rather than measured: as many as a test wants, with its numbers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from harness.core.history import FiledBuild, FiledNumber, FiledRun

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

FIRST_NIGHT = datetime(2025, 1, 1, 2, tzinfo=UTC)
BASELINE = FiledBuild("OLD", "0" * 64, "QEMU emulator version 7.2.22", "1:7.2")
CELL = "randread-4k-8"


def night(number: int, changes: Mapping[str, float], **fields: Any) -> FiledRun:
    """Return the run of one night.

    Args:
        number: which night, from 0; its build is of commit ``c<number>``.
        changes: a cell's change against the baseline; the baseline does 100,000 IOPS.
        fields: of the run, others than a plain night's.
    """
    tonight = FiledBuild("NEW", f"{number:064x}", "QEMU emulator version 10.1.50", None, f"c{number:07d}")
    run = FiledRun(
        run_id=f"nightly-{number:05d}",
        content=f"{number:064x}",
        path=f"/runs/nightly-{number:05d}",
        host_id="1f2e3d4c5b6a7980",
        host_name="kvm7",
        experiment="nightly",
        comparable="00ff00ff00ff00ff",
        workload="fio-matrix",
        accel="kvm",
        started=FIRST_NIGHT + timedelta(days=number),
        baseline="OLD",
        margin=0.02,
        harness_version="0.3.0",
        conditions={"kernel": "6.1.0-28-amd64", "guest image": "9600656f32b2"},
        builds=(BASELINE, tonight),
        numbers=tuple(number for cell, change in changes.items() for number in numbers_of(cell, change)),
    )
    return replace(run, **fields)


def numbers_of(
    cell: str, change: float, metric: str = "iops", old: float = 100_000.0
) -> Iterator[FiledNumber]:
    """Return what both variants gave in a cell."""
    yield FiledNumber(cell, "OLD", metric, old, 30, 0.01)
    new = old * (1 + change)
    yield FiledNumber(cell, "NEW", metric, new, 30, 0.01, change, change - 0.005, change + 0.005, "unclear")


def nights(changes: Sequence[float], cell: str = CELL) -> list[FiledRun]:
    """Return a night for each change of one cell."""
    return [night(number, {cell: change}) for number, change in enumerate(changes)]
