"""The analysis itself: exactness, symmetries, and what it refuses."""

from __future__ import annotations

import functools
import time

import numpy as np
import pandas as pd
import pytest
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from simulation import Noise, Protocol, experiments, frame

from harness.analysis import compare, should_stop, widest_half_width
from harness.analysis.comparison import EXTRA_COLUMNS, RESULT_COLUMNS, compare_all
from harness.analysis.metrics import find_metric
from harness.analysis.ordering import order_cells, why_not_interleaved
from harness.analysis.spread import order_cutoff
from harness.analysis.statistics import (
    blocks_needed,
    expected_mde,
    holm,
    null_cdf,
    pooled_differences,
    rank_cutoff,
    signed_rank,
    stray,
    t_quantile,
)
from harness.core.errors import InputError

OPPOSITE = {"faster": "slower", "slower": "faster", "same": "same", "unclear": "unclear"}
NUMBERS = ["change", "ci_low", "ci_high", "p_value", "p_adjusted", "mde"]


def run(
    effects: float | list[float] = 0.0,
    *,
    blocks: int = 30,
    cells: int = 10,
    seed: int = 1,
    noise: Noise | None = None,
) -> pd.DataFrame:
    protocol = Protocol(blocks=blocks, cells=cells)
    return frame(experiments(1, np.asarray(effects), seed=seed, noise=noise, protocol=protocol)[0])


def versus(
    samples: pd.DataFrame, baseline: str = "OLD", contender: str = "NEW", **how: object
) -> pd.DataFrame:
    return compare(samples, baseline=baseline, contender=contender, **how)  # type: ignore[arg-type]


# The arithmetic


@pytest.mark.parametrize("blocks", [1, 2, 5, 9, 20, 30, 60])
def test_the_null_distribution_is_the_enumerated_one(blocks: int) -> None:
    cdf = null_cdf(blocks)
    assert cdf.size == blocks * (blocks + 1) // 2 + 1
    assert cdf[-1] == pytest.approx(1, abs=1e-12)
    assert np.all(np.diff(cdf) >= 0)
    assert cdf[0] == 2.0**-blocks
    assert not cdf.flags.writeable, "it is shared"


@given(st.integers(2, 40), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_p_is_scipys_exact_p(blocks: int, seed: int) -> None:
    d = np.random.default_rng(seed).normal(0.3, 1, blocks)
    assert signed_rank(d, alpha=0.05).p_value == pytest.approx(scipy.stats.wilcoxon(d, method="exact").pvalue)


def test_the_interval_is_the_tabulated_one() -> None:
    # Hollander and Wolfe, table A.4: n = 10, two-sided 5 %: the 9th smallest and 9th largest Walsh average.
    assert rank_cutoff(10, 0.025) == 9
    d = np.arange(1.0, 11.0)
    found = signed_rank(d, alpha=0.05)
    walsh = np.sort([(a + b) / 2 for i, a in enumerate(d) for b in d[i:]])
    assert (found.low, found.high) == (walsh[8], walsh[-9])
    assert found.estimate == 5.5


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=25))
@settings(deadline=None)
def test_p_and_interval_agree_whatever_the_ties(steps: list[int]) -> None:
    d = np.array(steps, dtype=float)
    found = signed_rank(d, alpha=0.05)
    assert (found.p_value <= 0.05) == bool((found.low > 0) | (found.high < 0))
    assert found.low <= found.estimate <= found.high
    swapped = signed_rank(-d, alpha=0.05)
    assert swapped.p_value == found.p_value
    assert (swapped.low, swapped.high, swapped.estimate) == (-found.high, -found.low, -found.estimate)


def test_level_builds_are_no_evidence_of_anything() -> None:
    assert signed_rank(np.zeros(12), alpha=0.05).p_value == 1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm(p_values: list[float]) -> None:
    p = np.array(p_values)
    adjusted = holm(p)
    assert np.all(adjusted >= p)
    assert np.all(adjusted <= np.minimum(1, p * p.size) + 1e-12), "never worse than Bonferroni"
    assert np.all(np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0)


def test_holm_of_a_worked_example() -> None:
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])


def test_blocks_needed() -> None:
    assert blocks_needed(10, 0.05) == 9
    assert blocks_needed(1, 0.05) == 6
    for cells in (1, 2, 7, 10, 16, 200):
        needed = blocks_needed(cells, 0.05)
        assert 2 * 0.5**needed * cells <= 0.05 < 2 * 0.5 ** (needed - 1) * cells


