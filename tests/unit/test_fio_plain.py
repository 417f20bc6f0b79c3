"""The fast way and the careful way to read a report: they never say different things."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fio_writer import report, text
from harness.core.fio_cells import Measurement, read_measurements
from harness.core.fio_document import FioOutputError
from harness.core.fio_plain import PlainReports
from harness.core.fio_table import FioTable, join, table_of

DATA = Path(__file__).parents[1] / "data" / "fio"
RECORDED = sorted(path.name for path in DATA.glob("*.json"))


def plain(*outputs: str) -> FioTable:
    """Return what is plain of some outputs."""
    reports = PlainReports()
    for number, output in enumerate(outputs):
        reports.take(number, output.encode())
    table, refused = reports.finish()
    assert not set(refused) & set(table.file.tolist())
    return table


def carefully(output: str) -> tuple[list[Measurement], list[str]]:
    try:
        return read_measurements(output)
    except FioOutputError as error:
        return [], [error.message]


def assert_never_different(output: str) -> bool:
    """Hold both ways against one another; return whether the output is plain."""
    table = plain(output)
    found, problems = carefully(output)
    if not len(table):
        return False
    assert problems == []
    (one,) = found
    assert table.setups[table.setup[0]] == one.setup
    assert {name: float(values[0]) for name, values in table.numbers.items()} == one.numbers
    assert int(table.identity[0]) == one.identity
    return True


def assert_the_same_behind(first: str, output: str) -> None:
    """Hold what is read of an output against what is read of it once the shape of another one is known."""
    alone, behind = plain(output), plain(first, output)
    (rows,) = np.nonzero(behind.file == 1)
    second = behind.take(rows)
    # Where the first cannot be used, the careful way may read all with its options.
    assert len(second) <= len(alone)
    if len(second):
        assert second.setups[second.setup[0]] == alone.setups[alone.setup[0]]
        assert numbers_in(second) == numbers_in(alone)
        assert second.identity.tolist() == alone.identity.tolist()


def numbers_in(table: FioTable) -> dict[str, list[float]]:
    """Return what a table of one row says; a column of NaN alone says nothing."""
    return {name: values.tolist() for name, values in table.numbers.items() if not np.isnan(values).all()}


@pytest.mark.parametrize("name", RECORDED)
def test_what_fio_really_printed_reads_the_same(name: str) -> None:
    assert_never_different((DATA / name).read_text())


@pytest.mark.parametrize("version", ["3.2", "3.8", "3.33", "3.41"])
@pytest.mark.parametrize("rw", ["randread", "write", "trim"])
def test_an_everyday_report_is_plain(version: str, rw: str) -> None:
    output = text(version=version, rw=rw, iops=12_345, iodepth=16, options={"direct": "1"})
    # job_runtime came with 3.8: without it the time of the processor cannot be told.
    assert assert_never_different(output) == (version != "3.2")


def test_recorded_reports_of_one_job_are_plain() -> None:
    assert any(assert_never_different((DATA / name).read_text()) for name in RECORDED)


def leaves(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [found for key, inner in value.items() for found in leaves(inner, (*path, key))]
    if isinstance(value, list):
        return [found for key, inner in enumerate(value) for found in leaves(inner, (*path, key))]
    return [path]


DOCUMENT = report(iops=12_345, iodepth=16, options={"direct": "1", "size": "1g", "time_based": "1"})
STRANGE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 2**66),
    st.floats(),
    st.sampled_from([0, 0.0, "", "5", "randread", "latency", [], {}, {"0.00": 0}]),
)


@given(st.data())
def test_whatever_is_changed_both_ways_agree(data: st.DataObject) -> None:
    document = copy.deepcopy(DOCUMENT)
    for path in data.draw(st.lists(st.sampled_from(leaves(document)), max_size=3)):
        *outer, key = path
        section: Any = document
        for name in outer:
            section = section[name]
        if isinstance(section, dict):
            change = data.draw(st.sampled_from(["remove", "replace", "scale"]))
            if change == "remove":
                section.pop(key, None)
            elif change == "replace" or not isinstance(section.get(key), int | float):
                section[key] = data.draw(STRANGE)
            else:
                section[key] *= data.draw(st.sampled_from([0.5, 0.98, 0.999, 1.0005, 1.02, 2, 1000, 1024]))
    output = json.dumps(document, indent=1)
    assert_never_different(output)
    assert_the_same_behind(json.dumps(DOCUMENT, indent=1), output)
    assert_the_same_behind(output, json.dumps(DOCUMENT, indent=1))


def test_reports_of_many_shapes_give_what_they_give_alone() -> None:
    outputs = []
    for number in range(60):
        document = report(
            iops=1000 + number, moment=number + 1, rw=("randread", "randwrite", "write")[number % 3]
        )
        direction = ("read", "write", "write")[number % 3]
        for kind in ("clat_ns", "lat_ns"):
            latency = document["jobs"][0][direction][kind]
            if percentile := latency.get("percentile"):
                # As with other lists of percentiles, and with none.
                kept = list(percentile)[: number % 7]
                latency["percentile"] = {key: percentile[key] for key in kept}
        outputs.append(json.dumps(document))
    table = plain(*outputs)
    assert table.file.tolist() == list(range(60))
    shapes = {tuple(sorted(numbers_in(table.take(np.array([row]))))) for row in range(60)}
    assert len(shapes) > 1
    for row, output in enumerate(outputs):
        assert assert_never_different(output)
        assert numbers_in(table.take(np.array([row]))) == numbers_in(plain(output))


def test_many_give_the_rows_they_give_alone() -> None:
    outputs = [text(iops=1000 + number, iodepth=1 + number % 3, moment=number + 1) for number in range(50)]
    table = plain(*outputs)
    expected = table_of(
        [(number, carefully(output)[0]) for number, output in enumerate(outputs)], problems=[]
    )
    assert table.setups == expected.setups
    assert table.file.tolist() == list(range(50))
    assert table.numbers.keys() == expected.numbers.keys()
    for name, values in table.numbers.items():
        assert np.array_equal(values, expected.numbers[name], equal_nan=True)
    assert np.array_equal(table.identity, expected.identity)


def test_parts_are_joined_in_the_order_of_their_files() -> None:
    outputs = [text(iops=1000 + number, moment=number + 1) for number in range(6)]
    odd = table_of([(number, carefully(outputs[number])[0]) for number in (1, 3, 5)], [(3, "odd")])
    reports = PlainReports()
    for number in (0, 2, 4):
        assert reports.take(number, outputs[number].encode())
    together = join([(0, reports.finish()[0]), (0, odd)])
    assert together.file.tolist() == list(range(6))
    assert together.numbers["iops"].tolist() == [1000.0 + number for number in range(6)]
    assert len(together.setups) == 1
    assert together.problems == ((3, "odd"),)
    after = join([(0, together), (6, together)])
    assert after.file.tolist() == list(range(12))
    assert after.problems == ((3, "odd"), (9, "odd"))


def with_percentiles(number: int, keys: list[str]) -> str:
    document = report(iops=1000 + number, moment=number + 1)
    latency = document["jobs"][0]["read"]["clat_ns"]
    latency["percentile"] = dict.fromkeys(keys, round(latency["mean"]))
    return json.dumps(document)


def test_shapes_without_end_are_left_to_the_careful_way() -> None:
    endless = with_percentiles(0, [f"{number / 100:f}" for number in range(1000)])
    assert len(carefully(endless)[0]) == 1
    assert not assert_never_different(endless)
    others = [with_percentiles(number, [f"{number}.5"]) for number in range(80)]
    table = plain(*others)
    assert 0 < len(table) < len(others)
    assert len(carefully(others[-1])[0]) == 1


def test_the_order_of_keys_means_nothing() -> None:
    """`jq -S` sorts them as texts: 10 comes before 2."""
    sorted_again = json.dumps(DOCUMENT, sort_keys=True)
    (one,), problems = carefully(sorted_again)
    (other,), _problems = carefully(json.dumps(DOCUMENT))
    assert problems == []
    assert (one.numbers, one.identity) == (other.numbers, other.identity)
    assert assert_never_different(sorted_again)
