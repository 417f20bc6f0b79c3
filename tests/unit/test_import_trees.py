"""Trees as other tools leave them: bench-fio's, kdevops', tp-qemu's; mixed, packed and hostile ones."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
from pathlib import Path
from typing import Any

import pytest
import zstandard

from fio_writer import report, text
from harness.adapters.results import fio_files, workers
from harness.adapters.results.imports import read_results, together
from harness.core.errors import InputError
from harness.shell.cli.main import run_cli
from harness.shell.comparing_two import compare_two
from harness.shell.judging import Judgement

DATA = Path(__file__).parents[1] / "data"

Captured = pytest.CaptureFixture[str]


def put(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def cells(path: Path) -> dict[tuple[Any, ...], list[float]]:
    """Return the IOPS of every cell of a tree: rw, bs, iodepth, numjobs."""
    samples = read_results(path, "OLD").samples
    return {
        key: group["iops"].tolist()
        for key, group in samples.groupby(["rw", "bs", "iodepth", "numjobs"], sort=False)
    }


def bench_fio(root: Path, iops: float, *, device: str = "vdb") -> None:
    """Write what bench-fio of fio-plot writes: logs beside the reports, mixed patterns a level deeper."""
    for bs in ("4k", "8k"):
        for depth in (1, 8):
            for jobs in (1, 2):
                common: dict[str, Any] = {"bs": bs, "iodepth": depth, "numjobs": jobs}
                asked = {"filename": f"/dev/{device}", "direct": "1", "size": "16M", "time_based": "1"}
                place = root / device / bs
                put(place / f"randread-{depth}-{jobs}.json", text(iops=iops * depth, options=asked, **common))
                put(place / f"randread-iodepth-{depth}-numjobs-{jobs}_lat.1.log", "1000, 220457, 0, 0, 0\n")
                mix = {"rwmixread": "75", **asked}
                put(
                    root / device / "randrw75" / bs / f"randrw-{depth}-{jobs}.json",
                    text(iops=iops * depth, rw="randrw", options=mix, **common),
                )


def test_a_tree_of_bench_fio(tmp_path: Path) -> None:
    bench_fio(tmp_path / "old", 1000)
    bench_fio(tmp_path / "new", 1100)
    comparison = compare_two(tmp_path / "old", tmp_path / "new", Judgement())
    frame = comparison.frames["NEW"]
    assert len(frame) == 16
    assert comparison.factors == ("numjobs",)
    assert list(frame["change"].round(6)) == [0.1] * 16
    assert not [warning for warning in comparison.warnings if "differ" in warning]
    assert len([warning for warning in comparison.warnings if "_lat.1.log" in warning]) == 16


@pytest.mark.parametrize("name", ["randread-1-2", "randread-8-1"])
def test_reports_that_bench_fio_really_wrote(name: str) -> None:
    """Its own reader and this one see the same: bench-fio 1.1.21 with fio 3.33, tests/data/bench-fio."""
    for side in ("old", "new"):
        path = DATA / "bench-fio" / side / "target.dat" / "4k" / f"{name}.json"
        document = json.loads(path.read_text())
        depth, jobs = (int(part) for part in name.split("-")[1:])
        assert cells(path) == {
            ("randread", "4k", depth, jobs): [sum(job["read"]["iops"] for job in document["jobs"])]
        }


def test_a_tree_of_kdevops(tmp_path: Path) -> None:
    """results_*.json beside results_*.txt and logs; with bsrange; and the baseline inside the results."""
    results = tmp_path / "results" / "host" / "fio-tests-results-host"
    shared = {"ioengine": "libaio", "direct": "1", "runtime": "5", "group_reporting": "1", "time_based": "1"}
    ranged = report(shared=shared, bs="8k", numjobs=2, grouped=True, iops=300)
    del ranged["jobs"][0]["job options"]["bs"]
    ranged["jobs"][0]["job options"]["bsrange"] = "4k-16k"
    put(results / "results_randread_bs4k-16k_iodepth8_jobs2.json", json.dumps(ranged))
    one = text(shared=shared, iodepth=1, numjobs=2, grouped=True, iops=200)
    put(results / "results_randread_bs4k_iodepth1_jobs2.json", one)
    put(results / "results_randread_bs4k_iodepth1_jobs2.txt", "cell: (g=0): rw=randread\n")
    assert cells(tmp_path) == {("randread", "4k-16k", 8, 2): [300.0], ("randread", "4k", 1, 2): [200.0]}
    baseline = results / "baseline"
    put(baseline / "results_randread_bs4k_iodepth1_jobs2.json", one)
    assert cells(results)["randread", "4k", 1, 2] == [200.0], "a copy is no repeat"
    with pytest.raises(InputError, match="holds the other side"):
        compare_two(baseline, results, Judgement())


def test_a_tree_of_tp_qemu(tmp_path: Path) -> None:
    """A directory a test, fio's output inside a log of the test, numjobs=16 with group_reporting."""
    for number, depth in enumerate((1, 8)):
        place = tmp_path / "test-results" / f"{number}-Host_RHEL.m9.fio_perf.raw_disk.virtio_blk"
        output = text(
            iodepth=depth, numjobs=16, grouped=True, iops=1000 * depth, options={"filename": "/dev/vdb"}
        )
        put(
            place / "debug.log",
            f"2026-01-01 12:00:00,001 INFO {{'rw': 'randread'}}\n{output}12:01:00 INFO PASS\n",
        )
        put(place / "fio_result.RHS", "### kvm_version : 6.12\nCategory:randread\n")
        put(place / "whiteboard", "")
    assert cells(tmp_path) == {("randread", "4k", 1, 16): [1000.0], ("randread", "4k", 8, 16): [8000.0]}


