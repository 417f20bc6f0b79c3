"""Anybody's fio output as measurements: any version, the right numbers or a reason; never wrong ones."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fio_writer import report, text
from harness.core.fio_cells import Measurement, read_measurements
from harness.core.fio_document import FioOutputError

DATA = Path(__file__).parents[1] / "data" / "fio"
RECORDED = sorted(path.name for path in DATA.glob("*.json"))
VERSIONS = ["2.3", "2.14", "2.20", "2.21", "2.99", "3.0", "3.1", "3.2", "3.8", "3.33", "3.41"]


def load(name: str) -> str:
    return (DATA / name).read_text()


def one(output: str) -> Measurement:
    """Return the only measurement of an output that is read without any problem."""
    found, problems = read_measurements(output)
    assert problems == []
    assert len(found) == 1
    return found[0]


def reason(output: str) -> str:
    """Return why an output gives nothing."""
    try:
        found, problems = read_measurements(output)
    except FioOutputError as error:
        return error.message
    assert not found
    return "; ".join(problems)


def numbers(output: str) -> list[tuple[dict[str, Any], dict[str, float]]] | None:
    """Return all that is read of an output; None when it is refused."""
    try:
        found, _problems = read_measurements(output)
    except FioOutputError:
        return None
    return [(dict(part.setup.factors), dict(part.numbers)) for part in found]


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_gives_the_same_numbers(version: str, *, grouped: bool) -> None:
    found = one(
        text(version=version, iops=50_000, rw="randrw", bs="8k", iodepth=16, numjobs=4, grouped=grouped)
    )
    assert found.setup.factors == {
        "rw": "randrw", "bs": "8k", "iodepth": 16, "numjobs": 4, "ioengine": "libaio",
    }  # fmt: skip
    assert found.numbers["iops"] == pytest.approx(50_000, rel=1e-6)
    assert found.numbers["bw_bytes"] == pytest.approx(50_000 * 8192, rel=1e-3)
    assert found.numbers["clat_mean_ns"] == pytest.approx(0.95 * 16 * 4 / 50_000 * 1e9, rel=1e-6)


def test_a_report_without_a_version_is_read_when_it_agrees_with_itself() -> None:
    for version in VERSIONS:
        document = report(version=version, iops=2000)
        del document["fio version"]
        found, _problems = read_measurements(json.dumps(document))
        assert [part.numbers["iops"] for part in found] in ([], [2000.0])


def test_fio_before_2_3_does_not_say_what_it_was_asked() -> None:
    assert "does not tell rw, bs, iodepth, numjobs" in reason(text(version="2.2"))


FIELDS = [
    ("read", key) for key in ("iops", "bw", "bw_bytes", "io_bytes", "io_kbytes", "total_ios", "runtime")
] + [
    ("read", f"{kind}{suffix}", key)
    for kind in ("clat", "lat")
    for suffix in ("", "_ns")
    for key in ("mean", "*")
]


@given(
    version=st.sampled_from(["2.14", "2.21", "3.1", "3.33"]),
    field=st.sampled_from(FIELDS),
    factor=st.sampled_from([1e6, 1024, 1000, 8, 2, 0.5, 1e-3, 1 / 1024, 1e-6]),
    iops=st.floats(50, 1e5),
    iodepth=st.sampled_from([1, 8, 64]),
)
@settings(max_examples=200, deadline=None)
def test_a_wrong_unit_never_gives_a_wrong_number(
    version: str, field: tuple[str, ...], factor: float, iops: float, iodepth: int
) -> None:
    document = report(version=version, iops=iops, iodepth=iodepth)
    right = numbers(json.dumps(document))
    assert right
    scale(document["jobs"][0], field, factor)
    found = numbers(json.dumps(document))
    if found:
        for metric, value in found[0][1].items():
            # A latency that is eight times as long may be one; a thousand times is a unit.
            if "lat" not in metric or factor not in {8, 2, 0.5}:
                assert value == pytest.approx(right[0][1][metric], rel=0.002)


def scale(entry: dict[str, Any], field: tuple[str, ...], factor: float) -> None:
    *way, last = field
    section: Any = entry
    for step in way:
        section = section.get(step, {})
    for key in list(section) if last == "*" else [last] if last in section else []:
        if key == "percentile":
            section[key] = {name: value * factor for name, value in section[key].items()}
        elif key != "N":
            section[key] = section[key] * factor


@pytest.mark.parametrize("name", RECORDED)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_file_that_is_cut_off_gives_no_other_number(name: str, data: st.DataObject) -> None:
    whole = load(name)
    # Near the beginning of a document a cut is hardest to see.
    starts = [position for position in range(len(whole)) if whole.startswith("{\n  ", position)]
    near = st.sampled_from(starts).flatmap(lambda start: st.integers(max(0, start - 5), start + 30))
    keep = data.draw(st.one_of(st.integers(0, len(whole.rstrip()) - 1), near))
    found = numbers(whole[:keep])
    assert not found or found == numbers(whole)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return every place inside a document, as (container, key)."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, part in inside for found in [(value, key), *places(part)]]


STRANGE = st.one_of(
    st.none(), st.booleans(), st.text(max_size=5), st.floats(), st.integers(-(2**70), 2**70),
    st.sampled_from([[], {}, [[]], [{}], {"": []}, "9" * 5000, "-1", "4k-", "0", ":", ",", "All clients"]),
)  # fmt: skip


@pytest.mark.parametrize("name", ["group.json", "client-clones.json", "jobs-two.json"])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_value_in_any_place_is_read_or_refused(name: str, data: st.DataObject) -> None:
    document = json.loads(load(name))
    for _ in range(data.draw(st.integers(1, 3))):
        container, key = data.draw(st.sampled_from(places(document)))
        container[key] = data.draw(STRANGE)
    for output in (json.dumps(document), json.dumps(document) + load(name)):
        found = numbers(output) or []
        assert all(part[1]["iops"] > 0 for part in found)


@given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")))
def test_any_text_is_refused(output: str) -> None:
    assert numbers(output) is None


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("client-clones.json", "server mixes up the options of several jobs"),
        ("client-status-interval.json", "interim reports stand in one list with the last one"),
        ("group-mixed.json", "job_runtime says 2.0 jobs, but numjobs is 1"),
        ("verify.json", "rw is write, but there is read I/O too"),
        ("enospc.json", "error 28"),
        ("truncated.json", "cut off"),
    ],
)
def test_what_fio_really_printed_and_is_no_cell(name: str, why: str) -> None:
    assert why in reason(load(name))


def test_what_several_servers_did_at_the_same_time_adds_up() -> None:
    found = one(load("client-two.json"))
    servers = json.loads(load("client-two.json"))["client_stats"]
    assert servers[-1]["jobname"] == "All clients"
    assert found.numbers["iops"] == sum(server["read"]["iops"] for server in servers[:-1])
    assert found.numbers["iops"] == pytest.approx(servers[-1]["read"]["iops"], rel=0.01)
    assert found.setup.settings["servers"] == "127.0.0.1:18765, 127.0.0.1:18766"


def test_a_depth_that_fio_chose_itself_is_no_cell() -> None:
    assert "fio chose the I/O depth itself" in reason(text(options={"latency_target": "5000"}))


def test_block_sizes_are_what_fio_took_them_for() -> None:
    assert one(load("bssplit.json")).setup.factors["bs"] == "4k/50:16k/50"
    assert one(load("kib.json")).setup.factors["bs"] == "4000"
    assert one(text(bs="4k", options={"bs": "4096"})).setup.factors["bs"] == "4k"
    assert one(text(bs="4k", options={"bs": "4k,16k"})).setup.factors["bs"] == "4k", "it only reads"
    assert "4096 bytes a request, but the block size is 16k" in reason(text(bs="4k", options={"bs": "16k"}))


def test_a_block_size_that_is_not_given_is_fios_default_or_refused() -> None:
    for size, expected in (("4k", ["4k"]), ("8k", [])):
        document = report(bs=size)
        del document["jobs"][0]["job options"]["bs"]
        found, _problems = read_measurements(json.dumps(document))
        assert [part.setup.factors["bs"] for part in found] == expected


def test_global_options_stand_behind_the_jobs_own_in_any_place() -> None:
    found = one(text(iodepth=4, shared={"rw": "randread", "bs": "4k", "ioengine": "libaio", "direct": "1"}))
    assert (found.setup.factors["rw"], found.setup.factors["iodepth"], found.setup.settings["direct"]) == (
        "randread",
        4,
        "1",
    )


def test_runs_one_after_the_other_in_one_file_are_repeats_and_interim_reports_are_not() -> None:
    """With >> a file holds several runs; with --status-interval several reports of one."""
    runs = "".join(text(iops=iops, moment=1000 + 6 * n) for n, iops in enumerate((100, 101, 99)))
    assert [part.numbers["iops"] for part in read_measurements(runs)[0]] == [100, 101, 99]
    interim = "".join(
        text(iops=100, runtime_ms=ms, moment=1000 + ms // 1000, options={"runtime": "5"})
        for ms in (2000, 4000, 5000)
    )
    assert one(interim).numbers["iops"] == 100


def test_reports_of_which_nobody_knows_whether_they_are_one_run_are_refused() -> None:
    first, second = report(iops=100), report(iops=101)
    for document in (first, second):
        del document["timestamp"], document["timestamp_ms"]
    assert "may be one run's interim reports, or several runs" in reason(
        json.dumps(first) + json.dumps(second)
    )


def test_an_interim_report_is_no_result() -> None:
    document = report(runtime_ms=2000, options={"runtime": "5"})
    document["jobs"][0]["eta"] = 3
    assert "an interim one: fio had 3 s to go" in reason(json.dumps(document))
    cut = text(runtime_ms=2000, options={"runtime": "5", "time_based": "1"})
    assert "after 2 s of the 5 s asked for" in reason(cut)
    limited_by_size = text(runtime_ms=2000, options={"runtime": "5", "size": "1g"})
    assert one(limited_by_size).numbers


def test_jobs_that_ran_for_different_times_do_not_add_up() -> None:
    document = report(numjobs=2)
    document["jobs"][1] = report(runtime_ms=9000, numjobs=2)["jobs"][1]
    assert "its jobs ran for 5 s to 9 s" in reason(json.dumps(document))


def test_an_entry_that_is_missing_is_noticed() -> None:
    document = report(numjobs=4)
    del document["jobs"][2]
    assert "3 jobs are there, but numjobs is 4" in reason(json.dumps(document))


def test_failed_requests_are_not_counted_as_fast_ones() -> None:
    document = report()
    document["jobs"][0]["total_err"] = 12
    assert "12 requests failed" in reason(json.dumps(document))


def test_groups_that_ran_at_the_same_time_are_no_cells() -> None:
    document = report()
    other = copy.deepcopy(document["jobs"][0]) | {"groupid": 1, "job_start": 1001}
    document["jobs"] = [document["jobs"][0] | {"job_start": 1000}, other]
    assert "another group ran at the same time" in reason(json.dumps(document))
    document["jobs"][1]["job_start"] = 7000
    assert len(read_measurements(json.dumps(document))[0]) == 2


def test_no_jobs_are_no_result() -> None:
    assert reason('{"fio version": "fio-3.33", "jobs": []}') == "fio ran no job"


def test_numbers_that_fio_could_not_print_leave_the_others_alone() -> None:
    output = (
        text(iops=1000)
        .replace('"stddev" : 1.5', '"stddev" : -nan')
        .replace('"usr_cpu" : 1.5', '"usr_cpu" : inf')
    )
    assert one("fio: a warning\n" + output + "\nfio: bye\n").numbers["iops"] == 1000


def test_equal_keys_with_different_numbers_are_refused() -> None:
    doubled = text(iops=1000).replace('"iops" : 1000.0,', '"iops" : 1000.0, "iops" : 1001.0,', 1)
    assert "twice" in reason(doubled)
