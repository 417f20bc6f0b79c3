"""benchmark.yml on this machine alone: what it would do, and a harness that fails at once."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.adapters.host.tuning import hold, plan
from harness.adapters.workspace import Workspace
from harness.core.model import Tuning
from made_up_host import CPU, PATHS, content, made_up_host

if TYPE_CHECKING:
    from harness.adapters.host.settings import HostSettings

pytestmark = pytest.mark.ansible

TOP = Path(__file__).resolve().parents[2]
TOOLS = Path(sys.executable).parent


def benchmark(
    runs: Path, command: Path, *options: str, **further: object
) -> subprocess.CompletedProcess[str]:
    """Run the playbook, with what `make test` has provisioned unless further variables say otherwise."""
    argv = benchmark_command(runs, command, *options, **further)
    return subprocess.run(argv, capture_output=True, text=True, check=False, cwd=TOP)


def benchmark_command(runs: Path, command: Path, *options: str, **further: object) -> list[str]:
    variables = {
        "experiment": str(TOP / "fio/quick.yml"),
        "harness_command": str(command),
        "harness_runs_dir": str(runs),
        "fleet_run": f"test-{runs.parent.name}",
        **further,
    }
    argv = [str(TOOLS / "ansible-playbook"), "-i", "inventory/local.yml", "playbooks/benchmark.yml", *options]
    return [*argv, "-e", json.dumps(variables)]


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


def test_settings_held_by_hand_outlive_a_run_that_was_killed(tmp_path: Path) -> None:
    root, runs, state = tmp_path / "root", tmp_path / "runs", tmp_path / "state"
    run = state / "runs" / f"test-{tmp_path.name}"
    for directory in (runs, run):
        directory.mkdir(parents=True)
    host, governor = made_up_host(root, 2), f"{CPU}/cpu0/cpufreq/scaling_governor"
    hold(plan((Tuning.KSM,), host=host), state, host=host)
    leave_tuned(host, state)
    assert (content(root)[PATHS["ksm"]], content(root)[governor]) == ("0", "performance")
    where = {"harness_state_dir": str(state), "host_tuning_root": str(root)}
    argv = benchmark_command(runs, TOOLS / "harness", **where)
    (run / "run.json").write_text('{"state": "interrupted"}')
    said = ""
    with run.with_name(f"{run.name}.lock").open("w") as running:
        fcntl.flock(running, fcntl.LOCK_EX)
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=TOP) as played:
            for line in played.stdout or ():
                said += line
                # It was seen to go on, and is waited for: now it is killed.
                if line.startswith("PLAY [Wait for each run"):
                    fcntl.flock(running, fcntl.LOCK_UN)
    assert "cut off, run interrupted" in said
    assert "Put back what was changed" in said
    assert (content(root)[PATHS["ksm"]], content(root)[governor]) == ("0", "powersave"), said
    assert [path.name for path in (state / "snapshot").glob("*.json")] == ["hand.json"]


def leave_tuned(host: HostSettings, state: Path) -> None:
    """Leave what a run leaves that was killed together with its guard."""
    other = state.with_name("other")
    hold(plan((Tuning.GOVERNOR,), host=host), other, host=host)
    snapshot = json.loads((other / "snapshot" / "hand.json").read_text())
    (state / "snapshot" / "run.json").write_text(json.dumps(snapshot | {"owner": "run"}))