def test_files_of_one_cell_are_repeats_whatever_they_are_called(tmp_path: Path) -> None:
    for number, iops in enumerate((100, 104, 102)):
        put(tmp_path / f"run{number}" / "a.json", text(iops=iops, moment=1000 + number))
    found = read_results(tmp_path, "OLD")
    assert found.samples["iops"].tolist() == [100, 104, 102]
    assert found.samples["session"].tolist() == [0, 1, 2]
    (warning,) = found.warnings
    assert "several directories, taken for one build" in warning
    assert str(tmp_path / "run0") in warning


def test_a_copy_of_a_file_is_no_second_measurement(tmp_path: Path) -> None:
    put(tmp_path / "a.json", text())
    put(tmp_path / "b" / "a.json.gz", gzip.compress(text().encode()))
    found = read_results(tmp_path, "OLD")
    assert len(found.samples) == 1
    (warning,) = found.warnings
    assert (
        warning
        == f"skipped {tmp_path / 'b' / 'a.json.gz'}: it holds the same measurement as {tmp_path / 'a.json'}"
    )


@pytest.mark.parametrize(
    ("option", "one", "other"),
    [
        ("filename", "/dev/vda", "/dev/vdb"),
        ("rate_iops", "1000", "2000"),
        ("size", "1g", "2g"),
    ],
)
def test_a_cell_measured_in_two_ways_is_refused_and_both_files_are_named(
    tmp_path: Path, option: str, one: str, other: str
) -> None:
    put(tmp_path / "a.json", text(moment=1, options={option: one}))
    put(tmp_path / "b.json", text(moment=2, options={option: other}))
    with pytest.raises(InputError) as caught:
        read_results(tmp_path, "OLD")
    (problem,) = caught.value.problems
    assert problem.where == str(tmp_path / "b.json")
    assert problem.message.startswith(
        f"randread-4k-8-numjobs=1-ioengine=libaio was measured with {option} {other} here and {one} in "
    )
    assert str(tmp_path / "a.json") in problem.message
    accepted = read_results(tmp_path, "OLD", accept_differences=True)
    assert len(accepted.samples) == 2
    assert "which was accepted" in accepted.warnings[0]