def test_pooling_takes_the_trimmed_mean_around_the_cells_own_effects() -> None:
    d = experiments(1, seed=3)[0, 1, :, :, 0]
    d[4] += 0.5
    medians = np.median(d, axis=1)
    expected = [scipy.stats.trim_mean(d[:, i] - medians, 0.2) + medians.mean() for i in range(30)]
    np.testing.assert_allclose(pooled_differences(d), expected)


def test_stray_sessions() -> None:
    d = np.random.default_rng(5).normal(0, 0.01, 30)
    d[7] -= 0.2
    assert stray(d, np.asarray(np.median(d))).nonzero()[0].tolist() == [7]
    assert not stray(np.zeros(10), np.asarray(0.0)).any()


def test_expected_mde_shrinks_with_blocks_and_grows_with_noise() -> None:
    assert expected_mde(blocks=60, cells=10, session_sd=0.01) < expected_mde(
        blocks=30, cells=10, session_sd=0.01
    )
    assert expected_mde(blocks=30, cells=10, session_sd=0.2) > 0.2
    assert expected_mde(blocks=8, cells=10, session_sd=0.01) == np.inf
    assert np.isnan(expected_mde(blocks=1, cells=10, session_sd=0.01))


# compare


def test_the_contracts_columns() -> None:
    table = versus(run())
    assert list(table.columns) == ["rw", "bs", "iodepth", *RESULT_COLUMNS, *EXTRA_COLUMNS]
    assert len(table) == 10
    assert {"change", "ci_low", "ci_high", "p_value", "verdict", "n_blocks", "mde", "stray"} <= set(
        table.attrs["pooled"]
    )


def test_faster_slower_same_and_small() -> None:
    quiet = Noise(boot_sd=0.003, sample_sd=0.002, drift_sd=0.002, burst_share=0.0)
    effects = [0.05, -0.05, 0.006, -0.006, *[0.0] * 6]
    table = versus(run(effects, blocks=40, noise=quiet))
    assert table["verdict"].tolist()[:4] == ["faster", "slower", "faster", "slower"]
    assert table["small"].tolist() == [False, False, True, True] + [False] * 6
    assert set(table["verdict"][4:]) == {"same"}


def test_for_a_latency_less_is_faster() -> None:
    samples = run([0.05, -0.05] + [0.0] * 8).rename(columns={"iops": "clat_p99_ns"})
    table = versus(samples, metric="p99")
    assert table["verdict"].tolist()[:2] == ["slower", "faster"]
    assert table["change"][0] > 0
    with pytest.raises(InputError, match="unknown"):
        versus(samples, metric="speed")


@pytest.mark.parametrize("value", [0.0, -0.1, 1.0, 5.0, float("nan")])
def test_a_margin_or_a_risk_out_of_range_is_refused(value: float) -> None:
    with pytest.raises(InputError, match=r"margin: .* is not between 0 and 1") as caught:
        versus(twelve_blocks(), margin=value)
    assert caught.value.problems[0].remedy
    with pytest.raises(InputError, match=r"alpha: .* is not between 0 and 0\.5"):
        versus(twelve_blocks(), alpha=value)


def test_a_risk_that_leaves_no_interval_for_same_is_refused() -> None:
    with pytest.raises(InputError, match=r"alpha: 0\.5 is not between 0 and 0\.5"):
        versus(twelve_blocks(), alpha=0.5)


@functools.cache
def twelve_blocks() -> pd.DataFrame:
    return run([0.03] + [0.0] * 9, blocks=12)


@functools.cache
def twelve_blocks_compared() -> pd.DataFrame:
    return versus(twelve_blocks())


@given(st.randoms(use_true_random=False))
@settings(max_examples=10, deadline=None)
def test_row_order_means_nothing(random: object) -> None:
    samples = twelve_blocks()
    order = np.random.default_rng(random.getrandbits(32)).permutation(len(samples))  # type: ignore[attr-defined]
    pd.testing.assert_frame_equal(twelve_blocks_compared(), versus(samples.iloc[order]))


