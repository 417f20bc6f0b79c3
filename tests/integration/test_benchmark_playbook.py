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


def benchmark(
    runs: Path, command: Path, *options: str, **further: object
) -> subprocess.CompletedProcess[str]:
    """Run the playbook, with what `make test` has provisioned unless further variables say otherwise."""
    variables = {
        "experiment": str(TOP / "fio/quick.yml"),
        "harness_command": str(command),
        "harness_runs_dir": str(runs),
        "fleet_run": f"test-{runs.parent.name}",
        **further,
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


def everything_in(directory: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path): (path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in [directory, *sorted(directory.rglob("*"))]
    }


def test_check_mode_leaves_a_run_alone_wherever_it_is(tmp_path: Path) -> None:
    runs, state = tmp_path / "runs", tmp_path / "state"
    head = state / "runs" / f"test-{tmp_path.name}" / "run.json"
    for directory in (runs, head.parent):
        directory.mkdir(parents=True)

    def told(*options: str) -> str:
        done = benchmark(runs, Path("/bin/false"), *options, harness_state_dir=str(state))
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout[done.stdout.index("PLAY RECAP") :]

    def checked() -> str:
        before = everything_in(tmp_path)
        said = told("--check")
        assert everything_in(tmp_path) == before
        return said

    head.write_text('{"state": "finished"}')
    assert "0 of 1 hosts done" in checked(), "it is on the host, and not here"
    assert "1 of 1 hosts done" in told()
    assert "1 of 1 hosts done" in checked()
    # Somebody went on with it on the host, in vain: it would be gone on with.
    head.write_text('{"state": "failed", "stopped": "no guest answered"}')
    assert "0 of 1 hosts done" in checked()


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
