"""Which exit code verdicts ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from harness.analysis.costs import CostComparison
    from harness.analysis.verdicts import Verdict

_EXIT_CODES = {"slower": 3, "unclear": 4}


class _Verdicts(Protocol):
    def verdicts(self) -> set[Verdict | None]: ...


def exit_code(comparisons: Sequence[_Verdicts], fail_on: tuple[str, ...]) -> int:
    """Return the exit code that all verdicts ask for; ``slower`` weighs more than ``unclear``.

    Where no verdict was possible nothing is clear.
    """
    return code_of({verdict for found in comparisons for verdict in found.verdicts()}, fail_on)


def cost_exit_code(comparison: CostComparison, fail_on: tuple[str, ...]) -> int:
    """Return the exit code that the verdicts ask for; here ``costlier`` is what ``slower`` is elsewhere."""
    return code_of(set(comparison.verdicts()), fail_on)


def code_of(verdicts: AbstractSet[str | None], fail_on: tuple[str, ...]) -> int:
    """Return the exit code that some verdicts ask for; None is one that was not possible."""
    said = {"slower" if verdict == "costlier" else str(verdict or "unclear") for verdict in verdicts}
    return next((code for name, code in _EXIT_CODES.items() if name in fail_on and name in said), 0)
