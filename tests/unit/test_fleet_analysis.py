"""Several hosts, one answer: valid on simulated fleets, and clear about hosts that disagree."""

from __future__ import annotations

import json
from io import StringIO
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from bars import missed
from fleet_bars import ONE_NOISE, UNEQUAL, VALIDITY, fleet_figures, simulated
from simulation import Protocol, experiments, frame

from harness.analysis.fleet import FleetComparison, compare_hosts
from harness.analysis.fleet_statistics import HostEstimates, odd_hosts, pool_hosts
from harness.analysis.fleet_tables import render_fleet
from harness.analysis.result import Comparison, build
from harness.analysis.verdicts import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

CELLS = 4
COUNTS = [300, pytest.param(2000, marks=pytest.mark.slow)]


def host(effects: float | list[float], *, seed: int, blocks: int = 12, level: float = 1e5) -> Comparison:
    """Return what one simulated host says."""
    log = experiments(1, np.array(effects), seed=seed, protocol=Protocol(blocks=blocks, cells=CELLS))
    samples = frame(log[0], level=level)
    return build(samples, baseline="OLD", contenders=["NEW"], footer=["sessions", "OLD: QEMU 7.2"])


def fleet(effects: Mapping[str, float | list[float]], **how: int) -> FleetComparison:
    hosts = {
        name: host(own, seed=number, level=1e5 * (number + 1), **how)
        for number, (name, own) in enumerate(effects.items())
    }
    return compare_hosts(hosts, facts={name: {"cpu": f"CPU of {name}", "cpus": 8} for name in hosts})


SLOWER: float | list[float] = [0.0, -0.03, 0.0, 0.0]
THREE = {"kvm1": SLOWER, "kvm2": SLOWER, "kvm3": SLOWER}
ODD: dict[str, float | list[float]] = {"kvm1": SLOWER, "kvm2": SLOWER, "kvm3": [0.0, 0.05, 0.0, 0.0]}


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize(("hosts", "blocks"), [(2, 30), (3, 8), (3, 30), (10, 8), (10, 30)])
def test_without_a_change_fleets_call_no_more_than_they_may(hosts: int, blocks: int, count: int) -> None:
    found = fleet_figures(count, hosts=hosts, blocks=blocks, seed=11)
    assert missed(found, VALIDITY, count=count) == []


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize(("hosts", "blocks"), [(3, 8), (10, 30)])
def test_hosts_may_be_unequally_noisy(hosts: int, blocks: int, count: int) -> None:
    found = fleet_figures(count, hosts=hosts, blocks=blocks, seed=12, noises=UNEQUAL)
    assert missed(found, VALIDITY, count=count) == []


@pytest.mark.parametrize("hosts", [3, 10])
def test_where_hosts_differ_the_interval_covers_their_mean_and_across_hosts_the_one_behind(
    hosts: int,
) -> None:
    found = fleet_figures(300, hosts=hosts, blocks=30, seed=13, spread=0.02)
    bars = {name: VALIDITY[name] for name in ("coverage", "across coverage")}
    assert missed(found, bars, count=300) == []
    assert found["disagreement FWER"] > 0.8


def test_more_hosts_give_a_narrower_answer() -> None:
    widths = [
        float(
            np.median(pool_hosts(simulated(50, hosts=n, blocks=30, seed=1), alpha=0.05).estimates.half_width)
        )
        for n in (2, 10)
    ]
    assert widths[1] < widths[0] * 0.6


def test_one_odd_host_is_found_and_the_others_are_not() -> None:
    shift = np.zeros((5, 1))
    shift[3] = 0.05
    found = simulated(40, hosts=5, blocks=12, seed=5, noises=ONE_NOISE, effects=np.repeat(shift, 40, axis=1))
    named = [
        list(
            np.flatnonzero(
                odd_hosts(
                    HostEstimates(
                        found.estimate[:, i, 0], found.standard_error[:, i, 0], found.blocks[:, i, 0]
                    ),
                    alpha=0.05,
                )
            )
        )
        for i in range(40)
    ]
    assert sum(one == [3] for one in named) >= 34


def test_two_hosts_that_disagree_are_both_odd() -> None:
    two = HostEstimates(np.array([0.0, 0.1]), np.array([0.005, 0.005]), np.array([30, 30]))
    assert odd_hosts(two, alpha=0.05).all()


def test_builds_that_do_not_differ_at_all_are_no_division_by_zero() -> None:
    exact = HostEstimates(np.zeros((3, 2)), np.zeros((3, 2)), np.full((3, 2), 8))
    pooled = pool_hosts(exact, alpha=0.05)
    assert list(pooled.estimates.p_value) == [1.0, 1.0]
    assert list(pooled.p_agree) == [1.0, 1.0]


