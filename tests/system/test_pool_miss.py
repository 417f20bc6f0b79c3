"""What a miss of the coroutine pool costs, really counted: callgrind and strace agree on their number."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support import harness

pytestmark = pytest.mark.system

# Each burst finds the pool of QEMU 7.2 taken by another IOThread; it is larger than what 10.0 keeps.
EXPERIMENT = """\
name: count
workload: instructions
builds:
  OLD: {package: qemu-system-x86, suite: bookworm}
  NEW: {package: qemu-system-x86, suite: bookworm-backports}
baseline: OLD
disk: {queue_size: 1024}
instructions: {load: coroutine-pool, disks: 2, repeats: 1, timeout: 5m, hoarder: true}
matrix: {iodepth: 2048}
"""


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    directory = tmp_path_factory.mktemp("miss")
    experiment, run = directory / "experiment.yml", directory / "run"
    experiment.write_text(EXPERIMENT)
    done = harness("run", str(experiment), "--run-dir", str(run), timeout=900)
    assert done.returncode == 0, done.stderr
    (cell,) = json.loads(harness("compare", str(run), "--format", "json").stdout)["cells"]
    return done.stdout, cell


def test_every_request_misses_where_the_pool_was_taken(counted: tuple[str, dict[str, Any]]) -> None:
    cell = counted[1]
    assert cell["baseline_pool_misses"] == pytest.approx(1, abs=0.01)
    # A mapping and a protection each, and nothing is given back.
    assert 1.98 < cell["baseline_pool_calls"] < 2.3


def test_the_capped_pool_misses_what_it_does_not_keep(counted: tuple[str, dict[str, Any]]) -> None:
    cell = counted[1]
    assert 0.1 < cell["contender_pool_misses"] < 0.3
    # Counted by runs of their own, in which other threads may have taken a batch more or less.
    assert 1.5 < cell["contender_pool_calls"] / cell["contender_pool_misses"] < 6
    for role in ("baseline", "contender"):
        each = cell[f"{role}_pool_instructions"] / cell[f"{role}_pool_misses"]
        assert 500 < each < 2500, "instructions to make a coroutine, and to free it"


def test_the_table_has_it(counted: tuple[str, dict[str, Any]]) -> None:
    text = counted[0]
    assert "what the coroutine pool costs a request" in text
    assert "System calls were counted by strace" in text
