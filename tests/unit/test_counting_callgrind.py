"""callgrind's files: totals, functions, callers; and what is no such file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.counting.callgrind import (
    CallgrindFormatError,
    Function,
    parse_callgrind,
    parse_total,
)

# What callgrind 3.19 wrote for a small program, shortened; cost lines as --dump-line=no has them.
WRITTEN = """\
# callgrind format
version: 1
creator: callgrind-3.19.0
pid: 11521
cmd:  /opt/qemu -name counted: 1
part: 1
thread: 3


desc: I1 cache:
desc: Timerange: Basic block 0 - 123552739
desc: Trigger: Program termination

positions: line
events: Ir
summary: 999


ob=(28) /usr/lib/libglib-2.0.so.0.7400.6
fl=(235) ???
fn=(1662) 0x000000000007ed40
0 6
cfn=(1664) g_malloc0
calls=1 0
0 363
0 4

ob=(3) /opt/qemu
fl=(1) virtio.c
fn=(2) virtqueue_pop
10 100
fi=(7) bswap.h
0 20
fe=(1)
12 30
cob=(9) /usr/lib/libc.so.6
cfi=(8) memset.S
cfn=(5) memset
calls=2 0
0 5000
* 7

ob=(9)
fl=(8)
fn=(5)
0 5000

totals: 5167
"""


def test_functions_and_what_they_called() -> None:
    profile = parse_callgrind(WRITTEN)
    assert (profile.thread, profile.total) == (3, 5167)
    pop = Function("virtqueue_pop", "virtio.c", "/opt/qemu")
    memset = Function("memset", "memset.S", "/usr/lib/libc.so.6")
    nameless = Function("0x000000000007ed40", "???", "/usr/lib/libglib-2.0.so.0.7400.6")
    assert profile.own == {nameless: 10, pop: 157, memset: 5000}
    assert sum(profile.own.values()) == profile.total
    assert profile.calls[pop, memset] == 5000
    assert profile.calls[nameless, Function("g_malloc0", "???", nameless.object)] == 363
    assert profile.inclusive()[pop] == 5157
    assert profile.lines == {"???": 10, "virtio.c": 137, "bswap.h": 20, "memset.S": 5000}
    assert pop.has_symbol
    assert not nameless.has_symbol


def test_the_total_is_the_last_line_not_the_summary() -> None:
    assert parse_total(WRITTEN) == 5167


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no output of callgrind"),
        (WRITTEN.replace("totals: 5167\n", ""), "did not finish"),
        (WRITTEN.replace("totals: 5167", "totals: many"), "no number"),
        (WRITTEN.replace("events: Ir", "events: Dr"), "counts instructions"),
        (WRITTEN.replace("fn=(5)\n", "fn=(77)\n"), "line "),
        ("<html>\n", "line 1"),
    ],
)
def test_what_is_no_whole_output_is_refused(text: str, why: str) -> None:
    with pytest.raises(CallgrindFormatError, match=why):
        parse_callgrind(text)


@given(st.text(max_size=200))
def test_any_other_text_is_an_error_not_a_surprise(text: str) -> None:
    with pytest.raises(CallgrindFormatError):
        parse_callgrind(text)


NAMES = st.from_regex(r"[a-z_]{1,8}('[23])?", fullmatch=True)


@given(st.lists(st.tuples(NAMES, st.integers(0, 10**12)), min_size=1, max_size=20))
def test_costs_of_one_function_in_several_places_add_up(costs: list[tuple[str, int]]) -> None:
    numbers: dict[str, int] = {}
    lines = ["events: Ir", "ob=(1) /bin/x"]
    for name, cost in costs:
        known = name in numbers
        number = numbers.setdefault(name, len(numbers) + 1)
        lines += [f"fn=({number})" if known else f"fn=({number}) {name}", f"0 {cost}"]
    total = sum(cost for _name, cost in costs)
    profile = parse_callgrind("\n".join([*lines, f"totals: {total}"]))
    expected: dict[str, int] = {}
    for name, cost in costs:
        expected[name] = expected.get(name, 0) + cost
    assert {function.name: cost for function, cost in profile.own.items()} == expected
    assert profile.total == total
