"""Results by anybody: what is read, what is skipped and named, what is refused."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pytest

from harness.adapters.results.imports import cells_as_found, read_results, together
from harness.core.errors import InputError

FIO = Path(__file__).parents[1] / "data" / "fio"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_csv(tmp_path: Path) -> None:
    text = "rw,bs,iodepth,aio,iops\nrandread, 4096 ,8,native,100.5\nrandread,4k,8,io_uring,200\n\n"
    found = read_results(write(tmp_path / "a.csv", text + "randread,4k,8,native,101\n"), "OLD")
    assert found.factors == ("aio",)
    assert cells_as_found(found) == [("randread", "4k", 8, "native"), ("randread", "4k", 8, "io_uring")]
    assert found.samples["iops"].tolist() == [100.5, 200, 101]
    assert found.samples["session"].tolist() == [0, 0, 1], "rows of one cell are repeats"
    assert found.samples["block"].isna().all()


def test_csv_with_a_byte_order_mark_and_compressed(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbfrw,bs,iodepth,iops\r\nrandread,4k,8,100\r\n"))
    assert read_results(path, "OLD").samples["iops"].tolist() == [100]


def test_columns_that_count_repeats_are_no_factors(tmp_path: Path) -> None:
    text = "rw,bs,iodepth,iteration,clat_p99_ns,iops\nrandread,4k,8,1,5,100\nrandread,4k,8,2,6,101\n"
    found = read_results(write(tmp_path / "a.csv", text), "OLD")
    assert found.factors == ()
    assert found.samples["session"].tolist() == [0, 1]
    assert found.samples["clat_p99_ns"].tolist() == [5, 6]


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("", "line 1", "rw is missing"),
        ("rw,bs,iops\n", "line 1", "iodepth is missing"),
        ("rw,bs,iodepth,iops\n", "a.csv", "no rows"),
        ("rw,bs,iodepth,iops,iops\nr,4k,1,1,1\n", "line 1", "twice"),
        ("rw,bs,iodepth,iops,\nr,4k,1,1,1\n", "line 1", "no name"),
        ("rw,bs,iodepth,iops,variant\nr,4k,1,1,x\n", "line 1", "variant"),
        ("rw,bs,iodepth,iops\nr,4k,1\n", "line 2", "3 fields"),
        ("rw,bs,iodepth,iops\nr,4k,1,2\nr,4k,2,fast\n", "line 3, column iops", "'fast' is not a number"),
        ("rw,bs,iodepth,iops\nr,4k,1,0\n", "line 2, column iops", "above 0"),
        ("rw,bs,iodepth,iops\nr,4k,1,nan\n", "line 2, column iops", "above 0"),
        ("rw,bs,iodepth,iops\nr,4q,1,5\n", "line 2, column bs", "not a size"),
        ("rw,bs,iodepth,iops\nr,4k,deep,5\n", "line 2, column iodepth", "whole number"),
        ("rw,bs,iodepth,iops\nr,,1,5\n", "line 2, column bs", "empty"),
    ],
)
def test_a_bad_csv_names_file_line_and_column(tmp_path: Path, text: str, where: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_results(write(tmp_path / "a.csv", text), "OLD")
    problem = caught.value.problems[0]
    assert "a.csv" in problem.where
    assert where in problem.where
    assert message in problem.message
    assert problem.remedy


def test_every_bad_line_is_named(tmp_path: Path) -> None:
    text = "rw,bs,iodepth,iops\nr,4k,1,a\nr,4k,2,b\n"
    with pytest.raises(InputError) as caught:
        read_results(write(tmp_path / "a.csv", text), "OLD")
    assert len(caught.value.problems) == 2


def test_binary_is_no_csv(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(InputError, match="cannot be read"):
        read_results(path, "OLD")


def test_a_tree_of_fio_json(tmp_path: Path) -> None:
    for name in ("json.json", "jsonplus.json", "two-cells.json", "jobs-two.json", "group.json"):
        (tmp_path / "deep").mkdir(exist_ok=True)
        shutil.copy(FIO / name, tmp_path / "deep" / name)
    (tmp_path / "packed.json.gz").write_bytes(gzip.compress((FIO / "global.json").read_bytes()))
    write(tmp_path / "README", "not fio's")
    shutil.copy(FIO / "truncated.json", tmp_path / "cut.json")
    shutil.copy(FIO / "enospc.json", tmp_path / "full.json")
    found = read_results(tmp_path, "OLD")
    assert found.factors == ("numjobs",)
    keys = found.samples.groupby(["rw", "bs", "iodepth", "numjobs"]).size().to_dict()
    assert keys == {
        ("randread", "4k", 1, 1): 1,
        ("randread", "4k", 8, 1): 3,
        ("randread", "4k", 16, 1): 1,
        ("randrw", "4k", 4, 2): 2,
    }
    assert [warning.split(":")[0] for warning in found.warnings] == [
        f"skipped {tmp_path / name}" for name in ("README", "cut.json", "full.json")
    ]
    assert "cut off" in found.warnings[1]
    assert "error 28" in found.warnings[2]


def test_a_single_file(tmp_path: Path) -> None:
    shutil.copy(FIO / "note.json", tmp_path / "result.txt")
    assert read_results(tmp_path / "result.txt", "OLD").samples["iops"].tolist() == [25441.558442]


def test_client_mode(tmp_path: Path) -> None:
    shutil.copy(FIO / "client.json", tmp_path / "client.json")
    assert read_results(tmp_path, "OLD").samples["numjobs"].tolist() == [1]


def test_different_jobs_at_the_same_time_are_no_cell(tmp_path: Path) -> None:
    text = (FIO / "two-cells.json").read_text().replace('"groupid" : 1', '"groupid" : 0')
    write(tmp_path / "mixed.json", text)
    with pytest.raises(InputError, match="at the same time"):
        read_results(tmp_path, "OLD")


def test_nothing_usable_is_an_error_that_says_why(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no fio JSON"):
        read_results(tmp_path, "OLD")
    shutil.copy(FIO / "truncated.json", tmp_path / "cut.json")
    with pytest.raises(InputError, match=r"cut\.json.*cut off"):
        read_results(tmp_path, "OLD")
    with pytest.raises(InputError, match="does not exist"):
        read_results(tmp_path / "nowhere", "OLD")


def test_a_run_directory_is_not_read_as_a_heap_of_json(tmp_path: Path) -> None:
    write(tmp_path / "run.json", "{}")
    with pytest.raises(InputError, match="run directory"):
        read_results(tmp_path, "OLD")


def test_a_damaged_archive_is_skipped_and_named(tmp_path: Path) -> None:
    shutil.copy(FIO / "json.json", tmp_path / "a.json")
    packed = gzip.compress((FIO / "json.json").read_bytes())
    (tmp_path / "b.json.gz").write_bytes(packed[:-20])
    found = read_results(tmp_path, "OLD")
    assert len(found.samples) == 1
    assert found.warnings[0].startswith(f"skipped {tmp_path / 'b.json.gz'}: ")


def test_both_sides_need_the_same_factors(tmp_path: Path) -> None:
    old = read_results(write(tmp_path / "o.csv", "rw,bs,iodepth,aio,iops\nr,4k,1,native,1\n"), "OLD")
    new = read_results(write(tmp_path / "n.csv", "rw,bs,iodepth,iops\nr,4k,1,1\n"), "NEW")
    assert together(old, new).factors == ()
    assert together(old, new).warnings == ("only one side says what aio was",)
    two = read_results(
        write(tmp_path / "t.csv", "rw,bs,iodepth,aio,iops\nr,4k,1,native,1\nr,4k,1,threads,1\n"), "OLD"
    )
    with pytest.raises(InputError, match="only one side has the factor aio"):
        together(two, new)


def test_a_factor_that_differs_between_the_sides_is_a_column(tmp_path: Path) -> None:
    old = read_results(write(tmp_path / "o.csv", "rw,bs,iodepth,aio,iops\nr,4k,1,native,1\n"), "OLD")
    new = read_results(write(tmp_path / "n.csv", "rw,bs,iodepth,aio,iops\nr,4k,1,io_uring,1\n"), "NEW")
    assert together(old, new).factors == ("aio",)
