"""Take the kernel out of the packing that it is booted in on real hardware.

usage: unpack_kernel.py VMLINUZ OUT

QEMU starts an unpacked kernel directly (by its PVH entry), where a packed one has to unpack itself first,
which under emulation takes a second of each boot. Exit code 3 and a word on stderr: this one has to stay as
it is, as all but those of x86 have to. Any other code but 0 is a failure.

Formats: Documentation/arch/x86/boot.rst of Linux (setup header), and xen/include/public/elfnote.h (PVH).
"""

from __future__ import annotations

import lzma
import struct
import subprocess  # noqa: TID251 - on the target host there is no harness
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STAYS = 3
MAGIC = b"\x7fELF\x02\x01"  # 64 bits, little-endian
LOAD, NOTE = 1, 4
PVH_ENTRY = 18
PAYLOAD_SINCE = 0x0208
"""The version of the boot protocol that says where the packed kernel stands."""


def main() -> None:
    """Do what the command line says."""
    source, out = map(Path, sys.argv[1:])
    image = source.read_bytes()
    try:
        kernel = unpacked(*payload_of(image))
        check_bootable(kernel)
    except ValueError as error:
        print(f"the kernel stays packed: {error}", file=sys.stderr)
        sys.exit(STAYS)
    out.write_bytes(kernel)


def payload_of(image: bytes) -> tuple[bytes, int]:
    """Return the packed kernel of a bzImage, and its size in bytes when it is unpacked.

    Raises:
        ValueError: it has none, or is damaged.
    """
    if image[0x202:0x206] != b"HdrS":
        raise ValueError("it is no bzImage")
    (version,) = read("<H", image, 0x206)
    if version < PAYLOAD_SINCE:
        raise ValueError("it does not say where the kernel in it stands")
    sectors = image[0x1F1] or 4
    offset, length = read("<II", image, 0x248)
    start = (sectors + 1) * 512 + offset
    payload = image[start : start + length]
    if len(payload) < length:
        raise ValueError("it is cut short")
    # gzip's own last word; behind the others the kernel's build puts it.
    (size,) = read("<I", payload, length - 4)
    return payload, size


def unpacked(payload: bytes, size: int) -> bytes:
    """Return the kernel's ELF file.

    Args:
        payload: it as it is packed.
        size: what it has to have, in bytes.

    Raises:
        ValueError: nothing here unpacks it, or it is damaged.
    """
    for magic, unpack in PACKINGS.items():
        if payload.startswith(magic):
            kernel = unpack(payload)
            if len(kernel) != size:
                raise ValueError(f"it is damaged: {len(kernel)} bytes where {size} were packed")
            return kernel
    raise ValueError(f"it is packed in a way unknown here ({payload[:6].hex()})")


def by_gzip(payload: bytes) -> bytes:
    """Return the content of a gzip file."""
    try:
        return zlib.decompressobj(wbits=31).decompress(payload)
    except zlib.error as error:
        raise ValueError(f"it is damaged: {error}") from None


def by_xz(payload: bytes) -> bytes:
    """Return the content of an xz file."""
    try:
        return lzma.LZMADecompressor().decompress(payload)
    except lzma.LZMAError as error:
        raise ValueError(f"it is damaged: {error}") from None


def by_command(*argv: str) -> Callable[[bytes], bytes]:
    """Return what unpacks by a command; the size behind the packed kernel would be a fault to it."""

    def unpack(payload: bytes) -> bytes:
        try:
            done = subprocess.run(argv, input=payload[:-4], capture_output=True, check=True)  # noqa: S603
        except OSError as error:
            raise ValueError(f"{argv[0]} does not run: {error.strerror}") from None
        except subprocess.CalledProcessError as error:
            raise ValueError(f"it is damaged: {error.stderr.decode(errors='replace').strip()}") from None
        return done.stdout

    return unpack


PACKINGS: dict[bytes, Callable[[bytes], bytes]] = {
    b"\x1f\x8b": by_gzip,
    b"\xfd7zXZ\x00": by_xz,
    b"\x02\x21\x4c\x18": by_command("lz4", "-d", "-c"),
    b"\x28\xb5\x2f\xfd": by_command("zstd", "-d", "-c", "-q"),
}


def check_bootable(kernel: bytes) -> None:
    """Look whether QEMU can start an unpacked kernel.

    Raises:
        ValueError: it cannot.
    """
    if kernel[:6] != MAGIC:
        raise ValueError("it is not for 64-bit x86")
    (offset,), (size, count) = read("<Q", kernel, 32), read("<HH", kernel, 54)
    notes: list[int] = []
    for number in range(count):
        kind, _, at, _, _, length = read("<IIQQQQ", kernel, offset + number * size)
        if kind in (LOAD, NOTE) and at + length > len(kernel):
            raise ValueError("it is damaged: a segment is outside of it")
        if kind == NOTE:
            notes += xen_notes(kernel[at : at + length])
    if PVH_ENTRY not in notes:
        raise ValueError("it has no PVH entry")


def xen_notes(segment: bytes) -> Iterator[int]:
    """Return the kind of each of Xen's notes in a segment of notes."""
    at = 0
    while at + 12 <= len(segment):
        name_size, value_size, kind = read("<III", segment, at)
        if segment[at + 12 : at + 16] == b"Xen\0":
            yield kind
        at += 12 + -(-name_size // 4) * 4 + -(-value_size // 4) * 4


def read(layout: str, data: bytes, at: int) -> tuple[int, ...]:
    """Return numbers from a place in data.

    Raises:
        ValueError: the data do not reach that far.
    """
    try:
        return struct.unpack_from(layout, data, at)
    except (struct.error, OverflowError):
        raise ValueError("it is damaged: it ends too early") from None


if __name__ == "__main__":
    main()
