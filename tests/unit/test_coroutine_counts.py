"""Benchmarks of coroutines and estimates of cycles: what is read of both, and what tables say of them."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING

import counted_run
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.adapters.guestless.coroutine_load import run_timed
from harness.adapters.guestless.store import CountDirectory
from harness.core.counting.callgrind import parse_callgrind
from harness.core.counting.coroutines import iteration_points, nanoseconds_each
from harness.core.counting.records import TimeRecord
from harness.core.errors import HarnessError
from harness.core.model import CoroutineTest
from harness.shell.cli.main import run_cli
from modules import shared

if TYPE_CHECKING:
    from pathlib import Path

BENCHMARKS = """\
name: counted
workload: instructions
builds: {OLD: {git: /q, ref: v9}, NEW: {git: /q, ref: v10}}
baseline: OLD
matrix: {test: [lifecycle, nesting]}
instructions: {load: test-coroutine}
"""


@pytest.mark.parametrize(
    ("said", "each"),
    [
        ("# Lifecycle 200000 iterations: 0.184925 s", 924.625),
        ("# Yield 1000000 iterations: 0.497622 s", 497.622),
        ("# Nesting 20 iterations of 1000 depth each: 1.441463 s", 72073150),
        ("# Run operation 200000 iterations 0.195541 s, 1022K operations/s, 977ns per coroutine", 977.705),
        ("(MSG: Lifecycle 10 iterations: 0.000001 s)", 100),
        ("ok 1 /perf/cost", None),
        ("# Lifecycle 0 iterations: 0.000000 s", None),
    ],
)
def test_the_time_of_an_iteration_is_read_as_qemu_prints_it(said: str, each: float | None) -> None:
    assert nanoseconds_each(f"TAP version 13\n{said}\n1..1\n") == pytest.approx(each)


@given(st.sampled_from(list(CoroutineTest)), st.integers(1, 10**6))
def test_the_middle_count_is_in_the_middle(test: CoroutineTest, requests: int) -> None:
    few, middle, many = iteration_points(test, requests)
    assert 0 < few < middle < many
    assert middle - few == many - middle
    if test is not CoroutineTest.NESTING:
        assert many - few >= requests


def benchmarks(path: Path) -> Path:
    """A run that NEW's coroutines cost 10 % more, and took 20 % more time."""
    cost = {"OLD": 1000, "NEW": 1100}
    run = counted_run.make(path, lambda p: 400_000 + p.requests * cost[p.variant], BENCHMARKS)
    CountDirectory.open(run).save_times(
        TimeRecord(variant, cell.factors(), [nanoseconds, nanoseconds * 1.1, nanoseconds * 0.9])
        for cell in dict.fromkeys(count.cell for count in CountDirectory.open(run).plan.counts)
        for variant, nanoseconds in (("OLD", 500.0), ("NEW", 600.0))
    )
    return run


