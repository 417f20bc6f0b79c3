"""Make hollow libraries: what a program's loader asks for, with nothing inside.

usage: hollow.py PROGRAM OUT_DIR LIBRARY...

Debian's fio is linked with the libraries of storage back ends that no disk of a guest is (Ceph, Gluster,
RDMA ...): 60 MB, whose loading takes most of the time of a short fio run under emulation. For each LIBRARY (a
file) that PROGRAM itself asks for, a library of the same name is made in OUT_DIR which defines just those
functions that PROGRAM wants from it; whoever calls one dies at once by an illegal instruction. The names of
what was made are printed. LIBRARY names all that PROGRAM is loaded with. Left as they are:

- the libraries that fio works with (``KEPT``);
- what gives PROGRAM data, and not functions only;
- what a library that is left needs itself;
- what cannot be read for certain, with a word about it on stderr; where PROGRAM is not for 64-bit x86, that
  is everything.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dynamic_elf import DynamicElf, Symbol
from hollow_library import Function, hollow_library

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

KEPT = ("libc", "libm", "libaio", "libnuma", "libz", "libdl", "librt", "libpthread")
FUNCTIONS = (2, 10)
"""Kinds of symbols: functions, also those that are chosen at load time."""


class Program:
    """What a program asks of its libraries.

    Args:
        path: its file.

    Raises:
        ValueError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        elf = DynamicElf(path)
        self.needed = elf.needed
        self._symbols = elf.symbols()
        self._versions = elf.wanted_versions()

    def versions_of(self, library: str) -> list[str]:
        """Return the versions that it asks of a library, sorted."""
        return sorted({version for file, version in self._versions.values() if file == library})

    def functions_of(self, name: str, symbols: Iterable[Symbol]) -> list[Function]:
        """Return the functions that it wants from a library.

        Args:
            name: the library's name.
            symbols: the library's.

        Raises:
            ValueError: it wants data.
        """
        kinds = {symbol.name: symbol.kind for symbol in symbols if symbol.is_defined}
        functions = []
        for symbol in self._symbols:
            library, version = self._versions.get(symbol.version, (None, None))
            if symbol.name not in kinds or library not in (None, name):
                continue
            # Linkers define a library's data in the program, and the loader copies their beginning there.
            if kinds[symbol.name] not in FUNCTIONS:
                raise ValueError(f"{name} gives it {symbol.name}, which is no function")
            if not symbol.is_defined:
                functions.append(Function(symbol.name, version))
        return functions


def made_hollow(program: Program, libraries: Mapping[str, DynamicElf]) -> dict[str, bytes]:
    """Return, by name, what takes the place of some of a program's libraries."""
    made = {}
    for name in program.needed:
        if name not in libraries or name.split(".so")[0] in KEPT:
            continue
        try:
            functions = program.functions_of(name, libraries[name].symbols())
        except ValueError as error:
            print(f"{name} stays as it is: {error}", file=sys.stderr)
            continue
        made[name] = hollow_library(name, functions, program.versions_of(name))
    while in_use := made.keys() & loaded(program, libraries, made):
        for name in sorted(in_use):
            print(f"{name} stays as it is: another library needs it", file=sys.stderr)
            del made[name]
    return made


def loaded(program: Program, libraries: Mapping[str, DynamicElf], hollow: Iterable[str]) -> set[str]:
    """Return what is needed by a library that is not hollow, and what the loader has to find for that."""
    found: set[str] = set()
    waiting = [name for name in program.needed if name not in hollow]
    while waiting:
        library = libraries.get(waiting.pop())
        new = set(library.needed) - found if library else set()
        found |= new
        waiting += new
    return found


def main() -> None:
    """Do what the command line says."""
    program_path, out, *paths = map(Path, sys.argv[1:])
    try:
        program = Program(program_path)
        libraries = {path.name: DynamicElf(path) for path in paths}
    except ValueError as error:
        print(f"all libraries stay as they are: {error}", file=sys.stderr)
        return
    for name, content in made_hollow(program, libraries).items():
        (out / name).write_bytes(content)
        print(name)


if __name__ == "__main__":
    main()
