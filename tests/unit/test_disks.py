"""The disk behind the guest's: checked before the run, made filled, and used again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.adapters import disks, process
from harness.adapters.disks import check_disks, prepare_disks
from harness.core.errors import HarnessError, InputError
from harness.core.experiment import Experiment, load_experiment

HEAD = "name: t\nbuilds: {OLD: {path: /old}, NEW: {path: /new}}\nbaseline: OLD\n"
MIB = 2**20


def experiment(disk: str, matrix: str = "{}") -> Experiment:
    return load_experiment(f"{HEAD}disk: {disk}\nmatrix: {matrix}\n", "t.yml")


@pytest.mark.parametrize(
    ("disk", "words"),
    [
        ("{backend: file, path: DIR/absent}", "DIR/absent: No such file or directory"),
        ("{backend: block, path: DIR/absent}", "DIR/absent: No such file or directory"),
        ("{backend: block, path: DIR/image}", "DIR/image is not a block device"),
        ("{backend: block, path: /dev/null}", "/dev/null is not a block device"),
        ("{backend: file, path: DIR}", "DIR is not a regular file"),
        ("{backend: file, path: DIR/image/below}", "Not a directory"),
    ],
)
def test_what_is_not_there_or_not_what_it_should_be_is_named(disk: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "image").touch()
    with pytest.raises(InputError) as caught:
        check_disks(experiment(disk.replace("DIR", str(tmp_path))), "t.yml")
    (problem,) = caught.value.problems
    assert problem.where == "t.yml: disk.path"
    assert words.replace("DIR", str(tmp_path)) in problem.message
    assert problem.remedy


def test_a_problem_of_every_guest_is_one_problem(tmp_path: Path) -> None:
    disk = f"{{backend: file, path: {tmp_path}/absent}}"
    with pytest.raises(InputError) as caught:
        check_disks(experiment(disk, "{queues: [1, 2]}"), "t.yml")
    assert len(caught.value.problems) == 1


def test_a_named_image_is_used_as_it_is(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"mine")
    declared = experiment(f"{{backend: file, path: {image}}}")
    check_disks(declared, "t.yml")
    assert prepare_disks(declared, tmp_path / "disks") == {(): image}
    assert image.read_bytes() == b"mine"
    assert not (tmp_path / "disks").exists()


def test_null_co_needs_no_file(tmp_path: Path) -> None:
    declared = experiment("{backend: null-co}")
    check_disks(declared, "t.yml")
    assert prepare_disks(declared, tmp_path / "disks") == {(): None}
    assert list(tmp_path.iterdir()) == []


def test_an_image_is_made_without_holes_and_used_again(tmp_path: Path) -> None:
    declared = experiment("{backend: file, size: 9MiB}", "{queues: [1, 2]}")
    made = prepare_disks(declared, tmp_path)
    assert set(made) == {(("queues", 1),), (("queues", 2),)}
    (image,) = set(made.values())
    assert image == tmp_path / "9m.raw"
    status = image.stat()
    assert status.st_size == 9 * MIB
    assert status.st_blocks * 512 >= 9 * MIB
    # Not of one repeated pattern either, which a device may compress away.
    data = image.read_bytes()
    assert len({data[offset : offset + 4096] for offset in range(0, 9 * MIB, 4096)}) == 9 * MIB // 4096
    prepare_disks(declared, tmp_path)
    assert (image.stat().st_ino, image.stat().st_mtime_ns) == (status.st_ino, status.st_mtime_ns)
    assert list(tmp_path.iterdir()) == [image]


def test_an_image_of_another_size_is_another_image(tmp_path: Path) -> None:
    made = [prepare_disks(experiment(f"{{backend: file, size: {n}MiB}}"), tmp_path)[()] for n in (1, 2)]
    assert made == [tmp_path / "1m.raw", tmp_path / "2m.raw"]


def test_no_space_is_found_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disks, "free_bytes", lambda _path: 10 * MIB)
    with pytest.raises(HarnessError, match=r"no space for .*10m\.raw: 10m needed, 10 MiB free") as caught:
        prepare_disks(experiment("{backend: file, size: 10MiB}"), tmp_path)
    assert "disk.size" in str(caught.value.remedy)
    assert list(tmp_path.iterdir()) == []


def test_a_qcow2_needs_room_for_its_source_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disks, "free_bytes", lambda _path: 15 * MIB)
    with pytest.raises(HarnessError, match=r"10m\.qcow2: 20m needed"):
        prepare_disks(experiment("{backend: file, format: qcow2, size: 10MiB}"), tmp_path)


def test_a_disk_that_fills_up_meanwhile_leaves_no_half_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(HarnessError, match=r"cannot make the disk image .*: No space left"):
        prepare_disks(experiment("{backend: file, size: 1MiB}"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_qcow2_that_cannot_be_converted_leaves_no_half_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(argv: list[str], **_options: object) -> None:
        Path(argv[-1]).write_bytes(b"half")
        raise HarnessError(f"exit code 1: {argv[0]}")

    monkeypatch.setattr(process, "run", broken)
    with pytest.raises(HarnessError, match="exit code 1: qemu-img"):
        prepare_disks(experiment("{backend: file, format: qcow2, size: 1MiB}"), tmp_path)
    assert list(tmp_path.iterdir()) == []
