"""A real run that goes on until its intervals are narrow enough."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from support import EXPERIMENT, ROOT, harness, wait_for_host
from tiny import accepted, guests

if TYPE_CHECKING:
    from pathlib import Path

pytest_plugins = ["tiny_fixtures"]
pytestmark = [pytest.mark.system, pytest.mark.slow]

NAME = "until"
PROTOCOL = "protocol: {blocks: 2, runtime: 1s, ramp: 0s}"
UNTIL = "protocol: {runtime: 1s, ramp: 0s, until: 60%, max_blocks: 24}"
TELLING = re.compile(r"faster|slower|same|unclear|[0-9]%|\bp\b", re.IGNORECASE)


def watch(experiment: Path, run: Path, table: Path) -> tuple[int, list[str]]:
    """Run it, and look at what it shows before its end; return the exit code and that."""
    argv = [sys.executable, "-m", "harness", "run", str(experiment), "--no-provision", "--run-dir", str(run)]
    shown: list[str] = []
    with (
        table.open("w") as stdout,
        subprocess.Popen(argv, stdout=stdout, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process,
    ):
        assert process.stderr
        for line in process.stderr:
            if line.startswith("harness: ended: "):
                break
            if line.startswith("  remedy: "):
                continue
            shown.append(line)
            assert table.read_text() == "", "a table before the end"
            if "block 5/24" in line:
                early = harness("compare", str(run))
                assert (early.returncode, early.stdout) == (2, ""), "a look before the end"
                assert "is still being measured" in early.stderr
        process.communicate()
    return process.returncode, shown


def test_it_stops_by_width_and_shows_no_sign_before_the_end(place: Path) -> None:
    assert PROTOCOL in EXPERIMENT
    experiment, run, table = place / "until.yml", place / "run", place / "table"
    text = EXPERIMENT.replace("name: quick", f"name: {NAME}").replace(PROTOCOL, UNTIL)
    experiment.write_text(text.replace("baseline: OLD", "accel: tcg\nbaseline: OLD"))
    done = harness("provision", str(experiment), timeout=900)
    assert done.returncode == 0, done.stderr
    shown: list[str] = []
    while not shown or "this host is in use by" in shown[-1]:
        wait_for_host()
        code, shown = watch(experiment, run, table)
    assert code == 0, shown
    assert guests(NAME) == []
    assert [line for line in shown if TELLING.search(line)] == []

    blocks = len(accepted(run)) // 2
    assert blocks in {20, 22, 24}
    reason = json.loads((run / "run.json").read_text())["stopped"]
    found = re.fullmatch(r"(?:after|all) (\d+) blocks .*is \+-([0-9.]+)%, 60\.00% was asked for", reason)
    assert found, reason
    assert int(found[1]) == blocks
    assert (float(found[2]) <= 60) or blocks == 24
    assert f"; {reason}." in table.read_text(), "the footer says why it stopped"
    (cell,) = json.loads(harness("compare", str(run), "--json").stdout)["cells"]
    assert cell["n_blocks"] == blocks
    assert cell["verdict"] in {"faster", "slower", "same", "unclear"}
