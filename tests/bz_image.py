"""A made-up kernel for x86, and the file that it is packed in."""

from __future__ import annotations

import struct

PVH_ENTRY = 18
SETUP_SECTORS = 2
PAYLOAD_AT = 0x40


def note(kind: int, name: bytes = b"Xen\0") -> bytes:
    return struct.pack("<III", len(name), 4, kind) + name + bytes(4)


def kernel(*notes: bytes, magic: bytes = b"\x7fELF\x02\x01\x01") -> bytes:
    """Return an ELF file with a segment of notes and one of code."""
    content, code = b"".join(notes), bytes(range(256)) * 64
    at = 64 + 2 * 56
    head = magic + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    segments = (
        struct.pack("<IIQQQQQQ", kind, 4, start, 0, 0, length, length, 4)
        for kind, start, length in ((4, at, len(content)), (1, at + len(content), len(code)))
    )
    return head + b"".join(segments) + content + code


BOOTABLE = kernel(note(7), note(PVH_ENTRY))


def bz_image(payload: bytes, *, version: int = 0x020F, length: int | None = None) -> bytes:
    """Return a bzImage around a packed kernel."""
    setup = bytearray((SETUP_SECTORS + 1) * 512)
    setup[0x1F1] = SETUP_SECTORS
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", setup, 0x206, version)
    struct.pack_into("<II", setup, 0x248, PAYLOAD_AT, len(payload) if length is None else length)
    return bytes(setup) + bytes(PAYLOAD_AT) + payload + b"what follows the kernel"