def test_a_table_of_benchmarks_has_their_names_and_times(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = benchmarks(tmp_path / "run")
    assert run_cli(["compare", str(run)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == [
        "TEST", "OLD", "NEW", "CHANGE", "RESOLUTION", "VERDICT", "OLD-NS", "NEW-NS", "NS-CHANGE", "NS-SPREAD"
    ]  # fmt: skip
    assert lines[3].split() == [
        "lifecycle", "1000", "1100", "+10.0%", "0.00%", "costlier", "500", "600", "+20.0%", "20.0%"
    ]  # fmt: skip
    assert "no time was measured" not in "\n".join(lines)
    assert run_cli(["compare", str(run), "--format", "commit"]) == 0
    assert capsys.readouterr().out == (
        "     TEST  OLD  NEW CHANGE\nlifecycle 1000 1100 +10.0%\n  nesting 1000 1100 +10.0%\n"
    )


def test_scripts_get_times_as_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = benchmarks(tmp_path / "run")
    assert run_cli(["compare", str(run), "--format", "csv"]) == 0
    first = next(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert (first["test"], first["baseline_time_ns"], first["time_spread"]) == ("lifecycle", "500.0", "0.2")
    assert run_cli(["compare", str(run), "--format", "json"]) == 0
    cell = json.loads(capsys.readouterr().out)["cells"][1]
    assert (cell["test"], cell["costs"]["contender"]["time_ns"]) == ("nesting", 600)
    assert cell["costs"]["contender"]["cycles"] is None
    assert "rw" not in cell
    assert run_cli(["report", str(run), "-o", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert 'data-column="time_ns_change"' in page


SIMULATED = """\
version: 1
thread: 3
events: Ir Dr Dw I1mr D1mr D1mw ILmr DLmr DLmw Bc Bcm Bi Bim
fl=(1) virtio.c
fn=(1) virtqueue_pop
10 1000 300 200 4 3 2 1 0 0 100 5 10 2
12 1000 100
cfn=(2) memset
calls=1 0
12 3300 0 3200 0 0 50 0 0 1
fn=(2)
14 3300 0 3200 0 0 50 0 0 1

totals: 5300 400 3400 4 3 52 1 0 1 100 5 10 2
"""


def test_cycles_are_instructions_and_misses_without_the_rounds_of_rep_stos() -> None:
    profile = parse_callgrind(SIMULATED)
    assert profile.total == 5300
    assert sum(profile.own.values()) == 5300
    misses = 10 * (4 + 3 + 2 + 50) + 10 * (5 + 2) + 100 * (1 + 1)
    assert profile.cycles() == 5300 + misses - 3200 + 3200 / 32


def test_cycles_without_a_simulation_are_instructions() -> None:
    text = counted_run.output(3, "OLD", 10_000)
    assert parse_callgrind(text).cycles() == 10_000


def test_a_table_with_cycles_says_what_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = counted_run.EXPERIMENT + "instructions: {cycles: yes}\n"
    run = counted_run.make(tmp_path / "run", lambda p: 400_000 + p.requests * 7000, text)
    assert run_cli(["compare", str(run)]) == 0
    out = capsys.readouterr().out
    assert "OLD-CYCLES NEW-CYCLES CYCLES-CHANGE" in out
    assert "an estimate" in out


# -- builds --------------------------------------------------------------------------------------------------

SOURCE = """\
#include "qemu/osdep.h"

static void perf_lifecycle(void)
{
    unsigned int i, max;
    max = 1000000;
}

static void perf_nesting(void)
{
    maxcycles = 10000;
    maxnesting = 1000;
}

static void test_lifecycle(void)
{
    max = 5;
}

static void perf_cost(void)
{
    const unsigned long maxcycles = 40000000;
}
"""


class RefusedError(Exception):
    """What a module ends with."""


def refuse(message: str) -> None:
    raise RefusedError(message)


def test_benchmarks_take_their_iterations_from_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "tests" / "unit" / "test-coroutine.c"
    file.parent.mkdir(parents=True)
    file.write_text(SOURCE)
    shared("qemu_source_tree").vary_iterations(tmp_path, refuse)
    changed = file.read_text()
    assert "    max = harness_iterations(1000000);" in changed
    assert "    maxcycles = harness_iterations(10000);" in changed
    assert "    maxnesting = 1000;" in changed, "what an iteration does stays as it is"
    assert "    max = 5;" in changed, "tests that are no benchmarks too"
    assert "const unsigned long maxcycles = harness_iterations(40000000);" in changed
    assert changed.index('#include "qemu/osdep.h"') < changed.index(
        "static unsigned long harness_iterations("
    )


@pytest.mark.parametrize("text", ["", "int main(void) { return 0; }\n", SOURCE.replace("perf_", "bench_")])
def test_a_version_with_other_benchmarks_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "tests" / "unit" / "test-coroutine.c"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    with pytest.raises(RefusedError, match="cannot be counted"):
        shared("qemu_source_tree").vary_iterations(tmp_path, refuse)
    assert file.read_text() == text


def stand_in(tmp_path: Path, script: str) -> str:
    program = tmp_path / "test-coroutine"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return str(tmp_path / "qemu-system-x86_64")


def test_a_benchmark_is_asked_for_by_name_and_iterations(tmp_path: Path) -> None:
    emulator = stand_in(tmp_path, 'echo "# $4 $((10 + ${HARNESS_ITERATIONS#00000000000})) iterations: 0.3 s"')
    assert run_timed(CoroutineTest.YIELD, 5, emulator, timeout=30) == pytest.approx(0.3e9 / 15)


@pytest.mark.parametrize(
    ("script", "said"), [("exit 3", "exit"), ("echo '# no time'", "did not say how long it took: # no time")]
)
def test_a_benchmark_that_fails_says_so(tmp_path: Path, script: str, said: str) -> None:
    with pytest.raises(HarnessError, match=said):
        run_timed(CoroutineTest.COST, 5, stand_in(tmp_path, script), timeout=30)


def test_a_build_without_the_test_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="test-coroutine is not there"):
        run_timed(CoroutineTest.COST, 5, str(tmp_path / "qemu-system-x86_64"), timeout=30)
