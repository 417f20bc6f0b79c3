"""After a run: keep what it cost and how much its sessions differed, for the expectation of the next one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from harness.adapters.experience import Experience, costs_of, remember
from harness.adapters.results.samples import read_samples
from harness.core.budget import Noise
from harness.core.errors import InputError
from harness.core.model import FIO_FACTORS, GUEST_FACTORS, Accel

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from harness.adapters.results.store import RunDirectory

_FEWEST_BLOCKS = 4
_SESSION_SHARE = 0.65
"""How much of a session's variance is the boot's: one sample a session cannot tell, so this is the share in
the noise model of docs/statistics.md for 5 s samples."""
_NORMAL_MAD = 1.4826


def learn(run: RunDirectory, path: Path) -> None:
    """Keep a run's costs and noise; a run with too few blocks teaches nothing.

    Args:
        run: finished, or as far as it came.
        path: the host's experience.
    """
    try:
        frame = read_samples(run).frame
    except InputError:
        return
    costs, plan = costs_of(run), run.plan
    spread = session_spread(frame)
    if costs is None or spread is None:
        return
    session = spread * math.sqrt(_SESSION_SHARE)
    sample = spread * math.sqrt(1 - _SESSION_SHARE)
    unit = Noise(session=0.0, sample=1.0).of_session(runtime=plan.runtime, repeats=1)
    noise = Noise(session=session, sample=sample / unit)
    disk_image = run.record.guest_image.get("disk") is not None
    remember(path, Accel(run.record.accel), Experience(costs, noise, measured=True), disk_image=disk_image)


def session_spread(frame: pd.DataFrame) -> float | None:
    """Return the standard deviation of log(iops) from session to session, within a variant.

    From the differences between the variants of a block, by the MAD, so that neither drift nor a stray
    session counts; the median over the cells. None below four blocks.
    """
    cell = [name for name in (*FIO_FACTORS, *GUEST_FACTORS) if name in frame.columns]
    logs = frame.assign(value=np.log(frame["iops"]))
    table = logs.pivot_table(index=[*cell, "block"], columns="variant", values="value", aggfunc="median")
    differences = (table.iloc[:, 1:].sub(table.iloc[:, 0], axis=0)).dropna()
    if differences.empty or differences.index.get_level_values("block").nunique() < _FEWEST_BLOCKS:
        return None
    by_cell = differences.groupby(level=cell)
    deviation = (differences - by_cell.transform("median")).abs().groupby(level=cell).median()
    return float(np.median(deviation.to_numpy()) * _NORMAL_MAD / math.sqrt(2))
