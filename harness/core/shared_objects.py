"""Which shared objects a process maps, and what tells one build of a library from another."""

from __future__ import annotations

import re
import struct

HEAD_BYTES = 64 * 1024
"""How much of a file's beginning is enough: linkers put the notes right behind the headers."""

_MAGIC = b"\x7fELF\x02\x01"
"""64 bits, little-endian; on other machines the file's hash has to do."""

_PT_NOTE = 4
_NT_GNU_BUILD_ID = 3
_CODE = re.compile(rb"^[0-9a-f]+-[0-9a-f]+ ..x. [0-9a-f]+ [0-9a-f:]+ [0-9]+ +(/[^\n]*)$", re.MULTILINE)


def mapped_files(maps: bytes) -> list[str]:
    """Return the files that the text of /proc/PID/maps shows as mapped to execute, each once, sorted."""
    return sorted({path.decode(errors="surrogateescape") for path in _CODE.findall(maps)})


def build_id(head: bytes) -> str | None:
    """Return the GNU build ID in the beginning of an ELF file, as hex; None when none is found there.

    It costs one short read, where a hash would read all of the file.
    """
    if not head.startswith(_MAGIC):
        return None
    try:
        (table,) = struct.unpack_from("<Q", head, 32)
        size, count = struct.unpack_from("<HH", head, 54)
        for index in range(count):
            kind, _flags, offset, _vaddr, _paddr, length = struct.unpack_from(
                "<IIQQQQ", head, table + index * size
            )
            if kind == _PT_NOTE and (found := _in_notes(head[offset : offset + length])):
                return found
    except (struct.error, OverflowError):
        pass  # A file cut short, or no ELF but for its first bytes.
    return None


def _in_notes(notes: bytes) -> str | None:
    at = 0
    while at + 12 <= len(notes):
        name_length, length, kind = struct.unpack_from("<III", notes, at)
        name = notes[at + 12 : at + 12 + name_length]
        begin = at + 12 + (name_length + 3) // 4 * 4
        if kind == _NT_GNU_BUILD_ID and name == b"GNU\0":
            return notes[begin : begin + length].hex() or None
        at = begin + (length + 3) // 4 * 4
    return None
