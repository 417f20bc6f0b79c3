"""What the dynamic loader reads of a program or library for 64-bit x86: what it needs, and its symbols.

Formats: the System V ABI (gABI) for ELF, the LSB for symbol versions. What is not like that is a ValueError.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

MACHINE = 62  # x86-64
MAGIC = b"\x7fELF\x02\x01"  # 64 bits, little-endian

# Kinds of segments, the one kind of section that is looked at, and tags of the dynamic section.
LOAD, DYNAMIC, STACK = 1, 2, 0x6474E551
DYNSYM = 11
NEEDED, HASH, STRTAB, SYMTAB, STRSZ, SYMENT, SONAME = 1, 4, 5, 6, 10, 11, 14
VERSYM, VERDEF, VERDEFNUM, VERNEED = 0x6FFFFFF0, 0x6FFFFFFC, 0x6FFFFFFD, 0x6FFFFFFE

SYMBOL_BYTES = 24


class Symbol(NamedTuple):
    """A symbol that others may refer to.

    Args:
        name: its name.
        kind: its type, such as 2 for a function.
        is_defined: whether it is defined here, not only asked for.
        version: the number of its version in this file.
    """

    name: str
    kind: int
    is_defined: bool
    version: int


class DynamicElf:
    """The dynamic part of a program or library.

    Args:
        path: the file.

    Raises:
        ValueError: it is not for 64-bit x86, is linked statically, or damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._data = path.read_bytes()
        if self._data[:6] != MAGIC or self._at("<H", 18) != (MACHINE,):
            raise self._wrong("not for 64-bit x86")
        segments = self._table(place=32, counts=54, layout="<IIQQQQ")
        self._loads = [(address, at, size) for kind, _, at, address, _, size in segments if kind == LOAD]
        dynamic = next(((at, size) for kind, _, at, _, _, size in segments if kind == DYNAMIC), None)
        if dynamic is None:
            raise self._wrong("linked statically")
        tags = [self._at("<QQ", dynamic[0] + entry) for entry in range(0, dynamic[1], 16)]
        self._tags = {tag: value for tag, value in reversed(tags) if tag != NEEDED}
        self.needed = [self._text(value) for tag, value in tags if tag == NEEDED]
        """The names of the libraries that it asks for itself."""

    def symbols(self) -> list[Symbol]:
        """Return each symbol that is not local.

        Raises:
            ValueError: the file does not say how many there are, or is damaged.
        """
        at, versions = self._place(self._tag(SYMTAB)), self._tags.get(VERSYM)
        found = []
        for number in range(1, self._symbol_count()):
            name, info, _, section = self._at("<IBBH", at + number * SYMBOL_BYTES)
            (version,) = self._at("<H", self._place(versions) + number * 2) if versions else (1,)
            if info >> 4:
                found.append(Symbol(self._text(name), info & 15, section != 0, version & 0x7FFF))
        return found

    def wanted_versions(self) -> dict[int, tuple[str, str]]:
        """Return, by its number, the library and the name of each version that is asked for."""
        found: dict[int, tuple[str, str]] = {}
        if VERNEED not in self._tags:
            return found
        at, following = self._place(self._tag(VERNEED)), 1
        while following:
            _, count, library, first, following = self._at("<HHIII", at)
            entry = at + first
            for _ in range(count):
                _, _, number, name, next_one = self._at("<IHHII", entry)
                found[number] = self._text(library), self._text(name)
                entry += next_one
            at += following
        return found

    def _symbol_count(self) -> int:
        """Return how many symbols there are.

        No tag says it. The string table mostly follows the symbols, but not where patchelf was at work, and
        what the hash tables count differs. The section of the symbols is right wherever sections are left.
        """
        for _, kind, _, address, _, size in self._table(place=40, counts=58, layout="<IIQQQQ"):
            if kind == DYNSYM and address == self._tag(SYMTAB):
                return int(size // SYMBOL_BYTES)
        raise self._wrong("without a section that says how many symbols it has")

    def _table(self, *, place: int, counts: int, layout: str) -> list[tuple[int, ...]]:
        """Return the entries of a table that the file's header tells of."""
        (at,), (size, count) = self._at("<Q", place), self._at("<HH", counts)
        return [self._at(layout, at + number * size) for number in range(count)]

    def _at(self, layout: str, offset: int) -> tuple[int, ...]:
        try:
            return struct.unpack_from(layout, self._data, offset)
        except (struct.error, OverflowError):
            raise self._wrong("cut short") from None

    def _place(self, address: int) -> int:
        """Return where in the file stands what is loaded to an address."""
        for start, at, size in self._loads:
            if start <= address < start + size:
                return at + address - start
        raise self._wrong(f"damaged: nothing is loaded to {address:#x}")

    def _tag(self, wanted: int) -> int:
        if wanted not in self._tags:
            raise self._wrong(f"without the dynamic tag {wanted:#x}")
        return self._tags[wanted]

    def _text(self, offset: int) -> str:
        begin = self._place(self._tag(STRTAB)) + offset
        end = self._data.find(b"\0", begin)
        if offset >= self._tag(STRSZ) or end < 0:
            raise self._wrong("damaged: a name is outside of the string table")
        return self._data[begin:end].decode()

    def _wrong(self, what: str) -> ValueError:
        return ValueError(f"{self._path} is {what}")
