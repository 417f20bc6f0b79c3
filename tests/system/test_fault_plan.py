"""The plan of a campaign of faults, and its figures: what a seed promises. Nothing is booted for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fault_figures import Finding, put_into, read_findings
from fault_plan import Fault, Kind, Phase, plan_trials
from fault_watch import Watch
from fault_world import Pace
from hypothesis import given
from hypothesis import strategies as st

if TYPE_CHECKING:
    from pathlib import Path

counts, seeds = st.integers(1, 80), st.integers(0, 2**32)


@given(counts, seeds)
def test_every_kind_comes_before_any_comes_again(count: int, seed: int) -> None:
    kinds = [trial.kind for trial in plan_trials(count, seed)]
    assert len(kinds) == count
    for begin in range(0, count, len(Kind)):
        group = kinds[begin : begin + len(Kind)]
        assert len(set(group)) == len(group)


@given(counts, counts, seeds)
def test_a_longer_campaign_begins_with_the_shorter_one(count: int, more: int, seed: int) -> None:
    assert plan_trials(count + more, seed)[:count] == plan_trials(count, seed)


@given(seeds)
def test_faults_are_where_they_can_happen(seed: int) -> None:
    for trial in plan_trials(40, seed):
        assert trial.name.startswith(f"{trial.number}-{trial.kind}-")
        for fault in trial.faults:
            assert fault.after >= 0
            assert fault.phase not in {Phase.ANY, Phase.BOOTING} or fault.after < 1
            if fault.kind is Kind.FIO_KILLED:
                assert fault.phase is Phase.MEASURING


def test_the_campaign_of_every_day_has_every_kind_and_phase() -> None:
    trials = plan_trials(15, 84)
    assert {trial.kind for trial in trials} == set(Kind)
    assert {fault.phase for trial in trials for fault in trial.faults} == set(Phase)


def test_a_moment_that_never_comes_is_told_by_the_end_of_the_harness(tmp_path: Path) -> None:
    watch = Watch(tmp_path / "run", lambda: True, Pace(run_seconds=10, boot_seconds=3))
    assert not watch.reaches(Fault(Kind.QEMU_SIGKILL, Phase.BOOTING, 0, 0.0))


def found(trial: int, kind: Kind, *, lost: int = 0) -> Finding:
    return Finding(trial, 1, kind.value, reached=1, lost=lost, leaks=0, wrong=0, seconds=36.0)


def test_the_figures_are_those_of_the_logs(tmp_path: Path) -> None:
    one, other = tmp_path / "one.jsonl", tmp_path / "other.jsonl"
    found(0, Kind.GUEST_PANIC, lost=3).append_to(one)
    found(1, Kind.GUEST_PANIC).append_to(other)
    found(2, Kind.DISK_FULL, lost=2).append_to(other)
    # Repeated, after it was mended.
    found(0, Kind.GUEST_PANIC).append_to(one)
    page = "a\n<!-- faults: begin -->\nold\n<!-- faults: end -->\nb\n"
    text = put_into(page, read_findings([one, other]))
    assert text.startswith("a\n<!-- faults: begin -->\n3 trials, seed 1, ")
    assert text.endswith("<!-- faults: end -->\nb\n")
    assert "old" not in text
    assert "| the guest's kernel panics | 2 | 2 | 0 | 0 | 0 |" in text
    assert "| the disk of the run directory is full | 1 | 1 | 2 | 0 | 0 |" in text
    assert "| all | 3 | 3 | 2 | 0 | 0 |" in text


def test_a_page_without_a_place_for_figures_is_refused() -> None:
    with pytest.raises(AssertionError, match="faults: begin"):
        put_into("a", [])
