"""A kernel is unpacked only where QEMU can start what comes out; else it stays packed, and why is said."""

from __future__ import annotations

import gzip
import lzma
import shutil
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest

from bz_image import BOOTABLE, PVH_ENTRY, bz_image, kernel, note
from tiny_programs import script

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STAYS = 3


def sized(packed: bytes, content: bytes) -> bytes:
    """Return what the kernel's build makes of it: with the unpacked size behind it."""
    return packed + struct.pack("<I", len(content))


def by_command(*argv: str) -> Callable[[bytes], bytes]:
    def pack(content: bytes) -> bytes:
        if shutil.which(argv[0]) is None:
            pytest.fail(f"{argv[0]} is missing; `harness provision` installs it (role host)")
        return sized(subprocess.run(argv, input=content, capture_output=True, check=True).stdout, content)

    return pack


PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    # Its last word is its size already.
    "gzip": gzip.compress,
    "xz": lambda content: sized(lzma.compress(content, check=lzma.CHECK_CRC32), content),
    "lz4": by_command("lz4", "-l", "-9", "-c"),
    "zstd": by_command("zstd", "-22", "--ultra", "-c", "-q"),
}


def unpack(tmp_path: Path, content: bytes) -> tuple[int, str, bytes | None]:
    """Return the script's exit code, its words, and the kernel that it wrote."""
    (tmp_path / "vmlinuz").write_bytes(content)
    out = tmp_path / "vmlinux"
    done = script("unpack_kernel.py", tmp_path / "vmlinuz", out)
    return done.returncode, done.stderr, out.read_bytes() if out.exists() else None


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_kernel_that_qemu_can_start_is_unpacked(tmp_path: Path, packing: str) -> None:
    assert unpack(tmp_path, bz_image(PACKINGS[packing](BOOTABLE))) == (0, "", BOOTABLE)


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_packed_kernel_that_is_damaged_stays_what_it_is(tmp_path: Path, packing: str) -> None:
    payload = PACKINGS[packing](BOOTABLE)
    middle = len(payload) // 2
    damages = [payload[:middle], payload[:-4] + struct.pack("<I", len(BOOTABLE) + 1)]
    if packing != "lz4":  # has no checksum
        damages.append(payload[:middle] + bytes(8) + payload[middle + 8 :])
    for damaged in damages:
        code, words, out = unpack(tmp_path, bz_image(damaged))
        assert (code, out) == (STAYS, None)
        assert words.startswith("the kernel stays packed: it is damaged: ")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is no bzImage"),
        (b"MZ" + bytes(4096), "it is no bzImage"),  # arm64
        (bz_image(gzip.compress(BOOTABLE))[:0x220], "it is damaged: it ends too early"),
        (bz_image(gzip.compress(BOOTABLE), version=0x0207), "it does not say where the kernel in it stands"),
        (bz_image(gzip.compress(BOOTABLE), length=1 << 20), "it is cut short"),
        (bz_image(b"", length=0), "it is damaged: it ends too early"),
        (bz_image(b"BZh91AY&SY" + bytes(64)), "it is packed in a way unknown here (425a68393141)"),
        (bz_image(gzip.compress(kernel(note(7)))), "it has no PVH entry"),
        (bz_image(gzip.compress(kernel(note(PVH_ENTRY, b"GNU\0")))), "it has no PVH entry"),
        (bz_image(gzip.compress(kernel())), "it has no PVH entry"),
        (
            bz_image(gzip.compress(kernel(note(PVH_ENTRY), magic=b"\x7fELF\x01\x01\x01"))),
            "it is not for 64-bit x86",
        ),
        (bz_image(gzip.compress(BOOTABLE[:-1])), "it is damaged: a segment is outside of it"),
        (bz_image(gzip.compress(BOOTABLE[:80])), "it is damaged: it ends too early"),
    ],
)
def test_what_cannot_be_started_unpacked_stays_packed_and_why_is_said(
    tmp_path: Path, content: bytes, words: str
) -> None:
    assert unpack(tmp_path, content) == (STAYS, f"the kernel stays packed: {words}\n", None)


def test_a_command_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = bz_image(PACKINGS["lz4"](BOOTABLE))
    monkeypatch.setenv("PATH", "")
    code, words, out = unpack(tmp_path, packed)
    assert (code, out) == (STAYS, None)
    assert words == "the kernel stays packed: lz4 does not run: No such file or directory\n"


def test_a_kernel_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    done = script("unpack_kernel.py", tmp_path / "none", tmp_path / "out")
    assert done.returncode not in {0, STAYS}
    assert "none" in done.stderr
