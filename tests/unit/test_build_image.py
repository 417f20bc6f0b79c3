"""The micro guest's image, made of a made-up tree of packages: which libraries it has, and which kernel."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from bz_image import BOOTABLE, bz_image
from tiny_programs import SCRIPTS, compiled, shared

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 200_000
STORE = f"const char bulk[{SIZE}] = {{1}}; int store_open(void) {{ return bulk[0]; }}"
APPLETS = "sh mount insmod sha256sum dmesg blockdev sync cat"
SAYS = """\
#include <stdio.h>
#include <string.h>
int store_open(void);
int main(int count, char **words) {{
    if (count > 1 && !strcmp(words[1], "{option}")) puts("{answer}");
    return {code};
}}
"""
NEVER = "count > 99 ? store_open() : 0"


@dataclass
class Bench:
    """A tree of packages, and what comes of it."""

    tree: Path
    image: Path

    def program(self, name: str, option: str, answer: str, code: str = "0") -> None:
        """Put a program into the tree; it needs the library if its code calls it."""
        source = SAYS.format(option=option, answer=answer, code=code)
        compiled(self.tree / "usr/bin" / name, source, "-Wl,--as-needed", self.tree / "usr/lib/libstore.so.1")

    def build(self, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
        argv = ["sh", str(SCRIPTS / "build-image.sh"), str(self.tree), str(self.image), python]
        return subprocess.run(argv, capture_output=True, text=True, check=False)

    def contents(self) -> dict[str, int]:
        """Return the size in bytes of each file of the initramfs."""
        archive = (self.image / "initramfs.cpio").read_bytes()
        listed = subprocess.run(["cpio", "-itv", "--quiet"], input=archive, capture_output=True, check=True)
        lines = [line.split() for line in listed.stdout.decode().splitlines()]
        return {words[8]: int(words[4]) for words in lines if words[0].startswith("-")}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    if shutil.which("cpio") is None:
        pytest.fail("cpio is missing; `harness provision` installs it (role host)")
    tree = tmp_path / "tree"
    for place in ("boot", "lib64", "lib/modules/6.1-made-up", "usr/bin", "usr/lib"):
        (tree / place).mkdir(parents=True)
    for name, place in (("ld-linux-x86-64.so.2", "lib64"), ("libc.so.6", "usr/lib")):
        argv = ["gcc", f"-print-file-name={name}"]
        found = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
        shutil.copy(found, tree / place / name)
    (tree / "boot/vmlinuz-6.1-made-up").write_bytes(bz_image(gzip.compress(BOOTABLE)))
    shared(tree / "usr/lib/libstore.so.1", STORE)
    made = Bench(tree, tmp_path / "image")
    made.program("busybox", "--list", APPLETS.replace(" ", "\\n"))
    made.program("qemu-ga", "--version", "QEMU")
    made.program("fio", "--version", "fio-9", NEVER)
    return made


def test_fio_gets_hollow_libraries_and_the_guest_an_unpacked_kernel(bench: Bench) -> None:
    done = bench.build()
    assert (done.returncode, done.stderr) == (0, "")
    assert 0 < bench.contents()["usr/lib/libstore.so.1"] < SIZE
    assert bench.contents()["usr/lib/libc.so.6"] > SIZE
    record = json.loads((bench.image / "image.json").read_text())
    assert record["fio_version"] == "fio-9"
    assert record["kernel"] == str(bench.image / "vmlinux")
    assert (bench.image / "vmlinux").read_bytes() == BOOTABLE
    assert not (bench.image / "vmlinuz").exists()


def test_the_same_tree_gives_the_same_image(bench: Bench) -> None:
    images = []
    for _ in range(2):
        bench.build()
        images.append((bench.image / "initramfs.cpio").read_bytes())
    assert images[0] == images[1]


def test_what_the_guest_agent_needs_too_is_real(bench: Bench) -> None:
    bench.program("qemu-ga", "--version", "QEMU", NEVER)
    done = bench.build()
    assert (done.returncode, done.stderr) == (0, "")
    assert bench.contents()["usr/lib/libstore.so.1"] > SIZE


@pytest.mark.parametrize("option", ["--enghelp", "--name=try"])
def test_fio_that_does_not_work_with_hollow_libraries_gets_the_real_ones(bench: Bench, option: str) -> None:
    bench.program(
        "fio", "--version", "fio-9", f'count > 1 && !strcmp(words[1], "{option}") ? !store_open() : 0'
    )
    done = bench.build()
    assert done.returncode == 0
    assert "fio does not work with hollow libstore.so.1" in done.stderr
    assert bench.contents()["usr/lib/libstore.so.1"] > SIZE


def test_a_kernel_that_cannot_be_unpacked_is_booted_packed(bench: Bench) -> None:
    (bench.tree / "boot/vmlinuz-6.1-made-up").write_bytes(b"MZ" + bytes(4096))  # as on arm64
    done = bench.build()
    assert (done.returncode, done.stderr) == (0, "the kernel stays packed: it is no bzImage\n")
    record = json.loads((bench.image / "image.json").read_text())
    assert record["kernel"] == str(bench.image / "vmlinuz")


@pytest.mark.parametrize("python", ["/bin/false", "/nonexistent/python3"])
def test_a_python_that_fails_is_named_and_there_is_no_image(bench: Bench, python: str) -> None:
    done = bench.build(python)
    assert done.returncode == 1
    assert f"guest image: unpack_kernel.py, run by {python}, ended with " in done.stderr
    assert not bench.image.exists()


def test_a_python_that_fails_later_is_named_too(bench: Bench, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\ncase $2 in *hollow.py) exit 1 ;; *) exec {sys.executable} "$@" ;; esac\n')
    python.chmod(0o755)
    done = bench.build(str(python))
    assert done.returncode == 1
    assert f"guest image: hollow.py, run by {python}, failed" in done.stderr
    assert not bench.image.exists()
