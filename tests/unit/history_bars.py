"""What change points must show on simulated nights (docs/history.md).

``python tests/unit/history_bars.py 40`` prints the figures that docs/history.md quotes; it takes a while.
"""

from __future__ import annotations

import sys
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from harness.analysis.steps import find_steps, risk_a_look

FloatArray: TypeAlias = npt.NDArray[np.float64]

CELLS = 10
YEAR = 365
NOISE = 0.01
"""Night-to-night standard deviation, a fraction. Only steps in units of it matter."""

KINDS = ("normal", "t3", "burst", "ar0.3", "ar0.5")
_NEAR = 7
_SETTLED = 5
_NEVER = 40


def noise(rng: np.random.Generator, nights: int, kind: str) -> FloatArray:
    """Return noise of standard deviation 1 (of ``burst``: without its bursts).

    Args:
        rng: where it comes from.
        nights: how many.
        kind: ``normal``; ``t3``, heavy tails (Student's t, 3 degrees); ``burst``, one night in 20 loses 3 to
            15 standard deviations; ``arR``, each night is like the one before (AR(1) with coefficient R).
    """
    if kind == "t3":
        return np.asarray(rng.standard_t(3, nights) / np.sqrt(3))
    found: FloatArray = rng.normal(size=nights)
    if kind == "burst":
        hit = rng.random(nights) < 0.05
        return np.asarray(found - hit * rng.uniform(3, 15, nights))
    if kind.startswith("ar"):
        rho = float(kind[2:])
        for night in range(1, nights):
            found[night] = rho * found[night - 1] + np.sqrt(1 - rho * rho) * found[night]
    return found


def alarms_in_a_year(kind: str, seed: int) -> int:
    """Return how many different steps were reported in a flat year, looked at every night by itself.

    A step that moves by up to a week as nights are added is the same; one that goes away again counts.
    """
    values = np.exp(NOISE * noise(np.random.default_rng(seed), YEAR, kind))
    seen: list[int] = []
    alarms = 0
    for night in range(6, YEAR + 1):
        for step in find_steps(values[:night], risk=risk_a_look(CELLS), least=0.0):
            alarms += all(abs(step.first - before) > _NEAR for before in seen)
            seen.append(step.first)
    return alarms


def nights_to_find(kind: str, seed: int, *, size: float, before: int) -> int:
    """Return how many nights after a step it was first reported; 41 when not within 40.

    Args:
        kind: of noise.
        seed: of it.
        size: of the step, in standard deviations of the nights.
        before: how many nights there were before it.
    """
    level = np.where(np.arange(before + _NEVER) < before, 0.0, -size)
    values = np.exp(NOISE * (noise(np.random.default_rng(seed), before + _NEVER, kind) + level))
    for after in range(3, _NEVER + 1):
        steps = find_steps(values[: before + after], risk=risk_a_look(CELLS), least=0.0)
        if any(abs(step.first - before) <= _SETTLED for step in steps):
            return after
    return _NEVER + 1


def main(count: int) -> None:
    """Print the figures of docs/history.md."""
    for kind in KINDS:
        found = [alarms_in_a_year(kind, seed) for seed in range(count)]
        error = np.std(found) / np.sqrt(count)
        mean = CELLS * float(np.mean(found))
        sys.stdout.write(f"{kind}: {mean:.2f} +- {CELLS * error:.2f} false alarms a year, {CELLS} cells\n")
        sys.stdout.flush()
    for size in (2, 3, 5):
        for before in (30, 100, 300):
            delays = [nights_to_find("normal", seed, size=size, before=before) for seed in range(count)]
            half, most = np.percentile(delays, [50, 90])
            sys.stdout.write(
                f"step {size} sd after {before} nights: {half:.0f} nights, 9 in 10: {most:.0f}\n"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
