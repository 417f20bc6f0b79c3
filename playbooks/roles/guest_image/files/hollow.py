"""Make hollow libraries: what a program's loader asks for, with nothing inside.

usage: hollow.py PROGRAM OUT_DIR LIBRARY...

Debian's fio is linked with the libraries of storage back ends that no disk of a guest is (Ceph, Gluster,
RDMA ...): 60 MB, whose loading takes most of the time of a short fio run under emulation. For each LIBRARY
(a file) that PROGRAM itself asks for, a library of the same name is made in OUT_DIR which defines just those functions that PROGRAM wants
from it; whoever calls one dies at once by an illegal instruction. The names of what was made are printed.
A library that gives PROGRAM data, and not functions only, is left alone, and so is everything where the
program is not for 64-bit x86.

Formats: the System V ABI (gABI) for ELF and its hash table, the LSB for symbol versions.
"""

import os
import struct
import sys

MACHINE = 62  # x86-64
LOAD, DYNAMIC, STACK = 1, 2, 0x6474E551
NEEDED, HASH, STRTAB, SYMTAB, STRSZ, SYMENT, SONAME = 1, 4, 5, 6, 10, 11, 14
VERSYM, VERDEF, VERDEFNUM, VERNEED, VERNEEDNUM = 0x6FFFFFF0, 0x6FFFFFFC, 0x6FFFFFFD, 0x6FFFFFFE, 0x6FFFFFFF
FUNCTIONS = (2, 10)  # also those that are chosen at load time
PAGE = 0x1000
TRAP = b"\x0f\x0b" + b"\xcc" * 14  # ud2


