"""From filed runs to trends: what is followed, which build begins a step, what the text and the page say."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from history_data import BASELINE, CELL, night, nights, numbers_of

from harness.adapters.results.history_store import HistoryStore
from harness.analysis.trend_text import trend_lines
from harness.analysis.trends import Follow, PlaceTrends, Question, onsets
from harness.core.history import FiledBuild, FiledRun, Selection
from harness.report.history_page import trends_page
from harness.report.page import render_page
from harness.shell.history import link_to, trends

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

STEP = 60
"""The night from which NEW is 6 % slower."""


def noisy(count: int, step: int | None = STEP, seed: int = 3) -> list[float]:
    rng = np.random.default_rng(seed)
    return [
        float(rng.normal(0, 0.01)) - (0.06 if step is not None and number >= step else 0.0)
        for number in range(count)
    ]


def followed(tmp_path: Path, runs: Sequence[FiledRun], question: Question | None = None) -> list[PlaceTrends]:
    store = HistoryStore(tmp_path / "history.duckdb")
    store.add(runs)
    return trends(store, Selection(), question or Question(), 1000)


def test_the_build_that_begins_a_step_and_the_last_one_before_are_named(tmp_path: Path) -> None:
    (place,) = followed(tmp_path, nights(noisy(120)))
    (onset,) = onsets(place)
    assert onset.first.run_id == f"nightly-{STEP:05d}"
    assert onset.before.run_id == f"nightly-{STEP - 1:05d}"
    ((trend, shift),) = onset.shifts
    assert (shift.worse, shift.word(trend.metric)) == (True, "slower")
    assert shift.step.change == pytest.approx(-0.06, abs=0.005)
    assert trend.levels == pytest.approx([1.0, 0.94], abs=0.005)
    assert place.stands_worse
    text = "\n".join(trend_lines([place]))
    assert f"2025-03-02: {CELL} slower (IOPS -6." in text
    assert f"begins with nightly-{STEP:05d}: NEW 10.1.50, commit c{STEP:07d}" in text
    assert f"last before nightly-{STEP - 1:05d}: NEW 10.1.50, commit c{STEP - 1:07d}" in text


def test_a_flat_history_has_no_step(tmp_path: Path) -> None:
    (place,) = followed(tmp_path, nights(noisy(120, step=None)))
    assert onsets(place) == []
    assert not place.stands_worse


def test_what_else_changed_with_a_step_is_told(tmp_path: Path) -> None:
    runs = nights(noisy(120))
    conditions = {**runs[0].conditions, "kernel": "6.1.0-29-amd64"}
    runs[STEP:] = [replace(run, conditions=conditions) for run in runs[STEP:]]
    (place,) = followed(tmp_path, runs)
    assert onsets(place)[0].shifts[0][1].also == (("kernel", "6.1.0-28-amd64", "6.1.0-29-amd64"),)
    assert "also changed: kernel, 6.1.0-28-amd64 -> 6.1.0-29-amd64" in "\n".join(trend_lines([place]))


def test_a_host_that_got_slower_as_a_whole_is_no_step_of_the_build(tmp_path: Path) -> None:
    flat = noisy(120, step=None)
    slower = [
        night(
            number, {}, numbers=tuple(numbers_of(CELL, change, old=100_000.0 if number < STEP else 80_000.0))
        )
        for number, change in enumerate(flat)
    ]
    (place,) = followed(tmp_path, slower)
    assert place.why is None
    assert onsets(place) == []
    (values,) = followed(tmp_path / "again", slower, Question(follow=Follow.VALUE))
    assert values.why == "as asked for"
    assert [onset.first.run_id for onset in onsets(values)] == [f"nightly-{STEP:05d}"]
    assert values.trends[0].levels == pytest.approx([100_000, 80_000], rel=0.01)


def test_without_a_pinned_baseline_values_are_followed_and_it_is_said(tmp_path: Path) -> None:
    runs = nights(noisy(120))
    other = FiledBuild("OLD", "1" * 64, "QEMU emulator version 8.0")
    runs[80:] = [replace(run, builds=(other, run.builds[1])) for run in runs[80:]]
    (place,) = followed(tmp_path, runs)
    assert place.why == "the baseline is not pinned: 2 builds were it"
    assert not place.trends[0].relative


def test_runs_that_cannot_be_compared_are_never_put_in_one_series(tmp_path: Path) -> None:
    runs = nights(noisy(120))
    runs[STEP:] = [replace(run, accel="tcg", comparable="1" * 16) for run in runs[STEP:]]
    places = followed(tmp_path, runs)
    assert [len(place.runs) for place in places] == [STEP, 60]
    assert [onsets(place) for place in places] == [[], []]


def test_the_variant_can_be_chosen(tmp_path: Path) -> None:
    last_night = FiledBuild("LAST", "2" * 64, "QEMU")
    runs = [
        replace(
            run,
            builds=(*run.builds, last_night),
            numbers=(*run.numbers, replace(run.numbers[1], variant="LAST", change=0.5)),
        )
        for run in nights(noisy(10))
    ]
    assert followed(tmp_path, runs)[0].variant == "NEW"
    (place,) = followed(tmp_path, runs, Question(variant="LAST"))
    assert place.trends[0].values == pytest.approx([1.5] * 10)


def test_counts_step_on_the_first_night(tmp_path: Path) -> None:
    values = [0.0, 0.0001, 0.0, 0.02, 0.0201]
    runs = [
        night(
            number,
            {},
            workload="instructions",
            accel="none",
            margin=0.005,
            numbers=tuple(numbers_of(CELL, change, "instructions_per_io", old=4318.0)),
        )
        for number, change in enumerate(values)
    ]
    (place,) = followed(tmp_path, runs)
    (onset,) = onsets(place)
    assert onset.first.run_id == "nightly-00003"
    assert onset.shifts[0][1].word(place.trends[0].metric) == "costlier"


def test_the_page_shows_steps_links_runs_and_escapes_what_comes_from_outside(tmp_path: Path) -> None:
    evil = "</script><img src=x onerror=alert(1)>"
    runs = [
        replace(run, builds=(BASELINE, replace(run.builds[1], version=evil))) for run in nights(noisy(120))
    ]
    kept = tmp_path / "runs" / "kept"
    kept.mkdir(parents=True)
    runs[STEP] = replace(runs[STEP], path=str(kept))
    found = followed(tmp_path, runs)
    html = render_page(trends_page(found, lambda run: link_to(tmp_path, run)))
    assert "<img src=x" not in html
    assert f'<a href="./runs/kept">nightly-{STEP:05d}</a>' in html
    # A run that is gone is named, and leads nowhere.
    assert "nightly-00003" in html
    assert not re.search(r'href="[^"#.]', html)
    assert "In 1 of 1 trend the last step was for the worse" in html
    assert 'data-column="first"' in html
    assert 'value="' + str(found[0].trends[0].shifts[0].step.change) in html


def test_a_page_without_steps_says_so(tmp_path: Path) -> None:
    page = trends_page(followed(tmp_path, nights(noisy(30, step=None))), lambda _run: None)
    assert page.answer == "No step in 1 trend: every level stayed what it was."


def test_a_link_is_relative_where_run_and_page_are_near(tmp_path: Path) -> None:
    near = tmp_path / "runs" / "a b"
    near.mkdir(parents=True)
    run = night(0, {}, path=str(near))
    assert link_to(tmp_path, run) == "./runs/a%20b"
    assert link_to(tmp_path / "pages", run) == "../runs/a%20b"
    far = tmp_path / "p" / "a" / "g" / "e" / "s"
    assert link_to(far, run) == near.as_uri()
    assert link_to(tmp_path, night(0, {}, path="/gone")) is None
