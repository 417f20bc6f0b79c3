"""What comes from elsewhere does not command the terminal it is shown on."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING

import orjson
import pytest

from fakes import new_run
from harness.shell.terminal import plain, unfiltered
from resealed import write_sealed

if TYPE_CHECKING:
    from pathlib import Path

EVIL = "\x1b]0;owned\x07\x9b31m\x1b[2J"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_only_a_terminal_is_protected() -> None:
    terminal, file = Terminal(), io.StringIO()
    print(f"a{EVIL}\tü\n-", file=plain(terminal))
    print(EVIL, file=plain(file))
    assert terminal.getvalue() == "a?]0;owned??31m?[2J\tü\n-\n"
    assert file.getvalue() == f"{EVIL}\n"


def test_what_draws_gets_the_terminal_itself() -> None:
    terminal = Terminal()
    assert unfiltered(plain(plain(terminal))) is terminal
    assert unfiltered(terminal) is terminal


# ASCII too: click would write past what protects the terminal.
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_command_on_a_real_terminal(tmp_path: Path, encoding: str) -> None:
    run = new_run(tmp_path / "run", name=EVIL, stopped=EVIL)
    head = orjson.loads((run.path / "run.json").read_bytes())
    assert head["name"] == EVIL
    write_sealed(run.path / "run.json", head | {"run_id": EVIL})
    ours, theirs = pty.openpty()
    for verb in (["show"], ["show", "--json"], ["compare"]):
        subprocess.run(
            [sys.executable, "-m", "harness", *verb, str(run.path)],
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            check=False,
            env=os.environ | {"PYTHONIOENCODING": encoding},
        )
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 2**16):
            shown += piece
    except OSError:
        pass  # Linux says so when nobody holds the other end any more
    os.close(ours)
    text = shown.decode()
    assert "owned" in text
    assert {char for char in text if not char.isprintable()} <= set("\r\n\t")
