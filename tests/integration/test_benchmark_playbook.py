"""benchmark.yml on this machine alone: what it would do, and a harness that fails at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.adapters.workspace import Workspace

pytestmark = pytest.mark.ansible

TOP = Path(__file__).resolve().parents[2]
TOOLS = Path(sys.executable).parent


def benchmark(runs: Path, command: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the playbook with what `make test` has provisioned."""
    variables = {
        "experiment": str(TOP / "fio/quick.yml"),
        "harness_command": str(command),
        "harness_runs_dir": str(runs),
        "fleet_run": f"test-{runs.parent.name}",
    }
    argv = [str(TOOLS / "ansible-playbook"), "-i", "inventory/local.yml", "playbooks/benchmark.yml", *options]
    argv += ["-e", json.dumps(variables)]
    return subprocess.run(argv, capture_output=True, text=True, check=False, cwd=TOP)


def test_check_mode_measures_nothing(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    done = benchmark(runs, TOOLS / "harness", "--check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(runs.iterdir()) == []


def test_a_harness_that_fails_at_once_is_named_with_its_exit_code(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    done = benchmark(runs, Path("/bin/false"))
    assert done.returncode != 0
    assert "exit code 1" in done.stdout
    (fleet,) = runs.iterdir()
    for left in (Workspace.at().state / "runs").glob(f"test-{tmp_path.name}.*"):
        left.unlink()
    (host,) = json.loads((fleet / "fleet.json").read_text())["hosts"].values()
    assert host["state"] == "failed"
