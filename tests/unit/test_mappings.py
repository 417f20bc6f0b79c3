"""What /proc/PID/maps tells of coroutines."""

from __future__ import annotations

import itertools
import mmap
import os
import subprocess
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from harness.adapters.emulator import MappingsProbe
from harness.core.mappings import GUARD_BYTES, STACK_BYTES, Mappings, count_mappings

NOBODY = 65534


def areas(*sizes: tuple[int, str], start: int = 0x7F0000000000) -> bytes:
    lines = []
    for size, permissions in sizes:
        lines.append(f"{start:x}-{start + size:x} {permissions} 00000000 00:00 0 \n")
        start += size
    return "".join(lines).encode()


GUARD, STACK = (GUARD_BYTES, "---p"), (STACK_BYTES, "rw-p")


def test_a_guard_page_followed_by_a_stack_is_a_coroutine() -> None:
    maps = areas((4096, "r-xp"), GUARD, STACK, GUARD, STACK, (4096, "rw-p"))
    assert count_mappings(maps) == Mappings(vmas=6, coroutines=2)


def test_what_only_looks_like_one_is_none() -> None:
    assert count_mappings(areas(GUARD, (STACK_BYTES * 8, "rw-p"))).coroutines == 0  # a thread's stack
    assert count_mappings(areas((2 * GUARD_BYTES, "---p"), STACK)).coroutines == 0
    assert count_mappings(areas(GUARD, (STACK_BYTES, "rwxp"))).coroutines == 0
    assert count_mappings(areas(GUARD) + areas(STACK, start=0x1000)).coroutines == 0  # not adjacent
    assert count_mappings(b"") == Mappings(0, 0)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([GUARD_BYTES, 2 * GUARD_BYTES, STACK_BYTES, 8 * STACK_BYTES]),
            st.sampled_from(["---p", "rw-p", "r--p"]),
        ),
        max_size=40,
    )
)
def test_counting_agrees_with_looking_at_each_pair(found: list[tuple[int, str]]) -> None:
    pairs = sum(a == GUARD and b == STACK for a, b in itertools.pairwise(found))
    assert count_mappings(areas(*found)) == Mappings(len(found), pairs)


CHILD = """
import ctypes, mmap, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
number = ctypes.c_int
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, number, number, number, ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
for _ in range(500):
    at = libc.mmap(None, 2**20 + 4096, 3, 0x22, -1, 0)
    libc.mprotect(at, 4096, 0)
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_real_process_with_stacks_like_qemus() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout
        assert child.stdout.readline() == "ready\n"
        probe = MappingsProbe(child.pid)
        found = probe.look()
        assert found is not None
        assert found.coroutines == 500
        assert found.vmas >= 1000
        child.communicate()
    assert probe.look() is None, "gone"
    assert probe.last == found, "what was last seen of it is evidence"


def test_a_process_that_may_not_be_looked_at_is_said_to_be_hidden() -> None:
    """Another user's process: forked, so that the looking one has this test's own code."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        if os.getuid() == 0:
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
        probe = MappingsProbe(1 if os.getppid() == 1 or os.getuid() != 0 else os.getppid())
        seen = probe.look()
        os.write(writer, f"{seen}|{probe.hidden}".encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        said = stream.read()
    os.waitpid(child, 0)
    assert said.startswith("None|/proc/")
    assert said.endswith("may not be read by this user")


def test_page_size_is_what_the_guard_page_is() -> None:
    assert mmap.PAGESIZE == GUARD_BYTES, "on another page size QEMU's guard page is larger"
    assert Path("/proc/self/maps").read_bytes().endswith(b"\n")
