"""`harness clean` after a run that was killed, with a guest that goes on without it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, harness
from tiny import TINY, guests, wait_until

pytest_plugins = ["tiny_fixtures"]
pytestmark = [pytest.mark.system, pytest.mark.usefixtures("no_guest_left")]

MAP_COUNT = Path("/proc/sys/vm/max_map_count")


def clean(run: Path, state: Path, *options: str) -> dict[str, Any]:
    done = harness("clean", str(run), "--state-dir", str(state), "--json", *options)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_guest_of_a_killed_run_is_ended_and_that_of_a_living_one_is_not(
    place: Path, fresh_state: Path
) -> None:
    experiment, run = place / "experiment.yml", place / "run"
    # The guest has to outlive a `harness clean` beside it.
    longer = TINY.replace("runtime: 1s", "runtime: 10s")
    assert longer != TINY
    experiment.write_text(longer + "accel: tcg\n")
    limit = int(MAP_COUNT.read_text())
    options = ["--no-provision", "--run-dir", str(run), "--state-dir", str(fresh_state)]
    with subprocess.Popen(
        [sys.executable, "-m", "harness", "run", str(experiment), *options, "--max-map-count", "70001"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            wait_until(guests)
            (guest,) = guests()
            alive = clean(run, fresh_state)
            assert alive["leftovers"] == []
            assert len(alive["alive"]) == 2, "the host, and the run directory"
            assert all(f"process {process.pid} (" in sentence for sentence in alive["alive"])
            assert guests() == [guest]
        finally:
            process.kill()
    assert guests() == [guest]

    listed = clean(run, fresh_state, "--dry-run")["leftovers"]
    assert "guest" in {one["kind"] for one in listed}
    assert {one["fate"] for one in listed} == {"would be removed"}
    assert guests() == [guest]

    removed = clean(run, fresh_state)["leftovers"]
    assert [one["name"] for one in removed if one["kind"] == "guest"] == [
        one["name"] for one in listed if one["kind"] == "guest"
    ]
    assert {one["fate"] for one in removed} == {"removed"}
    assert guests() == []
    # By the command or, in the same moment, by the guard that the run left.
    wait_until(lambda: int(MAP_COUNT.read_text()) == limit)
    assert harness("clean", str(run), "--state-dir", str(fresh_state)).stdout == "nothing is left behind\n"
