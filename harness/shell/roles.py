"""Which variant of a run is compared with which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.core.errors import InputError, Problem

if TYPE_CHECKING:
    from pathlib import Path

    from harness.core.experiment import Experiment


@dataclass(frozen=True, slots=True)
class Roles:
    """What was asked for; None takes what the experiment says.

    Attributes:
        baseline: the variant to compare with.
        contender: the only variant to compare; all others if None.
    """

    baseline: str | None = None
    contender: str | None = None

    def of(self, experiment: Experiment, path: Path) -> tuple[str, list[str]]:
        """Return the variant that is compared with, and those that are.

        Args:
            experiment: has the variants.
            path: of the run, for messages.

        Raises:
            InputError: the run has no such variant, or it is to be compared with itself.
        """
        baseline = self.baseline or experiment.baseline
        names = ", ".join(experiment.variants)
        asked = {"--baseline": self.baseline, "--contender": self.contender}
        problems = [
            Problem(option, f"{path} has no variant {name}", f"it has {names}")
            for option, name in asked.items()
            if name is not None and name not in experiment.variants
        ]
        if not problems and self.contender == baseline:
            problems = [Problem("--contender", f"{baseline} is the baseline", f"name another of {names}")]
        if problems:
            raise InputError(problems)
        if self.contender is not None:
            return baseline, [self.contender]
        return baseline, [name for name in experiment.variants if name != baseline]