@given(st.floats(1e-3, 1e6))
@settings(max_examples=15, deadline=None)
def test_the_scale_means_nothing(scale: float) -> None:
    samples = twelve_blocks()
    before, after = twelve_blocks_compared(), versus(samples.assign(iops=samples["iops"] * scale))
    pd.testing.assert_frame_equal(before[NUMBERS], after[NUMBERS], rtol=1e-6, atol=1e-9)
    assert before["verdict"].tolist() == after["verdict"].tolist()
    np.testing.assert_allclose(after["baseline"], before["baseline"] * scale)


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 9, 15, 30]))
@settings(max_examples=20, deadline=None)
def test_swapping_the_builds_turns_the_signs(seed: int, blocks: int) -> None:
    samples = run([0.04, -0.04] + [0.0] * 8, blocks=blocks, seed=seed)
    one, other = versus(samples), versus(samples, "NEW", "OLD")
    np.testing.assert_allclose(np.log1p(one["change"]), -np.log1p(other["change"]), atol=1e-12)
    finite = np.isfinite(one["ci_low"])
    np.testing.assert_allclose(
        np.log1p(one["ci_low"][finite]), -np.log1p(other["ci_high"][finite]), atol=1e-12
    )
    assert one["p_adjusted"].tolist() == other["p_adjusted"].tolist()
    assert one["verdict"].tolist() == [OPPOSITE[verdict] for verdict in other["verdict"]]
    assert one["stray"].tolist() == other["stray"].tolist()
    assert np.log1p(one.attrs["pooled"]["change"]) == pytest.approx(
        -np.log1p(other.attrs["pooled"]["change"])
    )


def test_a_block_with_a_missing_session_is_left_out_of_that_cell_only() -> None:
    samples = run([0.03] + [0.0] * 9, blocks=20)
    missing = (samples["block"] == 7) & (samples["variant"] == "NEW") & (samples["bs"] == "4k")
    missing &= samples["iodepth"] == 1
    table = versus(samples[~missing])
    assert table["n_blocks"].tolist() == [19] + [20] * 9
    without = versus(samples[(samples["block"] != 7)])
    assert table["change"][0] == without["change"][0]
    assert table["baseline"][0] == without["baseline"][0], "the medians are of what is compared"
    assert any("block 7 of randread-4k-1" in warning for warning in table.attrs["warnings"])
    failed = samples.assign(iops=samples["iops"].mask(missing))
    pd.testing.assert_frame_equal(versus(failed), table)


def test_a_cell_missing_on_one_side_is_a_row_and_a_warning() -> None:
    samples = run(blocks=12)
    gone = (samples["variant"] == "NEW") & (samples["bs"] == "128k") & (samples["iodepth"] == 8)
    table = versus(samples[~gone])
    row = table[(table["bs"] == "128k") & (table["iodepth"] == 8)].iloc[0]
    assert row["baseline"] > 0
    assert np.isnan(row["contender"])
    assert np.isnan(row["change"])
    assert "not measured on NEW: randread-128k-8" in table.attrs["warnings"]


def test_a_cell_of_the_matrix_that_was_never_measured_is_a_row_too() -> None:
    table = versus(run(blocks=12), cells=[("randwrite", "4k", 1)])
    assert (table["rw"][0], np.isnan(table["baseline"][0])) == ("randwrite", True)


@pytest.mark.parametrize("blocks", [1, 2, 8])
def test_too_few_blocks_call_nothing(blocks: int) -> None:
    table = versus(run(0.5, blocks=blocks))
    assert set(table["verdict"]) == {"unclear"}
    assert set(table["reason"]) == {f"too few blocks: {blocks}, and 9 are needed"}
    assert table["change"].between(0.3, 1.5).all(), "the estimate is there all the same"
    if blocks == 2:
        assert np.isinf(table["ci_low"]).all()
        assert table["mde"].isna().all()


def test_one_cell() -> None:
    table = versus(run(0.05, cells=1, blocks=6))
    assert table["verdict"].tolist() == ["faster"]
    assert table["p_value"][0] == table["p_adjusted"][0] == table.attrs["pooled"]["p_value"]


def test_not_interleaved_gets_estimates_only() -> None:
    table = versus(run(0.05), no_verdict="two directories")
    assert table["verdict"].isna().all()
    assert table["p_value"].isna().all()
    np.testing.assert_allclose(table["change"], table["contender"] / table["baseline"] - 1)
    assert table.attrs["warnings"] == ["no verdict: two directories; the estimates may be noise"]
    assert set(table["n_contender"]) == {30}


def test_200_cells_and_60_blocks_take_less_than_two_seconds() -> None:
    samples = run(blocks=60, cells=200)
    versus(run(blocks=10))  # scipy's import is no part of it
    start = time.process_time()
    table = versus(samples)
    assert time.process_time() - start < 2
    assert len(table) == 200