def test_the_pooled_row_is_the_mean_of_the_hosts() -> None:
    found = fleet(THREE)
    pooled = found.pooled.frames["NEW"]
    each = [one.frames["NEW"] for one in found.hosts.values()]
    mean = np.expm1(np.mean([np.log1p(own["change"]) for own in each], axis=0))
    assert list(pooled["change"]) == pytest.approx(list(mean))
    assert list(pooled["verdict"])[1] == "slower"
    assert list(pooled["n_blocks"]) == [36] * CELLS
    assert list(pooled["n_hosts"]) == [3] * CELLS
    geometric = np.exp(np.mean([np.log(own["baseline"]) for own in each], axis=0))
    assert list(pooled["baseline"]) == pytest.approx(list(geometric))
    assert found.pooled.pooled("NEW")["n_blocks"] == 36


def test_a_host_that_contradicts_the_others_is_named_and_nothing_is_called() -> None:
    found = fleet(ODD)
    row = found.pooled.frames["NEW"].iloc[1]
    assert row["disagreeing"] == ("kvm3",)
    assert row["verdict"] == "unclear"
    text = render_fleet([found])
    assert "hosts disagree: kvm3" in text
    assert "warning: hosts disagree in randread-4k-8: kvm3 +" in text
    # But a host on which it did get slower is not forgotten.
    reverse: dict[str, float | list[float]] = {"kvm1": 0.0, "kvm2": 0.0, "kvm3": [0.0, -0.06, 0.0, 0.0]}
    assert Verdict.SLOWER in fleet(reverse).verdicts()


def test_hosts_that_differ_only_in_how_much_have_one_answer() -> None:
    much: dict[str, float | list[float]] = {"kvm1": SLOWER, "kvm2": SLOWER, "kvm3": [0.0, -0.12, 0.0, 0.0]}
    row = fleet(much).pooled.frames["NEW"].iloc[1]
    assert row["disagreeing"] == ("kvm3",)
    assert row["verdict"] == "slower"


def test_too_few_blocks_give_no_pooled_answer_and_say_so() -> None:
    found = fleet(THREE, blocks=4)
    assert set(found.pooled.frames["NEW"]["verdict"]) == {"unclear"}
    assert "too few blocks" in render_fleet([found])


def test_a_host_without_a_verdict_is_left_out_and_named() -> None:
    hosts = {name: host(0.0, seed=n) for n, name in enumerate(["kvm1", "kvm2"])}
    log = experiments(1, 0.0, seed=9, protocol=Protocol(blocks=12, cells=CELLS))
    drifted = build(frame(log[0]), baseline="OLD", contenders=["NEW"], no_verdict="the governor changed")
    found = compare_hosts({**hosts, "kvm3": drifted}, absent={"kvm4": "unreachable"})
    assert found.names == ("kvm1", "kvm2")
    text = render_fleet([found])
    assert "warning: kvm3 is not in the pooled answer: the governor changed" in text
    assert "warning: kvm4 is not in the pooled answer: unreachable" in text
    alone = compare_hosts({"kvm1": hosts["kvm1"], "kvm3": drifted})
    assert alone.pooled.no_verdict == "1 of 2 hosts can be pooled"
    assert "warning: no pooled verdict" in render_fleet([alone])


@pytest.mark.parametrize("form", ["text", "markdown"])
def test_tables_have_a_column_a_host_and_a_line_a_host(form: str) -> None:
    text = render_fleet([fleet(THREE)], form)
    head = next(line for line in text.splitlines() if "BLKSIZE" in line)
    for name in THREE:
        assert name in head
        assert f"CPU of {name}" in text
    assert "nan" not in text


def test_many_hosts_have_no_column_each() -> None:
    many: dict[str, float | list[float]] = {f"kvm{n}": 0.0 for n in range(12)}
    text = render_fleet([fleet(many)])
    head = next(line for line in text.splitlines() if "BLKSIZE" in line)
    assert "LOWEST" in head
    assert "kvm3" not in head
    assert sum(line.startswith("kvm") for line in text.splitlines()) == 12


def test_the_commit_format_is_the_table_of_one_run() -> None:
    lines = render_fleet([fleet(THREE)], "commit").splitlines()
    assert lines[0].split() == ["RW", "BLKSIZE", "IODEPTH", "OLD", "NEW", "CHANGE"]
    assert len(lines) == CELLS + 1


def test_csv_and_json_have_the_pooled_rows_and_every_host() -> None:
    found = fleet(ODD)
    table = pd.read_csv(StringIO(render_fleet([found], "csv")))
    assert list(dict.fromkeys(table["host"])) == ["all", *ODD]
    assert len(table) == CELLS * 4
    document = json.loads(render_fleet([found], "json"))
    assert document["cells"][1]["disagreeing"] == ["kvm3"]
    assert list(document["hosts"]) == list(ODD)
    assert document["hosts"]["kvm1"]["cells"][1]["verdict"] == "slower"
    assert document["hosts"]["kvm2"]["facts"]["cpu"] == "CPU of kvm2"
    assert document["pooled"]["n_hosts"] == 3


def test_several_metrics_are_one_document_each() -> None:
    both = [fleet(THREE), fleet(ODD)]
    assert len(json.loads(render_fleet(both, "json"))["further"]) == 1
    assert "metric" in render_fleet(both, "csv").splitlines()[0]
    assert render_fleet(both, "commit").count("IOPS (more is better):") == 2