def test_a_cell_measured_for_different_times_is_told(tmp_path: Path) -> None:
    put(tmp_path / "a.json", text(moment=1, iops=100))
    put(tmp_path / "b.json", text(moment=2, iops=102, runtime_ms=9000, version="3.1"))
    found = read_results(tmp_path, "OLD")
    assert found.samples["iops"].tolist() == [100, 102]
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    cell = "randread-4k-8-numjobs=1-ioengine=libaio was measured with"
    assert found.warnings == (
        f"{b}: {cell} runtime 9 here and 5 in {a}",
        f"{b}: {cell} fio version fio-3.1 here and fio-3.33 in {a}",
    )


def test_sizes_in_two_spellings_are_one(tmp_path: Path) -> None:
    put(tmp_path / "a.json", text(moment=1, options={"size": "1g", "direct": "1"}))
    put(tmp_path / "b.json", text(moment=2, options={"size": "1024m", "buffered": "0"}))
    assert len(read_results(tmp_path, "OLD").samples) == 2


def test_an_option_that_was_varied_is_a_column(tmp_path: Path) -> None:
    for side, gain in (("old", 1.0), ("new", 1.2)):
        for direct in ("0", "1"):
            iops = 1000 * gain * (1 + int(direct))
            put(
                tmp_path / side / f"{direct}.json",
                text(moment=int(direct), iops=iops, options={"direct": direct}),
            )
    comparison = compare_two(tmp_path / "old", tmp_path / "new", Judgement())
    assert comparison.factors == ("direct",)
    assert list(comparison.frames["NEW"]["direct"]) == [0, 1]
    assert list(comparison.frames["NEW"]["change"].round(6)) == [0.2, 0.2]


def test_a_side_that_did_not_vary_it_has_its_one_value(tmp_path: Path) -> None:
    put(tmp_path / "old" / "a.json", text(moment=1, options={"direct": "1"}))
    put(tmp_path / "old" / "b.json", text(moment=2))
    put(tmp_path / "new" / "a.json", text(moment=3, iops=1500, options={"direct": "1"}))
    both = together(read_results(tmp_path / "old", "OLD"), read_results(tmp_path / "new", "NEW"))
    assert both.samples[["variant", "direct", "iops"]].to_numpy().tolist() == [
        ["OLD", 1, 1000.0], ["OLD", 0, 1000.0], ["NEW", 1, 1500.0],
    ]  # fmt: skip


def test_sides_that_differ_in_more_than_the_build_are_named(tmp_path: Path) -> None:
    put(tmp_path / "old" / "a.json", text(moment=1, version="3.1", options={"filename": "/dev/vda"}))
    put(tmp_path / "new" / "b.json", text(moment=2, options={"filename": "/dev/vdb"}))
    warnings = compare_two(tmp_path / "old", tmp_path / "new", Judgement()).warnings
    old, new = tmp_path / "old" / "a.json", tmp_path / "new" / "b.json"
    for what in (
        "filename is /dev/vda in {old} and /dev/vdb",
        "fio version is fio-3.1 in {old} and fio-3.33",
    ):
        expected = f"OLD and NEW differ in more than the build: {what.format(old=old)} in {new}"
        assert expected in warnings


def test_one_measurement_on_both_sides_is_named(tmp_path: Path) -> None:
    for side in ("old", "new"):
        put(tmp_path / side / "a.json", text())
    warnings = compare_two(tmp_path / "old", tmp_path / "new", Judgement()).warnings
    assert any(warning.startswith("the same measurement is on both sides") for warning in warnings)


def test_a_run_directory_inside_a_tree_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "a.json", text())
    put(tmp_path / "runs" / "quick-1" / "run.json", "{}")
    with pytest.raises(InputError, match="quick-1: is a run directory of the harness inside"):
        read_results(tmp_path, "OLD")


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