def test_the_median_of_three_samples_stands_for_a_session() -> None:
    log = experiments(1, seed=9, protocol=Protocol(blocks=10, samples=3))[0]
    table = versus(frame(log))
    medians = versus(frame(np.median(log, axis=-1, keepdims=True)))
    np.testing.assert_allclose(table["change"], medians["change"])


def test_runs_are_put_together_by_their_blocks() -> None:
    one, two = run(blocks=10).assign(run="a"), run(blocks=10, seed=2).assign(run="b")
    assert set(versus(pd.concat([one, two]))["n_blocks"]) == {20}


def test_further_factors() -> None:
    one, two = run(blocks=10), run(0.1, blocks=10, seed=2)
    samples = pd.concat([one.assign(aio="native"), two.assign(aio="io_uring", block=two["block"] + 10)])
    table = versus(samples)
    assert list(table.columns[:4]) == ["rw", "bs", "iodepth", "aio"]
    assert len(table) == 20
    assert set(table["n_blocks"]) == {10}
    assert table.attrs["pooled"]["n_blocks"] == 20
    constant = versus(one.assign(aio="native"))
    assert "aio" not in constant.columns


def test_contenders_are_judged_each_by_itself() -> None:
    samples = run(0.05, blocks=12)
    third = samples[samples["variant"] == "NEW"].assign(variant="tune8")
    tables = compare_all(pd.concat([samples, third]), baseline="OLD", contenders=["NEW", "tune8"])
    assert tables["NEW"]["p_adjusted"].tolist() == tables["tune8"]["p_adjusted"].tolist()


def test_stray_sessions_are_charged_to_their_variant() -> None:
    samples = run(blocks=30, noise=Noise(burst_share=0.0))
    bad = samples["block"].isin([3, 9, 20, 21]) & (samples["variant"] == "NEW")
    samples.loc[bad, "iops"] *= 0.7
    table = versus(samples)
    assert (table["stray_contender"] >= 4).all()
    assert (table["stray"] == table["stray_baseline"] + table["stray_contender"]).all()
    assert table.attrs["pooled"]["stray_contender"] == 4
    assert any("stray sessions of the contender" in warning for warning in table.attrs["warnings"])


def test_a_noisy_host_is_told_so() -> None:
    table = versus(run(blocks=10, noise=Noise(boot_sd=0.2)))
    assert any(warning.startswith("very noisy") for warning in table.attrs["warnings"])


# What is refused


@pytest.mark.parametrize(
    "column", ["variant", "block", "session", "rw", "bs", "iodepth", "iteration", "iops"]
)
def test_a_missing_column_is_named(column: str) -> None:
    with pytest.raises(InputError, match=column):
        versus(run(blocks=2).drop(columns=column))


def test_a_sample_that_occurs_twice_is_refused() -> None:
    samples = run(blocks=3)
    with pytest.raises(InputError, match="twice"):
        versus(pd.concat([samples, samples.head(1)]))


def test_two_sessions_of_a_variant_in_a_block_are_refused() -> None:
    samples = run(blocks=3)
    with pytest.raises(InputError, match="two sessions of"):
        versus(pd.concat([samples, samples.assign(session=samples["session"] + 100)]))


@pytest.mark.parametrize("value", [0.0, -1.0, np.inf])
def test_what_is_no_measurement_is_refused(value: float) -> None:
    samples = run(blocks=3)
    samples.loc[5, "iops"] = value
    with pytest.raises(InputError, match="no measurement"):
        versus(samples)


def test_unknown_variants_are_refused() -> None:
    with pytest.raises(InputError, match="MISSING"):
        versus(run(blocks=3), "OLD", "MISSING")
    with pytest.raises(InputError, match="itself"):
        versus(run(blocks=3), "OLD", "OLD")


def test_a_sample_without_a_block_is_refused() -> None:
    with pytest.raises(InputError, match="block"):
        versus(run(blocks=3).assign(block=np.nan))


# Order


def test_rows_stand_in_the_order_of_sizes_not_letters() -> None:
    keys = [("randread", bs, depth) for bs in ("128k", "1m", "4k", "512") for depth in (64, 8, 1)]
    assert [key[1:] for key in order_cells(keys)] == [
        (bs, depth) for bs in ("512", "4k", "128k", "1m") for depth in (1, 8, 64)
    ]
    assert order_cells(keys, [keys[3], keys[0]])[:2] == [keys[3], keys[0]]


