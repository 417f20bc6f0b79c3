"""Change points: a real step is found where it is, and noise is left alone."""

from __future__ import annotations

import numpy as np
import pytest
from history_bars import CELLS, KINDS, NOISE, alarms_in_a_year, nights_to_find, noise
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.analysis.steps import FEWEST_NIGHTS, exact_steps, find_steps, risk_a_look

RISK = risk_a_look(CELLS)


def series(*levels: tuple[int, float], kind: str = "normal", seed: int = 1) -> np.ndarray:
    """Return nights at levels (how many, height in fractions), with 1 % of noise."""
    heights = np.concatenate([np.full(nights, height) for nights, height in levels])
    return np.exp(heights + NOISE * noise(np.random.default_rng(seed), len(heights), kind))


@pytest.mark.parametrize("kind", ["normal", "t3", "burst", "ar0.3"])
@pytest.mark.parametrize("seed", range(3))
def test_steps_are_found_at_the_night_they_begin(kind: str, seed: int) -> None:
    values = series((100, 0.0), (120, -0.10), (100, -0.02), kind=kind, seed=seed)
    steps = find_steps(values, risk=RISK, least=0.02)
    assert [step.first for step in steps] == pytest.approx([100, 220], abs=1)
    assert [step.change for step in steps] == pytest.approx([-0.095, 0.083], abs=0.01)


def test_a_step_between_levels_without_any_noise_is_found() -> None:
    """As of percentiles, which are edges of fio's buckets, and of mappings, which are whole numbers."""
    (step,) = find_steps([35072.0] * 30 + [52992.0] * 30, risk=risk_a_look(4), least=0.02)
    assert step.first == 30
    assert step.change == pytest.approx(52992 / 35072 - 1)


def test_a_smaller_step_than_the_margin_does_not_matter() -> None:
    values = series((100, 0.0), (100, -0.015))
    assert [step.first for step in find_steps(values, risk=RISK, least=0.005)] == pytest.approx([100], abs=5)
    assert find_steps(values, risk=RISK, least=0.02) == []


def test_one_or_two_bad_nights_are_no_step() -> None:
    values = series((100, 0.0))
    values[50] *= 0.5
    values[70:72] *= 0.5
    values[98:] *= 0.5
    assert find_steps(values, risk=RISK, least=0.0) == []


@pytest.mark.parametrize("values", [[], [1.0], [1.0] * 5, [1.0] * 300, [1.0, 2.0] * 2])
def test_too_little_to_say_anything(values: list[float]) -> None:
    assert find_steps(values, risk=RISK, least=0.0) == []


def test_the_more_series_are_looked_at_the_surer_a_step_must_be() -> None:
    assert risk_a_look(100) == pytest.approx(risk_a_look(10) / 10)
    assert risk_a_look(0) == risk_a_look(1)


@settings(max_examples=30, deadline=None)
@given(
    values=st.lists(st.floats(0.01, 100.0), max_size=60),
    factor=st.floats(0.001, 1000.0),
)
def test_the_unit_does_not_matter_and_levels_are_long_enough(values: list[float], factor: float) -> None:
    steps = find_steps(values, risk=0.01, least=0.05)
    scaled = find_steps([value * factor for value in values], risk=0.01, least=0.05)
    bounds = [0, *(step.first for step in steps), len(values)]
    assert not steps or min(np.diff(bounds)) >= FEWEST_NIGHTS
    assert all(abs(np.log1p(step.change)) >= np.log1p(0.05) for step in steps)
    assert all(step.p_value <= 0.01 for step in steps)
    # Ranks of values that are all but equal may turn over.
    if len({round(np.log(value), 6) for value in values}) == len(set(values)):
        assert [step.first for step in scaled] == [step.first for step in steps]


def test_counts_have_no_noise_so_every_change_beyond_the_margin_is_a_step_at_once() -> None:
    values = [4318.0, 4318.2, 4317.9, 4400.0, 4400.1, 4318.0]
    steps = exact_steps(values, least=0.005)
    assert [step.first for step in steps] == [3, 5]
    assert [step.change for step in steps] == pytest.approx([0.019, -0.0186], abs=1e-3)
    assert exact_steps([100.0, 100.4, 99.8], least=0.005) == []
    assert exact_steps([], least=0.005) == []


@pytest.mark.parametrize("kind", KINDS)
def test_flat_years_raise_at_most_one_alarm_over_ten_cells_at_their_ends(kind: str) -> None:
    """A glance; each night of the year is looked at by the next test, and by history_bars.py."""
    flat = [series((365, 0.0), kind=kind, seed=seed) for seed in range(6 * CELLS)]
    assert sum(len(find_steps(values, risk=RISK, least=0.0)) for values in flat) <= len(flat) / CELLS


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_flat_year_raises_at_most_one_alarm_over_all_cells(kind: str) -> None:
    years = 30
    alarms = sum(alarms_in_a_year(kind, seed) for seed in range(1000, 1000 + years * CELLS // 5))
    # At most one a year of ten cells, and two standard errors of a count (Poisson) for luck.
    expected = years / 5
    assert alarms <= expected + 2 * np.sqrt(expected)


def test_a_large_step_is_found_within_a_few_nights() -> None:
    delays = [nights_to_find("normal", seed, size=5, before=100) for seed in range(5)]
    assert np.median(delays) <= 5


@pytest.mark.slow
def test_a_step_of_three_standard_deviations_is_found_within_a_week() -> None:
    delays = [nights_to_find("normal", seed, size=3, before=100) for seed in range(40)]
    assert np.percentile(delays, 90) <= 8
