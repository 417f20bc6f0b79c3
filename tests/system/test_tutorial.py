"""The tutorial and the how-tos that boot guests are followed, command by command, in a copy of this tree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support import wait_for_host

from doc_pages import execute, make_checkout, to_do

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from doc_pages import Block

pytestmark = pytest.mark.system


def follow(block: Block, checkout: Path) -> subprocess.CompletedProcess[str]:
    """Execute a block, again if somebody else began to measure on this host in between."""
    while True:
        if "harness run" in block.text:
            wait_for_host()
        done = execute(block, checkout, timeout_seconds=900)
        if done.returncode != 1 or "this host is in use by" not in done.stderr:
            return done


def followed(page: str, checkout: Path) -> dict[str, str]:
    """Follow a page to its end; return what each block printed."""
    printed = {}
    for block in to_do(page, checkout):
        done = follow(block, checkout)
        assert done.returncode == 0, f"{block.where}: {done.stdout}{done.stderr}"
        printed[block.text] = done.stdout
    return printed


def test_the_tutorial(tmp_path: Path) -> None:
    printed = followed("docs/tutorial.md", make_checkout(tmp_path))
    (table,) = (out for command, out in printed.items() if command.startswith("harness run "))
    assert "randread    128k       8" in table
    assert "too few blocks" in table
    (commit,) = (out for command, out in printed.items() if "--format commit" in command)
    assert len(commit.splitlines()) == 5


@pytest.mark.slow
def test_iothread_mapping(tmp_path: Path) -> None:
    printed = followed("docs/howto/iothread-mapping.md", make_checkout(tmp_path))
    (table,) = (out for command, out in printed.items() if command.startswith("harness run "))
    assert "IOTHREADS" in table