def test_what_is_interleaved() -> None:
    mirrored = [(0, "O"), (0, "N"), (1, "N"), (1, "O")] * 1
    assert why_not_interleaved(mirrored) is None
    apart = [(0, "O"), (1, "O"), (0, "N"), (1, "N")]
    assert "next to each other" in str(why_not_interleaved(apart))
    first = [(block, variant) for block in range(8) for variant in "ON"]
    assert "O ran first in every block" in str(why_not_interleaved(first))
    assert "one variant" in str(why_not_interleaved([(0, "O"), (1, "O")]))
    assert "side by side" in str(why_not_interleaved([(0, "O"), (1, "N")]))


# Stopping


def test_stopping_reads_widths_only() -> None:
    samples = run([0.05] + [0.0] * 9, blocks=20)
    turned = samples.assign(variant=samples["variant"].map({"OLD": "NEW", "NEW": "OLD"}))
    widths = [widest_half_width(frame_, baseline="OLD", contenders=["NEW"]) for frame_ in (samples, turned)]
    assert widths[0] == pytest.approx(widths[1])
    table = versus(samples)
    half = (np.log1p(table["ci_high"]) - np.log1p(table["ci_low"])) / 2
    assert widths[0] == pytest.approx(np.expm1(half.max()))


def test_a_cell_that_is_not_there_yet_is_infinitely_wide() -> None:
    cells = [("randread", "4k", 1), ("randwrite", "4k", 1)]
    width = widest_half_width(run(blocks=20), baseline="OLD", contenders=["NEW"], cells=cells)
    assert width == np.inf


@pytest.mark.parametrize(
    ("widest", "blocks", "stop"),
    [(0.009, 18, False), (0.009, 20, True), (0.009, 21, False), (0.011, 22, False), (np.inf, 60, True)],
)
def test_when_to_stop(widest: float, blocks: int, stop: bool) -> None:  # noqa: FBT001
    decision = should_stop(widest, blocks_done=blocks, target=0.01)
    assert decision.stop is stop
    assert bool(decision.reason) is stop


@pytest.mark.parametrize(
    ("widest", "reason"),
    [
        (0.009, "after 60 blocks the widest interval is +-0.90%, 1.00% was asked for"),
        (0.011, "all 60 blocks are done: the widest interval is +-1.10%, 1.00% was asked for"),
        (np.inf, "all 60 blocks are done: the widest interval is without bounds, 1.00% was asked for"),
    ],
)
def test_the_end_of_a_stopping_rule_says_what_was_reached(widest: float, reason: str) -> None:
    assert should_stop(widest, blocks_done=60, target=0.01).reason == reason


def test_blocks_that_failed_do_not_count_for_the_first_look() -> None:
    samples = run(blocks=20)
    whole = widest_half_width(samples, baseline="OLD", contenders=["NEW"], min_blocks=20)
    assert whole < 0.1
    lost = samples[(samples["block"] != 3) | (samples["variant"] == "OLD")]
    assert widest_half_width(lost, baseline="OLD", contenders=["NEW"], min_blocks=20) == np.inf


def test_metrics_know_their_unit_and_direction() -> None:
    assert find_metric("iops").heading == "IOPS (more is better)"
    assert find_metric("clat").heading == "completion latency, mean in us (less is better)"
    assert find_metric("bw").format(2.0**20 * 1.5) == "1.5"
    assert find_metric("p99").format(1234.0) == "1.2"
    assert find_metric("clat_p99").name == find_metric("p99").name == "clat_p99_ns"
    assert find_metric("iops").format(float("nan")) == "-"


def test_quantiles_and_cutoffs_are_those_of_scipy() -> None:
    """They are computed without it, since it takes long to import."""
    for freedom in (1, 2, 3, 4, 7, 19, 20, 39, 499, 500, 501):
        for exceeded in (1e-8, 1e-7, 1e-5, 0.00125, 0.025, 0.2, 0.4999, 0.5, 0.8):
            wanted = -float(scipy.special.stdtrit(freedom, exceeded))
            assert t_quantile(exceeded, freedom) == pytest.approx(wanted, rel=1e-8, abs=1e-12)
    for count in (1, 5, 6, 20, 101, 1500):
        for tail in (0.0249, 0.0051, 1e-6):
            cutoff = int(np.count_nonzero(scipy.special.bdtr(np.arange(count), count, 0.5) <= tail))
            assert order_cutoff(count, tail) == cutoff
