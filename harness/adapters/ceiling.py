"""What the host reaches without a guest: fio against the same backend, the ceiling of every cell.

A cell that sits at this ceiling shows the device, not QEMU. The backends ``file`` and ``block`` can be
measured so; ``null-co`` lives inside QEMU, and ``nvme`` has no driver of the host's.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from harness.adapters import process
from harness.core.errors import HarnessError, InputError
from harness.core.fio_output import metrics, parse_fio, why_rejected
from harness.core.model import Backend

if TYPE_CHECKING:
    from pathlib import Path

    from harness.core.experiment import Experiment
    from harness.core.model import Cell

_GRACE_SECONDS = 60.0


def check_ceiling(experiment: Experiment, source: str) -> None:
    """Refuse an experiment whose backend cannot be measured on the host.

    Raises:
        InputError: names the backend.
    """
    for config in experiment.guest_configs():
        backend = experiment.for_guest(config).disk.backend
        if backend not in {Backend.FILE, Backend.BLOCK}:
            raise InputError.single(
                f"{source}: disk.backend",
                f"{backend} cannot be measured without a guest",
                "leave --ceiling out, or use the backend file or block",
            )
    if any(cell.rw not in {"read", "randread"} for cell in experiment.cells()):
        raise InputError.single(
            f"{source}: matrix.rw", "the ceiling is measured by reading only", "leave --ceiling out"
        )


def measure_ceiling(cell: Cell, target: Path, *, runtime: float, ramp: float) -> float:
    """Return the IOPS of a cell on the host itself.

    Raises:
        HarnessError: fio is missing or failed.
    """
    if shutil.which("fio") is None:
        raise HarnessError("fio is not installed on this host", remedy="run `harness provision EXPERIMENT`")
    argv = ["fio", "--name=ceiling", f"--filename={target}", "--readonly", "--allow_file_create=0"]
    argv += [f"--rw={cell.rw}", f"--bs={cell.bs}", f"--iodepth={cell.iodepth}"]
    argv += [f"--numjobs={cell.numjobs}", f"--ioengine={cell.ioengine}", "--direct=1", "--time_based"]
    argv += [f"--runtime={round(runtime * 1000)}ms", f"--ramp_time={round(ramp * 1000)}ms"]
    argv += ["--group_reporting", "--randrepeat=0", "--norandommap", "--eta=never", "--output-format=json"]
    done = process.run(argv, timeout=runtime + ramp + _GRACE_SECONDS, check=False)
    reason = why_rejected(
        done.stdout, done.stderr, exit_code=done.returncode, cell=cell, runtime=runtime, ramp=ramp
    )
    if reason:
        raise HarnessError(f"the ceiling of {cell.label} could not be measured on {target}: {reason}")
    return metrics(parse_fio(done.stdout))["iops"]
