"""What the host cannot tell from no change: measured by a real A/A run, shown beside a real run."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from support import EXPERIMENT, harness, run_alone
from tiny import guests, sessions

from harness.adapters.workspace import Workspace

if TYPE_CHECKING:
    from pathlib import Path

pytest_plugins = ["tiny_fixtures"]
pytestmark = pytest.mark.system

NAME = "floor"
BLOCKS = 12
UNHEARD_OF = "0.001"
"""The chance of a false alarm that is allowed here, since a night of tests has its own luck.

At the usual 5 % a build is called slower than itself in one A/A run of 30, on the stillest of hosts: six
differences of one sign. At this one it takes all twelve.
"""


def floor_column(text: str) -> str:
    """Return what the table's only cell has under A/A."""
    lines = text.splitlines()
    head = next(number for number, line in enumerate(lines) if " A/A " in line)
    return lines[head + 1][: lines[head].index(" A/A ") + 4].split()[-1]


def judged(run: Path, *options: str) -> dict[str, Any]:
    done = harness("compare", str(run), "--json", *options)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_a_noise_floor_is_measured_and_shown_beside_a_run(place: Path) -> None:
    experiment, floor, run = place / "floor.yml", place / "aa", place / "run"
    text = EXPERIMENT.replace("name: quick", f"name: {NAME}")
    experiment.write_text(text.replace("baseline: OLD", "accel: tcg\nbaseline: OLD"))
    done = harness("provision", str(experiment), timeout=900)
    assert done.returncode == 0, done.stderr
    manifest = Workspace.at().manifest(NAME)
    provisioned = manifest.read_bytes()
    aa = run_alone(
        str(experiment),
        "--aa",
        "--no-provision",
        "--blocks",
        str(BLOCKS),
        "--run-dir",
        str(floor),
        timeout=600,
    )
    assert aa.returncode == 0, aa.stderr
    assert "OLD-again against OLD" in aa.stdout
    assert "A/A: both variants are the same build" in aa.stdout
    assert len({record["boots"][0]["facts"]["sha256"] for record in sessions(floor)}) == 1
    (cell,) = judged(floor)["cells"]
    assert cell["n_blocks"] == BLOCKS
    (strict,) = judged(floor, "--alpha", UNHEARD_OF)["cells"]
    assert strict["verdict"] in {"same", "unclear"}, "a build is neither faster nor slower than itself"

    asked = ("--no-provision", "--blocks", "2", "--run-dir", str(run), "--noise-floor", str(floor))
    done = run_alone(str(experiment), *asked)
    assert done.returncode == 0, done.stderr
    assert json.loads((run / "run.json").read_text())["noise_floor"] == str(floor)
    resolved = max(abs(cell["ci_low"]), abs(cell["ci_high"]))
    assert re.fullmatch(r"[0-9]+\.[0-9]%", floor_column(done.stdout))
    for again in (harness("compare", str(run)), harness("compare", str(run), "--noise-floor", str(floor))):
        assert again.returncode == 0, again.stderr
        assert floor_column(again.stdout) == floor_column(done.stdout) == f"{resolved:.1%}"
    (beside,) = judged(run)["noise_floor"]
    assert beside == {"rw": "randread", "bs": "4k", "iodepth": 8, "resolution": pytest.approx(resolved)}
    assert manifest.read_bytes() == provisioned, "an A/A run leaves the experiment's builds as they were"

    assert guests(NAME) == []

    # The other way round it is no noise floor.
    refused = harness("compare", str(floor), "--noise-floor", str(run))
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "is no A/A run" in refused.stderr