class Elf:
    """The dynamic part of a program or library."""

    def __init__(self, path):
        with open(path, "rb") as stream:
            self.data = stream.read()
        kind = self.data[:6], struct.unpack_from("<H", self.data, 18)[0]
        if kind != (b"\x7fELF\x02\x01", MACHINE):
            raise ValueError(f"{path} is not for 64-bit x86")
        offset, size, count = self._at("<Q", 32)[0], *self._at("<HH", 54)
        headers = [self._at("<IIQQQQ", offset + number * size) for number in range(count)]
        self.loads = [(address, at, length) for kind, _f, at, address, _p, length in headers if kind == LOAD]
        at, length = next((at, length) for kind, _f, at, _a, _p, length in headers if kind == DYNAMIC)
        self.tags = [self._at("<QQ", at + entry * 16) for entry in range(length // 16)]

    def _at(self, layout, offset):
        return struct.unpack_from(layout, self.data, offset)

    def _place(self, address):
        for start, at, length in self.loads:
            if start <= address < start + length:
                return at + address - start
        raise ValueError(f"nothing is loaded at {address:#x}")

    def _tag(self, wanted):
        return next((value for tag, value in self.tags if tag == wanted), None)

    def text(self, offset):
        begin = self._place(self._tag(STRTAB)) + offset
        return self.data[begin : self.data.index(b"\0", begin)].decode()

    def needed(self):
        """Return the names of the libraries that it asks for itself."""
        return [self.text(value) for tag, value in self.tags if tag == NEEDED]

    def symbols(self):
        """Return (name, type, whether it is defined here, version's number) of each global symbol."""
        at, versions = self._place(self._tag(SYMTAB)), self._tag(VERSYM)
        found = []
        # The string table follows the symbols in what linkers make.
        for number in range(1, (self._place(self._tag(STRTAB)) - at) // 24):
            name, info, _other, section = self._at("<IBBH", at + number * 24)
            version = self._at("<H", self._place(versions) + number * 2)[0] if versions else 1
            if info >> 4:
                found.append((self.text(name), info & 15, section != 0, version & 0x7FFF))
        return found

    def wanted_versions(self):
        """Return, by its number, the library and the name of each version that is asked for."""
        found, address = {}, self._tag(VERNEED)
        at = self._place(address) if address else 0
        for _ in range(self._tag(VERNEEDNUM) or 0):
            _version, count, file, first, following = self._at("<HHIII", at)
            entry = at + first
            for _ in range(count):
                _hash, _flags, number, name, next_one = self._at("<IHHII", entry)
                found[number] = self.text(file), self.text(name)
                entry += next_one
            at += following
        return found


def elf_hash(name):
    value = 0
    for byte in name.encode():
        value = (value << 4) + byte
        value = (value ^ (value & 0xF0000000) >> 24) & 0x0FFFFFFF
    return value


class Strings:
    """A string table."""

    def __init__(self):
        self.data = b"\0"

    def put(self, text):
        at = len(self.data)
        self.data += text.encode() + b"\0"
        return at


def wanted_of(program, library, name):
    """Return the functions, with their versions or None, that a program wants from a library; None for data."""
    versions, functions = program.wanted_versions(), []
    defined = {symbol: kind for symbol, kind, here, _version in library.symbols() if here}
    for symbol, _kind, here, number in program.symbols():
        file, version = versions.get(number, (None, None))
        if here or symbol not in defined or file not in (None, name):
            continue
        if defined[symbol] not in FUNCTIONS:
            return None
        functions.append((symbol, version))
    return functions


def definitions(name, versions, strings):
    """Return the section that says which versions a library defines; the first is the library itself."""
    names, out = [name, *versions], b""
    for index, text in enumerate(names, 1):
        last = index == len(names)
        out += struct.pack("<HHHHIII", 1, index == 1, index, 1, elf_hash(text), 20, 0 if last else 28)
        out += struct.pack("<II", strings.put(text), 0)
    return out


def hollow(name, functions):
    """Return a library that defines some functions, (name, version or None) each."""
    strings = Strings()
    versions = sorted({version for _symbol, version in functions if version})
    verdef = definitions(name, versions, strings)
    soname = strings.put(name)
    numbers = [0] + [versions.index(version) + 2 if version else 1 for _symbol, version in functions]
    count = len(functions) + 1
    symtab_size, base = 24 * count, 64 + 4 * 56
    # One bucket: these libraries have a handful of symbols.
    chain = [0, *range(2, count), 0][:count]
    table = struct.pack(f"<III{count}I", 1, count, 1 if functions else 0, *chain)
    names = [strings.put(symbol) for symbol, _version in functions]
    parts, at = {}, base
    for part, size in (
        ("symtab", symtab_size),
        ("strtab", len(strings.data)),
        ("hash", len(table)),
        ("versym", 2 * count),
        ("verdef", len(verdef)),
        ("code", len(TRAP)),
    ):
        at = -(-at // 16) * 16
        parts[part] = at
        at += size
    end, dynamic_at = at, -(-at // PAGE) * PAGE
    symtab = bytes(24) + b"".join(
        struct.pack("<IBBHQQ", n, 0x12, 0, 1, parts["code"], len(TRAP)) for n in names
    )
    tags = [
        (SONAME, soname),
        (HASH, parts["hash"]),
        (STRTAB, parts["strtab"]),
        (STRSZ, len(strings.data)),
        (SYMTAB, parts["symtab"]),
        (SYMENT, 24),
        (VERSYM, parts["versym"]),
        (VERDEF, parts["verdef"]),
        (VERDEFNUM, len(versions) + 1),
        (0, 0),
    ]
    dynamic = b"".join(struct.pack("<QQ", *tag) for tag in tags)
    out = bytearray(dynamic_at) + dynamic
    out[:64] = (
        b"\x7fELF\x02\x01\x01"
        + bytes(9)
        + struct.pack("<HHIQQQIHHHHHH", 3, MACHINE, 1, 0, 64, 0, 0, 64, 56, 4, 64, 0, 0)
    )
    size = len(dynamic)
    out[64:base] = b"".join(
        struct.pack("<IIQQQQQQ", kind, flags, offset, offset, offset, length, length, align)
        for kind, flags, offset, length, align in (
            (LOAD, 5, 0, end, PAGE),
            (LOAD, 6, dynamic_at, size, PAGE),
            (DYNAMIC, 6, dynamic_at, size, 8),
            # Without it the whole program's stack would be made executable.
            (STACK, 6, 0, 0, 16),
        )
    )
    contents = {
        "symtab": symtab,
        "strtab": strings.data,
        "hash": table,
        "verdef": verdef,
        "code": TRAP,
        "versym": struct.pack(f"<{count}H", *numbers),
    }
    for part, content in contents.items():
        out[parts[part] : parts[part] + len(content)] = content
    return bytes(out)


def main():
    program_path, out, *libraries = sys.argv[1:]
    try:
        program = Elf(program_path)
    except ValueError as error:
        print(error, file=sys.stderr)
        return
    for path in libraries:
        name = os.path.basename(path)
        if name not in program.needed():
            continue
        functions = wanted_of(program, Elf(path), name)
        if functions is not None:
            with open(os.path.join(out, name), "wb") as stream:
                stream.write(hollow(name, functions))
            print(name)


if __name__ == "__main__":
    main()