@pytest.mark.parametrize("pack", [gzip.compress, zstd, lzma.compress, bz2.compress])
def test_packed_files_are_known_by_what_they_are(tmp_path: Path, pack: Any) -> None:
    packed = pack((text(iops=500) + " " * 5000).encode())
    assert cells(put(tmp_path / "whole" / "called.json", packed)) == {("randread", "4k", 8, 1): [500.0]}
    for cut in (1, len(packed) // 2, len(packed) - 8):
        with pytest.raises(InputError, match=r"cut\.json"):
            cells(put(tmp_path / "cut.json", packed[:-cut]))


def test_two_frames_of_zstandard_are_one_file(tmp_path: Path) -> None:
    whole = text(iops=500).encode()
    path = put(tmp_path / "a.zst", zstd(whole[:700]) + zstd(whole[700:]))
    assert cells(path) == {("randread", "4k", 8, 1): [500.0]}


@pytest.mark.parametrize("pack", [gzip.compress, zstd, lzma.compress, bz2.compress])
def test_a_small_archive_of_a_large_file_is_not_unpacked_to_its_end(
    tmp_path: Path, pack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fio_files, "MOST_BYTES", 2**20)
    path = put(tmp_path / "bomb.json", pack(b" " * 2**24))
    with pytest.raises(InputError, match="larger than any fio output"):
        cells(path)


def test_what_is_no_text_or_no_file_is_skipped_and_named(tmp_path: Path) -> None:
    put(tmp_path / "a.json", text())
    put(tmp_path / "disk.img", b"\0" * 4096)
    put(tmp_path / "latin.txt", b"\xff\xfe")
    put(tmp_path / ".git" / "config", "")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    found = read_results(tmp_path, "OLD")
    assert [Path(warning.split(": ")[0]).name for warning in found.warnings] == [
        "disk.img", "fifo", "gone", "latin.txt",
    ]  # fmt: skip


def test_many_files_are_read_by_several_processes_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(12):
        put(tmp_path / f"{number:02}.json", text(iops=1000 + number, moment=number) if number != 5 else "{")
    alone = read_results(tmp_path, "OLD")
    monkeypatch.setattr(workers, "WORTH_IT", 10)
    monkeypatch.setattr(workers, "_LEAST", 5)
    shared = read_results(tmp_path, "OLD")
    assert shared.samples.equals(alone.samples)
    assert shared.warnings == alone.warnings


def test_a_csv_is_known_by_its_first_line_and_stands_beside_a_tree(tmp_path: Path) -> None:
    old = put(tmp_path / "table.txt", "rw,bs,iodepth,iops\nrandread,4096,8,1000\n")
    put(tmp_path / "new" / "a.json", text(iops=1250))
    comparison = compare_two(old, tmp_path / "new", Judgement())
    assert list(comparison.frames["NEW"]["change"].round(6)) == [0.25]
    assert "only one side says what numjobs was" in comparison.warnings


def test_the_command_names_the_worst_first_and_the_rest_on_request(tmp_path: Path, capsys: Captured) -> None:
    for side in ("old", "new"):
        put(tmp_path / side / "z.json", text(moment=ord(side[0])))
        put(tmp_path / side / "cut.json", text()[:-20])
        for number in range(30):
            put(tmp_path / side / f"a{number}.log", "1000, 1, 0, 0\n")
    arguments = ["compare", str(tmp_path / "old"), str(tmp_path / "new")]
    assert run_cli([*arguments, "--format", "commit"]) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines()[1:] == ["randread      4k       8 1000 1000 +0.0%"]
    skipped = [line for line in shown.err.splitlines() if "skipped" in line]
    assert len(skipped) == 11
    assert all("cut.json: fio's JSON is damaged or cut off" in line for line in skipped[:2])
    assert skipped[-1].endswith("skipped 52 more files: --json lists them all")
    assert run_cli([*arguments, "--json"]) == 0
    everything = json.loads(capsys.readouterr().out)["warnings"]
    assert len([warning for warning in everything if warning.startswith("skipped")]) == 62


def test_a_mixed_tree_ends_the_command_with_2_and_its_remedy(tmp_path: Path, capsys: Captured) -> None:
    for name, device in (("old/a.json", "vda"), ("old/b.json", "vdb"), ("new/a.json", "vda")):
        put(tmp_path / name, text(moment=ord(name[4]), options={"filename": f"/dev/{device}"}))
    arguments = ["compare", str(tmp_path / "old"), str(tmp_path / "new")]
    assert run_cli(arguments) == 2
    assert "--accept-differences" in capsys.readouterr().err
    assert run_cli([*arguments, "--accept-differences"]) == 0
