"""What fio prints, as it really prints it (tests/data/fio: fio 3.33), and what must never become a number."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.errors import HarnessError
from harness.core.fio_output import FioOutputError, accept, metrics, parse_fio, why_rejected
from harness.core.model import Cell

DATA = Path(__file__).parents[1] / "data" / "fio"
CELL = Cell("randread", "4k", 8, ioengine="null")


def load(name: str) -> str:
    return (DATA / name).read_text()


def document(**read: object) -> str:
    section: dict[str, object] = {
        "iops": 1000.0,
        "bw_bytes": 4096000,
        "bw": 4000,
        "runtime": 5000,
        "total_ios": 5000,
    } | read
    options = {"rw": "randread", "bs": "4k", "iodepth": "8", "ioengine": "null"}
    job = {"jobname": "cell", "groupid": 0, "error": 0, "job options": options, "read": section}
    return json.dumps({"fio version": "fio-3.33", "timestamp": 1, "jobs": [job]})


def test_plain_json() -> None:
    result = parse_fio(load("json.json"))
    (job,) = result.jobs
    assert result.fio_version == "fio-3.33"
    assert (job.rw, job.bs, job.iodepth, job.numjobs, job.ioengine) == ("randread", "4k", 8, 1, "null")
    (read,) = job.directions
    assert (read.name, read.iops, read.bw_bytes) == ("read", 1369719.280719, 5610370173)
    assert (read.total_ios, read.runtime_ms) == (1371089, 1001)
    assert read.clat is not None
    assert (read.clat.mean_ns, read.clat.percentiles_ns[99.9]) == (433.735008, 812)
    values = metrics(result)
    assert values["iops"] == 1369719.280719
    assert values["clat_p99_ns"] == 572
    assert values["guest_cpu_ns_per_io"] == pytest.approx(0.998 * 1e9 / 1371089)


def test_json_plus_reads_the_same_keys() -> None:
    assert set(metrics(parse_fio(load("jsonplus.json")))) == set(metrics(parse_fio(load("json.json"))))


def test_a_note_before_the_json_is_no_obstacle() -> None:
    text = load("note.json")
    assert text.startswith("note: both iodepth")
    assert metrics(parse_fio(text))["iops"] == pytest.approx(25441.558442)


def test_of_several_documents_the_last_counts() -> None:
    (job,) = parse_fio(load("status-interval.json")).jobs
    assert job.directions[0].runtime_ms == 3001


def test_without_latencies_there_are_none_rather_than_zero() -> None:
    (job,) = parse_fio(load("gtod.json")).jobs
    assert job.directions[0].clat is None
    assert set(metrics(parse_fio(load("gtod.json")))) == {"iops", "bw_bytes", "guest_cpu_ns_per_io"}


def test_a_mixed_pattern_is_the_sum_of_its_directions() -> None:
    result = parse_fio(load("group.json"))
    (job,) = result.jobs
    assert (job.rw, job.numjobs, [d.name for d in job.directions]) == ("randrw", 2, ["read", "write"])
    assert metrics(result)["iops"] == sum(d.iops for d in job.directions)
    assert "clat_p99_ns" not in metrics(result), "two distributions have no common percentile"
    means = [d.clat.mean_ns for d in job.directions if d.clat]
    assert min(means) <= metrics(result)["clat_mean_ns"] <= max(means)


def test_clones_of_a_job_add_up() -> None:
    result = parse_fio(load("jobs-two.json"))
    assert len(result.jobs) == 2
    assert metrics(result)["iops"] == pytest.approx(
        sum(d.iops for job in result.jobs for d in job.directions)
    )


@pytest.mark.parametrize("name", ["two-cells.json", "global-section.json"])
def test_jobs_one_after_the_other_are_not_added_up(name: str) -> None:
    result = parse_fio(load(name))
    assert [(job.group, job.rw, job.bs, job.iodepth) for job in result.jobs] == [
        (0, "randread", "4k", 1),
        (1, "randread", "4k", 8),
    ]
    with pytest.raises(FioOutputError, match="several measurements"):
        metrics(result)


def test_global_options_stand_behind_the_jobs_own() -> None:
    assert parse_fio(load("global.json")).jobs[0].iodepth == 16


def test_client_mode_counts_every_server_once() -> None:
    text = json.loads(load("client.json"))
    text["client_stats"].append(text["client_stats"][0] | {"jobname": "All clients"})
    result = parse_fio(json.dumps(text))
    assert result.client
    assert [job.name for job in result.jobs] == ["cell"]
    assert result.jobs[0].numjobs == 1


def test_a_client_that_does_not_pass_on_the_global_section_leaves_no_default() -> None:
    text = json.loads(load("client.json"))
    del text["global options"]
    assert parse_fio(json.dumps(text)).jobs[0].numjobs is None


def test_a_full_disk_is_an_error_with_a_name() -> None:
    text = load("enospc.json")
    cell = Cell("randwrite", "4k", 1, ioengine="psync")
    reason = accept(parse_fio(text), exit_code=1, cell=cell, runtime=1)
    assert reason == "fio reports error 28 (ENOSPC), exit code 1"


@pytest.mark.parametrize("keep", [0.05, 0.3, 0.66, 0.99])
def test_a_half_written_file_is_an_error(keep: float) -> None:
    text = load("json.json").rstrip()
    with pytest.raises(FioOutputError, match="cut off"):
        parse_fio(text[: int(len(text) * keep)])


def test_a_whole_document_before_a_half_one_does_not_stand_in_for_it() -> None:
    text = load("json.json").rstrip()
    with pytest.raises(FioOutputError, match="cut off"):
        parse_fio(text + "\n" + text[:-20])


@pytest.mark.parametrize(
    "text", ["", "  \n", "fio: failed parsing rw=nosuch", "{}", "[]", '{"jobs": 3}', '{"a": {"b": 1}}']
)
def test_no_fio_json_is_an_error_of_the_family(text: str) -> None:
    with pytest.raises(HarnessError):
        parse_fio(text)
    with pytest.raises(ValueError, match="fio"):
        parse_fio(text)


def test_nesting_without_end_is_an_error() -> None:
    with pytest.raises(FioOutputError):
        parse_fio('{"jobs":' * 100_000)


@given(st.text())
def test_any_text_is_an_error_rather_than_a_crash(text: str) -> None:
    with pytest.raises(FioOutputError):
        parse_fio(text)


@given(st.data())
def test_a_damaged_file_never_gives_another_number(data: st.DataObject) -> None:
    """Cut a piece out of a real file: an error, the same numbers, or fewer of them."""
    text = load("json.json")
    whole = metrics(parse_fio(text))
    start = data.draw(st.integers(0, len(text) - 1))
    damaged = text[:start] + text[start + data.draw(st.integers(50, 2000)) :]
    try:
        values = metrics(parse_fio(damaged))
    except FioOutputError:
        return
    assert values.get("iops", whole["iops"]) == pytest.approx(whole["iops"], rel=0.03)
    assert values.get("bw_bytes", whole["bw_bytes"]) == pytest.approx(whole["bw_bytes"], rel=0.03)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("iops", "1000"), ("iops", True), ("iops", -1), ("iops", 1), ("iops", 1_000_000), ("iops", 1e400),
        ("total_ios", 5), ("runtime", None), ("runtime", []), ("bw_bytes", {}),
    ],
)  # fmt: skip
def test_wrong_types_and_units_are_errors(field: str, value: object) -> None:
    with pytest.raises(FioOutputError):
        parse_fio(document(**{field: value}))


def test_wrong_bandwidth_unit_is_an_error() -> None:
    with pytest.raises(FioOutputError, match="bw_bytes"):
        parse_fio(document(io_bytes=5000 * 4096, bw_bytes=4000))


def test_fio_2_has_kib_and_microseconds() -> None:
    section = {"io_bytes": 20000, "bw": 4000, "iops": 1000, "runtime": 5000, "total_ios": 5000}
    clat = {"min": 1, "max": 2, "mean": 12.5, "stddev": 1.0, "percentile": {"99.000000": 15, "0.00": 0}}
    text = json.dumps(
        {
            "fio version": "fio-2.2.10",
            "jobs": [{"jobname": "old", "groupid": 0, "error": 0, "read": section | {"clat": clat}}],
        }
    )
    result = parse_fio(text)
    assert result.jobs[0].rw is None, "without any options nothing can be said of them"
    assert metrics(result) == {
        "iops": 1000, "bw_bytes": 4096000, "clat_mean_ns": 12500, "clat_p99_ns": 15000,
    }  # fmt: skip


def test_unified_reporting_is_not_counted_twice() -> None:
    whole = json.loads(document())
    whole["jobs"][0]["mixed"] = whole["jobs"][0]["read"]
    assert metrics(parse_fio(json.dumps(whole)))["iops"] == 1000


def test_doubled_keys() -> None:
    same = document().replace('"iops": 1000.0', '"iops": 1000.0, "iops": 1000.0')
    assert metrics(parse_fio(same))["iops"] == 1000
    option = document().replace('"iodepth": "8"', '"iodepth": "4", "iodepth": "8"')
    assert parse_fio(option).jobs[0].iodepth == 8
    with pytest.raises(FioOutputError, match="twice"):
        parse_fio(document().replace('"iops": 1000.0', '"iops": 1001.0, "iops": 1000.0'))


def test_numbers_that_are_none() -> None:
    text = document(iops_stddev=0).replace('"iops_stddev": 0', '"iops_stddev" : -nan')
    assert metrics(parse_fio(text))["iops"] == 1000


def test_accepts_what_was_asked_for() -> None:
    assert accept(parse_fio(load("json.json")), exit_code=0, cell=CELL, runtime=1) is None
    assert accept(parse_fio(load("ramp.json")), exit_code=0, cell=CELL, runtime=1, ramp=1) is None
    pair = Cell("randrw", "4k", 4, numjobs=2, ioengine="null")
    assert accept(parse_fio(load("jobs-two.json")), exit_code=0, cell=pair, runtime=1) is None


@pytest.mark.parametrize(
    ("text", "exit_code", "cell", "runtime", "reason"),
    [
        (document(), 1, CELL, 5, "exit code 1"),
        (document(iops=0, total_ios=0), 0, CELL, 5, "no I/O"),
        (document(), 0, CELL, 30, "measured for 5.0 s, not for 30 s"),
        (document(), 0, CELL, 4, "as if the ramp time were in it"),
        (document(), 0, Cell("randread", "8k", 8, ioengine="null"), 5, "bs=4k, not bs=8k"),
        (document(), 0, Cell("randread", "4k", 4, ioengine="null"), 5, "iodepth=8"),
        (document(), 0, Cell("randwrite", "4k", 8, ioengine="null"), 5, "rw=randread"),
        (document(), 0, Cell("randread", "4k", 8), 5, "ioengine=null, not ioengine=libaio"),
        (document(), 0, Cell("randread", "4k", 8, numjobs=2, ioengine="null"), 5, "numjobs=1"),
        (load("two-cells.json"), 0, Cell("randread", "4k", 1, ioengine="null"), 1, "one after the other"),
        ('{"fio version": "fio-3.33", "jobs": []}', 0, CELL, 1, "no I/O"),
    ],
)
def test_says_why_an_iteration_does_not_count(
    text: str, exit_code: int, cell: Cell, runtime: float, reason: str
) -> None:
    found = accept(parse_fio(text), exit_code=exit_code, cell=cell, runtime=runtime, ramp=1)
    assert found is not None
    assert reason in found


def test_output_without_json_is_explained_by_what_fio_said() -> None:
    reason = why_rejected("", "fio: failed parsing rw=nosuch\n", exit_code=1, cell=CELL, runtime=1)
    assert reason == "fio ended with exit code 1: fio: failed parsing rw=nosuch"
    cut = why_rejected(load("truncated.json"), "", exit_code=0, cell=CELL, runtime=1)
    assert cut is not None
    assert "cut off" in cut
    assert why_rejected(load("json.json"), "", exit_code=0, cell=CELL, runtime=1) is None


def test_what_fio_said_is_quoted_though_its_json_reports_no_error() -> None:
    said = "fio: blocksize is larger than data set range\n"
    reason = why_rejected(document(), said, exit_code=1, cell=CELL, runtime=5)
    assert reason == "fio ended with exit code 1: fio: blocksize is larger than data set range"
    assert why_rejected(document(), "", exit_code=1, cell=CELL, runtime=5) == "fio ended with exit code 1"
    before = why_rejected("fio: no such job\n" + document(), "", exit_code=1, cell=CELL, runtime=5)
    assert before == "fio ended with exit code 1: fio: no such job"
    # A warning of a run that went well is no reason.
    warned = why_rejected(load("json.json"), "fio: a warning\n", exit_code=0, cell=CELL, runtime=1)
    assert warned is None


def test_an_error_in_the_json_is_quoted_with_fios_words() -> None:
    said = "fio: io_u error on file /dev/vda: No space left on device\n"
    cell = Cell("randwrite", "4k", 1, ioengine="null")
    reason = why_rejected(load("enospc.json"), said, exit_code=1, cell=cell, runtime=1)
    assert reason is not None
    assert reason.startswith("fio reports error 28 (ENOSPC), exit code 1: fio: io_u error")
