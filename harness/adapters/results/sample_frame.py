"""From sessions and the numbers of their iterations to the tidy frame of samples."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from harness.core.telemetry_metrics import measured

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from harness.adapters.results.run_outputs import Numbers
    from harness.core.agreement import SessionFacts
    from harness.core.model import FactorValue
    from harness.core.planning import Plan, PlannedSession
    from harness.core.records import IterationRecord, SessionRecord
    from harness.core.telemetry import Telemetry

    FloatArray = npt.NDArray[np.float64]


@dataclass(slots=True)
class Session:
    """What is kept of a session beside what fio printed.

    Attributes:
        telemetry: by boot.
        lost: what could not be read of it, a sentence each.
        accepted: the iterations that count, in the order they ran.
        facts: what the boots that gave samples ran on.
    """

    planned: PlannedSession
    record: SessionRecord
    telemetry: Mapping[int, Telemetry]
    lost: list[str]
    accepted: list[IterationRecord]
    facts: list[SessionFacts] = field(default_factory=list)

    @property
    def boots(self) -> list[int]:
        """The boots that gave samples."""
        return self.record.telling_boots()

    @property
    def began(self) -> tuple[tuple[bool, int, str], int, str, int]:
        """What sessions are sorted by; one that was repeated counts as run when it last was."""
        planned = self.planned
        return (self.record.boots[self.boots[-1]].turn, planned.block, planned.variant, planned.number)


def frame_of(plan: Plan, sessions: Sequence[Session], numbers: Numbers) -> pd.DataFrame:
    """Return a row an accepted iteration, columns in the order in which they are first met.

    Args:
        plan: of the run.
        sessions: those that have such iterations, in the plan's order.
        numbers: of these iterations, in that order.
    """
    every = [entry for session in sessions for entry in session.accepted]
    owner = np.repeat(np.arange(len(sessions)), [len(session.accepted) for session in sessions])
    planned = pd.DataFrame(
        {
            "variant": [session.planned.variant for session in sessions],
            "block": [session.planned.block for session in sessions],
            "session": [session.planned.number for session in sessions],
        }
    )
    cells: dict[tuple[tuple[str, FactorValue], ...], int] = {}
    codes = [cells.setdefault(tuple(entry.factors.items()), len(cells)) for entry in every]
    factors = pd.DataFrame([dict(cell) for cell in cells])
    frame = planned.take(owner).reset_index(drop=True).assign(iteration=[entry.repeat for entry in every])
    return pd.concat(
        [
            frame,
            factors.take(codes).reset_index(drop=True),
            pd.DataFrame(_metrics(plan, sessions, numbers), index=frame.index),
        ],
        axis=1,
    )


def _metrics(plan: Plan, sessions: Sequence[Session], numbers: Numbers) -> dict[str, FloatArray]:
    """Return all that was measured: by fio, and beside it by telemetry."""
    columns = dict(numbers.columns)
    # A column stands where its first value would, had rows been read one by one.
    places = {
        name: (int(np.argmax(~np.isnan(values))), 0, rank)
        for rank, (name, values) in enumerate(columns.items())
    }
    rows, iops = 0, columns["iops"]
    for session in sessions:
        for row, entry in enumerate(session.accepted, start=rows):
            if watched := session.telemetry.get(entry.boot):
                found = measured(
                    watched, entry.number, iops=float(iops[row]), ramp=plan.ramp, runtime=plan.runtime
                )
                for rank, (name, value) in enumerate(found.items()):
                    if name not in places:
                        places[name] = (row, 1, rank)
                        columns[name] = np.full(len(iops), np.nan)
                    columns[name][row] = value
        rows += len(session.accepted)
    return {name: columns[name] for name in sorted(columns, key=places.__getitem__)}
