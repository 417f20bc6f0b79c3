"""Rounds to a slope, a word and a fate; and what people read of them."""

from __future__ import annotations

import csv
import io
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.analysis.pool import Fate, Growth, PoolSession, growth_slope, judge_pool
from harness.analysis.pool_tables import PoolReport, render_pool
from harness.core.mappings import Mappings

LIMIT = 65530
IN_FLIGHT = 4096

# As measured on a 2-core machine under TCG.
OLD = (8649, 16841, 25033, 33223, 41415, 49607, 57797)
NEW = (6560, 6560, 6559, 6559, 6559, 6561, 6559, 6559, 6561, 6555)
DEATH = "SIGABRT (failed to set up stack guard page: Cannot allocate memory)"


def session(vmas: tuple[int, ...], **death: Any) -> PoolSession:
    return PoolSession(tuple(Mappings(count, count // 2 - 200) for count in vmas), **death)


def died(vmas: tuple[int, ...]) -> PoolSession:
    message = DEATH.partition("(")[2].rstrip(")")
    return session(vmas, death=DEATH, message=message, last_seen=Mappings(vmas[-1] + 100, vmas[-1] // 2))


def report(old: PoolSession, new: PoolSession, limit: int | None = LIMIT) -> PoolReport:
    variants = (
        judge_pool("OLD", [old], in_flight=IN_FLIGHT, limit=limit),
        judge_pool("NEW", [new], in_flight=IN_FLIGHT, limit=limit),
    )
    return PoolReport(variants, IN_FLIGHT, limit, ("a warning",), ("a footer",), {})


def judge(*sessions: PoolSession, limit: int | None = LIMIT) -> Any:
    return judge_pool("X", sessions, in_flight=IN_FLIGHT, limit=limit)


def test_the_measured_builds_are_told_apart() -> None:
    old, new = judge(died(OLD)), judge(session(NEW))
    assert (old.growth, old.fate, old.round) == (Growth.UNBOUNDED, Fate.ABORTED, 8)
    assert (new.growth, new.fate, new.round) == (Growth.BOUNDED, Fate.SURVIVED, 10)
    assert old.slope.low < 8191.2 < old.slope.high
    assert new.rounds_to_limit is None


def test_rounds_to_the_limit_are_counted_from_the_last_one() -> None:
    assert judge(session(OLD[:6])).rounds_to_limit == pytest.approx((LIMIT - 49607) / 8191.3, rel=1e-3)
    assert judge(session(OLD[:6]), limit=None).rounds_to_limit is None
    # Already over it: another limit was asked for.
    assert judge(session(OLD[:6]), limit=10_000).rounds_to_limit == 0


def test_filling_an_empty_pool_is_no_growth() -> None:
    """The first round always adds: 2,000 mappings at start, 16,000 from then on."""
    assert judge(session((2000, 16003, 15999, 16001, 16003))).growth is Growth.BOUNDED


def test_noise_around_a_level_is_bounded_and_around_a_climb_is_not() -> None:
    noise = np.random.default_rng(7).normal(0, 150, 12)
    level = tuple(int(16000 + value) for value in noise)
    climb = tuple(int(5000 + 3000 * n + value) for n, value in enumerate(noise))
    assert judge(session(level)).growth is Growth.BOUNDED
    assert judge(session(climb)).growth is Growth.UNBOUNDED


def test_what_rounds_cannot_tell_is_called_unclear() -> None:
    assert judge(session((5000, 13000))).growth is Growth.UNCLEAR
    assert judge(session((5000, 9000, 4000, 12000, 3000))).growth is Growth.UNCLEAR
    nothing = judge(PoolSession((), death="SIGABRT"))
    assert (nothing.growth, nothing.fate, nothing.round) == (Growth.UNCLEAR, Fate.ABORTED, 1)


def test_a_slow_leak_of_something_else_is_not_the_pool() -> None:
    assert judge(session(tuple(16000 + 5 * n for n in range(8)))).growth is Growth.BOUNDED


def test_several_sessions_each_keep_their_own_level() -> None:
    """A slope over all points without levels of their own would be swamped by the difference in level."""
    together = judge(session((1000, 2000, 3000, 4000)), session((31000, 32000, 33000, 34000)))
    assert together.slope.estimate == pytest.approx(1000)
    assert together.slope.high - together.slope.low < 1
    assert together.rounds[0].vmas == 16000
    earliest = judge(died(OLD), died(OLD[:5]), session(OLD))
    assert (earliest.fate, earliest.round) == (Fate.ABORTED, 6)


@given(
    st.lists(st.integers(0, 10**6), min_size=4, max_size=30),
    st.integers(-(10**6), 10**6),
    st.integers(-1000, 1000),
)
def test_slope_moves_with_the_data(values: list[int], level: int, climb: int) -> None:
    plain = growth_slope([values])
    moved = growth_slope([[value + level + climb * n for n, value in enumerate(values)]])
    assert moved.estimate == pytest.approx(plain.estimate + climb, abs=1e-3)
    assert plain.low <= plain.estimate <= plain.high
    assert moved.high - moved.low == pytest.approx(plain.high - plain.low, abs=1e-2)


def test_the_interval_covers_as_often_as_it_says() -> None:
    random, truth, covered = np.random.default_rng(3), 40.0, 0
    for _ in range(2000):
        values = 1000 + truth * np.arange(7) + random.normal(0, 100, 7)
        slope = growth_slope([list(values)])
        covered += slope.low <= truth <= slope.high
    assert 0.935 <= covered / 2000 <= 0.965


def test_the_table_says_everything() -> None:
    text = render_pool(report(died(OLD), session(NEW)))
    lines = text.splitlines()
    assert "ROUND OLD COROUTINES OLD VMAS NEW COROUTINES NEW VMAS" in lines
    assert any(line.split() == ["8", "aborted", "-", "3079", "6559"] for line in lines)
    assert "OLD grows without bound: +8,191 [+8,191, +8,192] VMAs a round." in lines
    assert f"OLD aborted in round 8: {DEATH}, 57,897 VMAs and 28,898 coroutines last seen" in text
    assert "NEW is bounded: +0 [-1, +0] VMAs a round." in lines
    assert "NEW survived 10 rounds, at 6,555 VMAs (10% of the limit)." in lines
    assert {"warning: a warning", "a footer"} <= set(lines)
    assert "and the limit of 65,530" in text


def test_a_large_limit_is_said_to_hide_the_bug() -> None:
    text = render_pool(report(session(OLD), session(NEW), limit=1048576))
    assert "exhausted mappings stay hidden here (OLD would take 121 more rounds to reach it)" in text
    assert "hidden" not in render_pool(report(session(OLD), session(NEW)))


def test_an_unknown_limit_is_said_to_be_unknown() -> None:
    text = render_pool(report(session(OLD), session(NEW), limit=None))
    assert "vm.max_map_count is unknown" in text
    assert "of the limit" not in text


def test_programs_get_the_same_numbers() -> None:
    found = report(died(OLD), session(NEW))
    document = json.loads(render_pool(found, "json"))
    assert document["workload"] == "pool-growth"
    old, new = document["pool"]["OLD"], document["pool"]["NEW"]
    assert old["rounds"][0] == {"round": 1, "coroutines": 4124, "vmas": 8649}
    assert [entry["vmas"] for entry in old["rounds"]] == list(OLD)
    assert (old["growth"], new["growth"]) == ("unbounded", "bounded")
    assert old["outcome"] == {
        "state": "aborted",
        "round": 8,
        "message": "failed to set up stack guard page: Cannot allocate memory",
        "death": DEATH,
        "vmas": 57897,
    }
    assert (new["outcome"]["state"], new["outcome"]["round"]) == ("survived", 10)
    rows = list(csv.DictReader(io.StringIO(render_pool(found, "csv"))))
    assert [int(row["vmas"]) for row in rows if row["variant"] == "NEW"] == list(NEW)
    assert "| 8 | aborted | - | 3079 | 6559 |" in render_pool(found, "markdown")
    assert render_pool(found, "commit").startswith("ROUND OLD COROUTINES")
    assert len(render_pool(found, "commit").splitlines()) == 11


def test_what_cannot_be_computed_is_null_in_json() -> None:
    document = json.loads(render_pool(report(session((5, 6)), session(NEW)), "json"))
    assert document["pool"]["OLD"]["slope"] == {"vmas_per_round": None, "ci_low": None, "ci_high": None}
    assert math.isfinite(document["pool"]["NEW"]["slope"]["vmas_per_round"])


def test_names_from_outside_do_not_command_the_terminal() -> None:
    evil = judge_pool("O\x1b[2JLD", [session(NEW)], in_flight=IN_FLIGHT, limit=LIMIT)
    text = render_pool(PoolReport((evil,), IN_FLIGHT, LIMIT, ("\x1b]0;x",), (), {}))
    assert "\x1b" not in text
