"""Write a hollow library: functions by name and version, with nothing inside.

Formats: the System V ABI (gABI) for ELF and its hash table, the LSB for symbol versions.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from dynamic_elf import (
    DYNAMIC,
    HASH,
    LOAD,
    MACHINE,
    MAGIC,
    SONAME,
    STACK,
    STRSZ,
    STRTAB,
    SYMBOL_BYTES,
    SYMENT,
    SYMTAB,
    VERDEF,
    VERDEFNUM,
    VERSYM,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HEADER_BYTES, SEGMENT_BYTES, SEGMENTS = 64, 56, 4
PAGE = 0x1000
TRAP = b"\x0f\x0b" + b"\xcc" * 14
"""The code of each function: ud2, at which the processor raises an illegal instruction."""

GLOBAL_FUNCTION = 0x12
SHARED_OBJECT = 3
READ_EXECUTE, READ_WRITE = 5, 6


class Function(NamedTuple):
    """A function that is asked for, with its version where it has one."""

    name: str
    version: str | None


class _Strings:
    """A string table that grows."""

    def __init__(self) -> None:
        self.data = b"\0"

    def put(self, text: str) -> int:
        """Add a text and return its place."""
        at = len(self.data)
        self.data += text.encode() + b"\0"
        return at


def hollow_library(name: str, functions: Sequence[Function], versions: Sequence[str]) -> bytes:
    """Return a library.

    Args:
        name: its name, as in programs that need it.
        functions: what it defines.
        versions: the versions it has, those of the functions among them.
    """
    strings = _Strings()
    names = [strings.put(function.name) for function in functions]
    soname = strings.put(name)
    verdef = _version_definitions([name, *versions], strings)
    parts = {
        SYMTAB: bytes(SYMBOL_BYTES * (len(functions) + 1)),
        STRTAB: strings.data,
        HASH: _hash_table(len(functions)),
        VERSYM: _version_numbers(functions, versions),
        VERDEF: verdef,
    }
    places, code = _places(parts)
    parts[SYMTAB] = bytes(SYMBOL_BYTES) + b"".join(_symbol(name_at, code) for name_at in names)
    sizes = {SONAME: soname, STRSZ: len(strings.data), SYMENT: SYMBOL_BYTES, VERDEFNUM: len(versions) + 1}
    return _file(parts, places, code, _dynamic_section({**places, **sizes}))


def _places(parts: Mapping[int, bytes]) -> tuple[dict[int, int], int]:
    """Return where each part stands, in the file as in memory, and where behind them the code does."""
    places, at = {}, HEADER_BYTES + SEGMENTS * SEGMENT_BYTES
    for tag, content in parts.items():
        places[tag] = at = _aligned(at, 16)
        at += len(content)
    return places, _aligned(at, 16)


def _file(parts: Mapping[int, bytes], places: Mapping[int, int], code: int, dynamic: bytes) -> bytes:
    """Return the whole file: headers, parts, code and, in a page of its own, the dynamic section."""
    end = code + len(TRAP)
    dynamic_at = _aligned(end, PAGE)
    out = bytearray(dynamic_at) + dynamic
    head = _header() + b"".join(
        (
            _segment(LOAD, READ_EXECUTE, 0, end, PAGE),
            _segment(LOAD, READ_WRITE, dynamic_at, len(dynamic), PAGE),
            _segment(DYNAMIC, READ_WRITE, dynamic_at, len(dynamic), 8),
            # Without it the whole program's stack would be made executable.
            _segment(STACK, READ_WRITE, 0, 0, 16),
        )
    )
    for at, content in ((0, head), (code, TRAP), *((places[tag], parts[tag]) for tag in parts)):
        out[at : at + len(content)] = content
    return bytes(out)


def _header() -> bytes:
    rest = (SHARED_OBJECT, MACHINE, 1, 0, HEADER_BYTES, 0, 0, HEADER_BYTES, SEGMENT_BYTES, SEGMENTS, 64, 0, 0)
    return MAGIC + b"\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", *rest)


def _segment(kind: int, flags: int, at: int, size: int, alignment: int) -> bytes:
    return struct.pack("<IIQQQQQQ", kind, flags, at, at, at, size, size, alignment)


def _symbol(name_at: int, code: int) -> bytes:
    # Any section but 0, which would be "undefined".
    return struct.pack("<IBBHQQ", name_at, GLOBAL_FUNCTION, 0, 1, code, len(TRAP))


def _dynamic_section(tags: Mapping[int, int]) -> bytes:
    return b"".join(struct.pack("<QQ", *tag) for tag in tags.items()) + bytes(16)


def _hash_table(functions: int) -> bytes:
    """Return a table of one bucket: these libraries have a handful of symbols."""
    # Symbol 0 is no one; each of the others leads to the next, and the last one to none.
    chain = [0, *range(2, functions + 1), 0][: functions + 1]
    return struct.pack(f"<III{functions + 1}I", 1, functions + 1, min(functions, 1), *chain)


def _version_numbers(functions: Sequence[Function], versions: Sequence[str]) -> bytes:
    # 0 is of local symbols, 1 the library without a version.
    numbers = [0, *(versions.index(of) + 2 if of else 1 for _, of in functions)]
    return struct.pack(f"<{len(numbers)}H", *numbers)


def _version_definitions(names: Sequence[str], strings: _Strings) -> bytes:
    """Return the section that says which versions a library defines; the first is the library itself."""
    out = b""
    for number, name in enumerate(names, 1):
        is_base, following = number == 1, 0 if number == len(names) else 28
        out += struct.pack("<HHHHIII", 1, is_base, number, 1, _elf_hash(name), 20, following)
        out += struct.pack("<II", strings.put(name), 0)
    return out


def _elf_hash(name: str) -> int:
    value = 0
    for byte in name.encode():
        value = (value << 4) + byte
        value = (value ^ (value & 0xF0000000) >> 24) & 0x0FFFFFFF
    return value


def _aligned(at: int, alignment: int) -> int:
    return -(-at // alignment) * alignment
