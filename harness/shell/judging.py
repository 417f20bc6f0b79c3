"""How results are judged, whatever they are, and which cannot be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.analysis.metrics import METRICS, find_metric
from harness.core.errors import InputError, Problem
from harness.shell.roles import Roles

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pandas as pd

TCG_NOTICE = (
    "Measured under TCG (emulation): the numbers compare builds only roughly, and say nothing of KVM."
)


@dataclass(frozen=True, slots=True)
class Judgement:
    """How to judge; None takes what the experiment says.

    Attributes:
        accept_differences: whether to judge although sessions differ in more than the build, or measurements
            of one cell in what was set up.
        roles: which variant is compared with which.
    """

    metric: str = "iops"
    margin: float | None = None
    alpha: float | None = None
    accept_differences: bool = False
    roles: Roles = field(default_factory=Roles)


class NotMeasuredError(InputError):
    """Results lack the metric that was asked for."""


def require_metric(
    frame: pd.DataFrame, metric: str, path: Path, reasons: Mapping[str, str] | None = None
) -> None:
    """Refuse to compare by what was not measured.

    Raises:
        NotMeasuredError: says what there is, and why this is not.
    """
    name = find_metric(metric).name
    have = [known for known in METRICS if known in frame.columns and frame[known].notna().any()]
    if name not in have:
        why = (reasons or {}).get(name, "these results do not tell it")
        problem = Problem(str(path), f"has no {name}: {why}", f"it has {', '.join(have)}")
        raise NotMeasuredError([problem])
