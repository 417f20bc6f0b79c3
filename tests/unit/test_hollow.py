"""Hollow libraries: a program starts with them as with the real ones, and dies where it calls into one."""

from __future__ import annotations

import importlib
import os
import random
import shutil
import signal
import struct
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tiny_programs import SCRIPTS, compiled, script, shared

if TYPE_CHECKING:
    from pathlib import Path

STORE = """\
int store_open(void) { return 1; }
int store_close(void) { return 2; }
int unwanted(void) { return 3; }
"""
VERSIONS = "STORE_1 { global: store_open; local: *; };\nSTORE_2 { global: store_close; unwanted; } STORE_1;\n"
CALLS = """\
#include <stdio.h>
int store_open(void), store_close(void);
int main(int count, char **words) {
    puts("started");
    fflush(stdout);
    return count > 1 ? store_open() + store_close() : 0;
}
"""
READS = """\
extern int store_value, store_get(void);
int main(void) { return store_value == 7 ? 0 : store_get(); }
"""
ELF_MACHINE, ELF_SECTIONS = 18, (40, 60)


@dataclass
class Bench:
    """A directory with libraries, and one for the hollow ones."""

    libraries: Path
    hollow: Path

    def make(self, program: Path, *more: Path) -> tuple[list[str], str]:
        """Return the names of what was made, and the words about what was not."""
        done = script("hollow.py", program, self.hollow, *more, *sorted(self.libraries.glob("*.so.*")))
        assert done.returncode == 0, done.stderr
        names = done.stdout.split()
        assert sorted(names) == sorted(path.name for path in self.hollow.iterdir())
        return names, done.stderr

    def start(self, program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Start a program with the hollow libraries in place of the real ones."""
        # At once, and not at its first call, the loader looks for each function.
        places = {"LD_LIBRARY_PATH": f"{self.hollow}:{self.libraries}", "LD_BIND_NOW": "1"}
        return subprocess.run(
            [program, *arguments], env=os.environ | places, capture_output=True, text=True, check=False
        )


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path / "real", tmp_path / "hollow")
    made.libraries.mkdir()
    made.hollow.mkdir()
    return made


def changed(path: Path, at: int, layout: str, *values: int) -> None:
    data = bytearray(path.read_bytes())
    struct.pack_into(layout, data, at, *values)
    path.write_bytes(data)


def without_sections(path: Path) -> None:
    changed(path, ELF_SECTIONS[0], "<Q", 0)
    changed(path, ELF_SECTIONS[1], "<HH", 0, 0)


@pytest.mark.parametrize("versions", [VERSIONS, ""])
def test_a_program_starts_with_hollow_libraries_and_dies_where_it_calls_one(
    bench: Bench, tmp_path: Path, versions: str
) -> None:
    store = shared(bench.libraries / "libstore.so.1", STORE, versions=versions)
    program = compiled(tmp_path / "program", CALLS, store)
    assert bench.start(program, "call").returncode == 3
    assert bench.make(program) == (["libstore.so.1"], "")
    started = bench.start(program)
    # Not a word of the loader either: a version that is missing is one.
    assert (started.returncode, started.stdout, started.stderr) == (0, "started\n", "")
    called = bench.start(program, "call")
    assert (called.returncode, called.stdout) == (-signal.SIGILL, "started\n")


def test_only_what_the_program_wants_is_in_a_hollow_library(bench: Bench, tmp_path: Path) -> None:
    store = shared(bench.libraries / "libstore.so.1", STORE, versions=VERSIONS)
    bench.make(compiled(tmp_path / "program", CALLS, store))
    other = compiled(tmp_path / "other", "int unwanted(void); int main(void) { return unwanted(); }", store)
    started = bench.start(other)
    assert "undefined symbol: unwanted" in started.stderr


def test_a_library_nothing_is_wanted_from_is_hollow_all_the_same(bench: Bench, tmp_path: Path) -> None:
    store = shared(bench.libraries / "libstore.so.1", STORE)
    program = compiled(tmp_path / "program", "int main(void) { return 0; }", "-Wl,--no-as-needed", store)
    assert bench.make(program) == (["libstore.so.1"], "")
    assert bench.start(program).returncode == 0


def test_a_library_that_the_program_does_not_ask_for_itself_is_left_alone(
    bench: Bench, tmp_path: Path
) -> None:
    store = shared(bench.libraries / "libstore.so.1", STORE)
    shared(bench.libraries / "libother.so.1", "int store_open(void) { return 5; }")
    assert bench.make(compiled(tmp_path / "program", CALLS, store)) == (["libstore.so.1"], "")


def test_what_fio_works_with_is_left_alone(bench: Bench, tmp_path: Path) -> None:
    aio = shared(bench.libraries / "libaio.so.1", STORE)
    assert bench.make(compiled(tmp_path / "program", CALLS, aio)) == ([], "")


@pytest.mark.parametrize("options", [["-no-pie", "-fno-pic"], ["-pie", "-fPIE"], ["-pie", "-fPIC"]])
def test_a_library_that_gives_data_is_left_alone(bench: Bench, tmp_path: Path, options: list[str]) -> None:
    """Linked in most ways, the data is defined in the program, and copied from the library."""
    source = "int store_value = 7; int store_get(void) { return store_value; }"
    store = shared(bench.libraries / "libstore.so.1", source)
    program = compiled(tmp_path / "program", READS, *options, store)
    names, words = bench.make(program)
    assert names == []
    assert words == "libstore.so.1 stays as it is: libstore.so.1 gives it store_value, which is no function\n"
    assert bench.start(program).returncode == 0


def test_what_a_library_that_stays_needs_stays_too(bench: Bench, tmp_path: Path) -> None:
    deep = shared(bench.libraries / "libdeep.so.1", "int deep(void) { return 4; }")
    # A library between them that the program does not ask for.
    middle = shared(
        bench.libraries / "libmiddle.so.1", "int deep(void); int middle(void) { return deep(); }", deep
    )
    source = "int middle(void); int store_value = 8; int store_get(void) { return middle(); }"
    store = shared(bench.libraries / "libstore.so.1", source, middle)
    program = compiled(
        tmp_path / "program",
        READS.replace("store_get(void);", "store_get(void), deep(void);").replace(
            "store_get();", "store_get() + deep();"
        ),
        store,
        deep,
        f"-Wl,-rpath-link,{bench.libraries}",
    )
    names, words = bench.make(program)
    assert names == []
    assert "libdeep.so.1 stays as it is: another library needs it\n" in words
    assert bench.start(program).returncode == 8


def test_a_string_table_that_was_moved_is_found(bench: Bench, tmp_path: Path) -> None:
    """As patchelf does it, for a build of a newer release."""
    if shutil.which("patchelf") is None:
        pytest.fail("patchelf is missing; ./bootstrap.sh test installs it")
    store = shared(bench.libraries / "libstore.so.1", STORE, versions=VERSIONS)
    program = compiled(tmp_path / "program", CALLS, store)
    for file in (program, store):
        subprocess.run(["patchelf", "--set-rpath", "/a/place" * 1000, file], check=True)
    assert bench.make(program) == (["libstore.so.1"], "")
    assert bench.start(program).stdout == "started\n"


def test_a_library_that_does_not_say_how_many_symbols_it_has_is_left_alone(
    bench: Bench, tmp_path: Path
) -> None:
    store = shared(bench.libraries / "libstore.so.1", STORE)
    program = compiled(tmp_path / "program", CALLS, store)
    without_sections(store)
    names, words = bench.make(program)
    assert names == []
    assert words == (
        f"libstore.so.1 stays as it is: {store} is without a section that says how many symbols it has\n"
    )
    without_sections(program)
    assert bench.make(program) == (
        [],
        f"all libraries stay as they are: {program} is without a section that says how many symbols it has\n",
    )


def test_a_program_for_another_processor_keeps_its_libraries(bench: Bench, tmp_path: Path) -> None:
    store = shared(bench.libraries / "libstore.so.1", STORE)
    program = compiled(tmp_path / "program", CALLS, store)
    changed(program, ELF_MACHINE, "<H", 183)  # arm64
    words = f"all libraries stay as they are: {program} is not for 64-bit x86\n"
    assert bench.make(program) == ([], words)


def test_a_program_linked_statically_has_no_libraries(bench: Bench, tmp_path: Path) -> None:
    program = compiled(tmp_path / "program", "int main(void) { return 0; }", "-static", "-no-pie")
    assert bench.make(program) == ([], f"all libraries stay as they are: {program} is linked statically\n")


def test_a_library_cut_short_leaves_all_as_they_are(bench: Bench, tmp_path: Path) -> None:
    store = shared(bench.libraries / "libstore.so.1", STORE)
    program = compiled(tmp_path / "program", CALLS, store)
    store.write_bytes(store.read_bytes()[:100])
    assert bench.make(program) == ([], f"all libraries stay as they are: {store} is cut short\n")


def test_a_damaged_library_is_said_to_be_one(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    dynamic_elf = importlib.import_module("dynamic_elf")
    store = shared(bench.libraries / "libstore.so.1", STORE, versions=VERSIONS)
    program = compiled(tmp_path / "program", CALLS, store)
    whole, chance, refused = program.read_bytes(), random.Random(1), 0  # noqa: S311 - no secret
    for _ in range(300):
        data = bytearray(whole)
        # The headers, and what the loader reads, stand at the beginning.
        for _ in range(3):
            data[chance.randrange(0x1000)] = chance.randrange(256)
        program.write_bytes(data)
        try:
            elf = dynamic_elf.DynamicElf(program)
            elf.symbols()
            elf.wanted_versions()
        except ValueError as error:
            assert str(error)  # noqa: PT017 - most of them are read without fault
            refused += 1
    assert refused
