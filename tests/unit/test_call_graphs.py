"""From callgrind's calls to icicle graphs: nothing is lost, nothing is wider than what called it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import counted_run
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.analysis.call_tree import Call, call_graph, call_tree
from harness.core.counting.callgrind import Function, Profile
from harness.report.call_graphs import CellTree, call_graphs
from harness.report.icicle import Icicle, Shown, icicle
from harness.report.page import Page, Section, render_page
from harness.shell.costing import compare_counted
from harness.shell.counted import read_counted
from harness.shell.explaining import explained

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("OLD", "NEW")


def function(name: str) -> Function:
    return Function(name, "???", "/usr/bin/qemu-system-x86_64")


def profile(own: dict[str, int], calls: dict[tuple[str, str], int]) -> Profile:
    return Profile(
        3,
        "",
        sum(own.values()),
        own={function(name): cost for name, cost in own.items()},
        calls={(function(a), function(b)): cost for (a, b), cost in calls.items()},
    )


NOTHING = profile({}, {})


def tree_of(old: Profile, new: Profile) -> Call:
    return call_tree(call_graph([NOTHING], [old], 1), call_graph([NOTHING], [new], 1))


def named(tree: Call) -> dict[str, Call]:
    return {call.name: call for _depth, call in tree.walk()}


POP = profile({"start": 100, "pop": 400, "push": 500}, {("start", "pop"): 400, ("start", "push"): 500})
POP_MEMSET = profile(
    {"start": 100, "pop": 400, "push": 500, "memset": 1000},
    {("start", "pop"): 1400, ("start", "push"): 500, ("pop", "memset"): 1000},
)


def test_calls_stand_below_their_callers_with_both_costs() -> None:
    found = named(tree_of(POP, POP_MEMSET))
    assert (found["a request"].old, found["a request"].new) == (1000, 2000)
    assert [call.name for call in found["start"].calls] == ["pop", "push"]
    assert (found["pop"].old, found["pop"].new, found["pop"].own_new) == (400, 1400, 400)
    assert (found["memset"].old, found["memset"].new) == (0, 1000)


def test_the_start_of_a_process_cancels() -> None:
    few = profile({"start": 1100, "pop": 100}, {("start", "pop"): 100})
    many = profile({"start": 1100, "pop": 900}, {("start", "pop"): 900})
    graph = call_graph([few], [many], 8)
    assert graph.total == 100
    assert named(call_tree(graph, graph))["pop"].own_new == 100


def test_what_is_called_from_several_places_is_shared_out() -> None:
    both = profile(
        {"start": 0, "read": 100, "write": 100, "lock": 300, "futex": 600},
        {("start", "read"): 400, ("start", "write"): 700, ("read", "lock"): 300, ("write", "lock"): 600,
         ("lock", "futex"): 600},
    )  # fmt: skip
    tree = tree_of(both, both)
    locks = {way.name: call for _depth, way in tree.walk() for call in way.calls if call.name == "lock"}
    assert {name: round(call.new) for name, call in locks.items()} == {"read": 300, "write": 600}
    assert [round(call.new) for lock in locks.values() for call in lock.calls] == [200, 400]


def test_functions_without_a_name_are_matched_by_their_place_not_their_address() -> None:
    def build(address: str, further: str) -> Profile:
        return profile(
            {"start": 10, address: 20, further: 30, "pop": 40},
            {("start", address): 90, (address, further): 70, (further, "pop"): 40},
        )

    found = named(tree_of(build("0x1000", "0x2000"), build("0x7000", "0x9000")))
    assert set(found) == {"a request", "start", "(no symbol)", "pop"}
    assert (found["(no symbol)"].old, found["(no symbol)"].new) == (90, 90)
    assert (found["(no symbol)"].own_old, found["pop"].new) == (50, 40)


def test_recursion_ends() -> None:
    around = profile(
        {"start": 10, "a": 100, "b": 100},
        {("start", "a"): 200, ("a", "b"): 200, ("b", "a"): 100},
    )
    tree = tree_of(around, around)
    assert [call.name for _depth, call in tree.walk()] == ["a request", "start", "a", "b"]
    assert tree.new == 210


_COSTS = st.integers(0, 10**6)
_NAMES = st.sampled_from(["start", "a", "b", "c", "0x10", "0x20", "memset"])


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    own = draw(st.dictionaries(_NAMES, _COSTS, min_size=1))
    return profile(own, draw(st.dictionaries(st.tuples(_NAMES, _NAMES), _COSTS)))


@given(profiles(), profiles())
def test_nothing_is_wider_than_what_called_it(old: Profile, new: Profile) -> None:
    tree = tree_of(old, new)
    assert tree.old == pytest.approx(old.total)
    for _depth, call in tree.walk():
        assert sum(below.old for below in call.calls) <= call.old * (1 + 1e-9) + 1e-6
        assert sum(below.new for below in call.calls) <= call.new * (1 + 1e-9) + 1e-6
        assert call.own_old >= 0
        assert call.widest + 1e-6 >= max(call.old, call.new) * (1 - 1e-9)
    for shown in Shown:
        boxes = icicle(tree, NAMES, shown).boxes
        assert all(box.x >= 0 and box.x + box.width <= 100.01 for box in boxes)
        rows: dict[int, float] = {}
        for box in sorted(boxes, key=lambda box: (box.y, box.x)):
            assert box.x >= rows.get(box.y, 0.0) - 0.01, "boxes of a row lie beside one another"
            rows[box.y] = box.x + box.width


@given(profiles())
def test_the_same_on_both_sides_is_grey(same: Profile) -> None:
    boxes = icicle(tree_of(same, same), NAMES, Shown.DIFFERENCE).boxes
    assert {box.tone for box in boxes} <= {"equal"}


def graph(shown: Shown) -> Icicle:
    return icicle(tree_of(POP, POP_MEMSET), NAMES, shown)


def test_both_variants_have_one_scale() -> None:
    old, new = graph(Shown.OLD), graph(Shown.NEW)
    assert (old.boxes[0].width, new.boxes[0].width) == (50, 100)
    assert "memset" not in {box.label for box in old.boxes}
    assert old.caption == "OLD: 1,000 instructions a request"


def test_the_difference_has_a_colour_a_sign_and_numbers() -> None:
    difference = graph(Shown.DIFFERENCE)
    boxes = {box.label: box for box in difference.boxes}
    assert boxes["push"].tone == "equal"
    assert boxes["memset"].tone == "more-5"
    assert (
        boxes["memset"].title == "memset (qemu-system-x86_64): OLD 0, NEW 1,000, +1,000; 50.0% of a request"
    )
    assert difference.caption == "NEW against OLD: +1,000 instructions a request"
    assert "memset +1,000" in difference.summary
    less = icicle(tree_of(POP_MEMSET, POP), NAMES, Shown.DIFFERENCE)
    vanished = next(box for box in less.boxes if box.label == "memset")
    assert vanished.tone == "less-5"
    assert vanished.width == 50, "what is gone has a place"


def test_a_difference_that_is_nothing_beside_the_whole_stays_pale() -> None:
    slightly = profile({**{f.name: c for f, c in POP.own.items()}, "push": 505},
                       {("start", "pop"): 400, ("start", "push"): 505})  # fmt: skip
    tones = {box.label: box.tone for box in icicle(tree_of(POP, slightly), NAMES, Shown.DIFFERENCE).boxes}
    assert tones["push"] == "more-1"


def test_names_from_binaries_do_no_harm() -> None:
    bad = profile({"<script>alert(1)</script>": 1000}, {})
    cell = CellTree("cell", NAMES, tree_of(bad, bad))
    html = render_page(Page("t", "here", "said", [Section("calls", "Calls", call_graphs([cell]))]))
    assert "<script>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


def test_a_run_of_counts_has_a_tree_a_cell(tmp_path: Path) -> None:
    run = counted_run.make(tmp_path / "run", lambda planned: 400_000 + 7000 * planned.requests)
    counted = read_counted(run)
    found = list(explained(counted, compare_counted(counted)))
    assert [cell.label for cell in found] == [
        f"NEW against OLD, rw randread, bs 4k, iodepth {depth}" for depth in (1, 64)
    ]
    calls = named(found[0].tree)
    assert calls["memset"].new == pytest.approx(3500)
    assert calls["memset"].old == 0
