"""The analysis on simulated hosts: it meets the bars of docs/statistics.md, and wrong ones do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from bars import (
    ALL,
    ALPHA,
    OTHER_NOISE,
    VALIDITY,
    Outcome,
    figures,
    missed,
    ours,
    pooled_power,
    stopping_figures,
)
from simulation import Protocol, experiments, frame

from harness.analysis import compare, expected_mde
from harness.analysis.statistics import FloatArray, holm

COUNTS = [400, pytest.param(2000, marks=pytest.mark.slow)]


@pytest.mark.parametrize("count", COUNTS)
def test_meets_every_bar(count: int) -> None:
    assert missed(figures(ours, count, seed=1), ALL, count=count) == []


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("shape", OTHER_NOISE)
def test_stays_valid_on_other_hosts(shape: str, count: int) -> None:
    found = figures(ours, count, seed=11, noise=OTHER_NOISE[shape])
    assert missed(found, VALIDITY, count=count) == []


@pytest.mark.parametrize("count", COUNTS)
def test_stopping_by_width_stays_valid(count: int) -> None:
    assert missed(stopping_figures(count, seed=21), VALIDITY, count=count) == []


def test_the_pooled_row_sees_what_single_cells_do_not() -> None:
    together, alone = pooled_power(400, seed=31)
    assert together >= 0.97
    assert alone < 0.7


def two_sample(log: FloatArray, p_value: FloatArray) -> Outcome:
    """Return what somebody says who compares two heaps of numbers: means with a t interval."""
    heaps = log.reshape(*log.shape[:3], -1)
    old, new = heaps[:, 0], heaps[:, 1]
    size = heaps.shape[-1]
    estimate = new.mean(-1) - old.mean(-1)
    half = scipy.stats.t.ppf(1 - ALPHA / 2, 2 * size - 2) * np.sqrt((old.var(-1) + new.var(-1)) / (size - 1))
    return Outcome(
        estimate=estimate,
        low=estimate - half,
        high=estimate + half,
        raw_changed=p_value < ALPHA,
        changed=holm(p_value) < ALPHA,
        same=np.abs(estimate) < 0.01,
        mde=half * 2,
    )


def samples_pooled(log: FloatArray) -> Outcome:
    """Take every sample for an independent one (Mann-Whitney)."""
    heaps = log.reshape(*log.shape[:3], -1)
    test = scipy.stats.mannwhitneyu(heaps[:, 0], heaps[:, 1], axis=-1, method="asymptotic")
    return two_sample(log, np.asarray(test.pvalue))


def welch(log: FloatArray) -> Outcome:
    """Compare all OLD boots with all NEW boots."""
    heaps = log.reshape(*log.shape[:3], -1)
    test = scipy.stats.ttest_ind(heaps[:, 0], heaps[:, 1], axis=-1, equal_var=False)
    return two_sample(log, np.asarray(test.pvalue))


def without_holm(log: FloatArray) -> Outcome:
    """Call whatever is below 5 % in any of ten cells."""
    outcome = ours(log)
    return replace(outcome, changed=outcome.raw_changed)


@pytest.mark.parametrize(
    ("analysis", "protocol", "bar"),
    [
        (samples_pooled, Protocol(blocks=16, samples=3), "FP"),
        (without_holm, Protocol(), "FWER"),
        (welch, Protocol(blocks=16, interleaved=False), "FP"),
        (ours, Protocol(blocks=16, interleaved=False), "FP"),
    ],
    ids=["samples pooled", "no Holm", "Welch on block order", "ours on block order"],
)
def test_the_bars_catch_wrong_analyses(analysis: object, protocol: Protocol, bar: str) -> None:
    assert callable(analysis)
    found = figures(analysis, 400, seed=41, protocol=protocol)
    assert any(line.startswith(bar) for line in missed(found, VALIDITY, count=400)), found


def test_the_frame_says_what_the_arrays_say() -> None:
    effects = np.log1p(np.r_[0.02, 0.02, -0.03, np.zeros(7)])
    log = experiments(5, effects, seed=51)
    outcome = ours(log)
    for number in range(5):
        table = compare(frame(log[number]), baseline="OLD", contender="NEW")
        # The frame puts 4k before 128k and depths in order, as the simulation numbers them.
        np.testing.assert_allclose(np.log1p(table["change"]), outcome.estimate[number], atol=1e-12)
        np.testing.assert_allclose(np.log1p(table["ci_low"]), outcome.low[number], atol=1e-12)
        np.testing.assert_allclose(table["mde"], outcome.mde[number], atol=1e-12)
        changed = table["verdict"].isin(["faster", "slower"])
        assert changed.tolist() == outcome.changed[number].tolist()


def test_a_plan_promises_what_the_run_then_shows() -> None:
    """The MDE of the plan, from the session sd of an A/A run, is that of the table."""
    log = experiments(200, seed=61)
    session_sd = float(np.median(log[..., 0].std(axis=-1, ddof=1)))
    promised = expected_mde(blocks=30, cells=10, session_sd=session_sd)
    assert np.median(ours(log).mde) == pytest.approx(promised, rel=0.25)
