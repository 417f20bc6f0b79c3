"""A setting changed for a run is put back, however the run ends. On a file: the kernel's is not touched."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.adapters.host.sysctl import max_map_count, restore, waiting
from harness.core.errors import HarnessError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def setting(tmp_path: Path) -> Path:
    path = tmp_path / "max_map_count"
    path.write_text("65530\n")
    return path


def value(setting: Path) -> str:
    return setting.read_text().strip()


def test_it_is_changed_and_put_back(setting: Path, tmp_path: Path) -> None:
    with max_map_count(70000, tmp_path, setting=setting):
        assert value(setting) == "70000"
        assert waiting(tmp_path)
    assert value(setting) == "65530"
    assert waiting(tmp_path) is None


def test_without_a_wish_nothing_is_touched(tmp_path: Path) -> None:
    with max_map_count(None, tmp_path, setting=tmp_path / "missing"):
        assert list(tmp_path.iterdir()) == []


def test_a_run_that_fails_puts_it_back(setting: Path, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="gone wrong"), max_map_count(70000, tmp_path, setting=setting):
        raise HarnessError("gone wrong")
    assert value(setting) == "65530"


KILLED = """
import os, signal, sys
from pathlib import Path
from harness.adapters.host.sysctl import max_map_count
with max_map_count(70000, Path(sys.argv[1]), setting=Path(sys.argv[2])):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_run_that_is_killed_has_it_put_back(setting: Path, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(setting)], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 30
    while waiting(tmp_path) or value(setting) != "65530":
        assert time.monotonic() < deadline, f"still {value(setting)}"
        time.sleep(0.02)


def test_what_nobody_put_back_the_next_start_does(setting: Path, tmp_path: Path) -> None:
    snapshot = leave_behind(setting, tmp_path)
    said: list[str] = []
    restore(tmp_path, said.append)
    assert value(setting) == "65530"
    assert said == [f"put {setting} back to 65530"]
    assert not snapshot.exists()
    restore(tmp_path, said.append)
    assert len(said) == 1


def test_a_value_that_somebody_else_set_since_is_left_alone(setting: Path, tmp_path: Path) -> None:
    leave_behind(setting, tmp_path)
    setting.write_text("1048576\n")
    restore(tmp_path)
    assert value(setting) == "1048576"
    assert waiting(tmp_path) is None


def test_a_snapshot_of_an_earlier_boot_is_only_forgotten(setting: Path, tmp_path: Path) -> None:
    snapshot = leave_behind(setting, tmp_path)
    snapshot.write_text(json.dumps(json.loads(snapshot.read_text()) | {"boot": "another"}))
    restore(tmp_path)
    assert value(setting) == "70000"
    assert waiting(tmp_path) is None


def leave_behind(setting: Path, state: Path) -> Path:
    """Leave what a run leaves when it is killed together with its guard."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    snapshot = state / "snapshot" / "max_map_count.json"
    snapshot.parent.mkdir()
    snapshot.write_text(
        json.dumps({"path": str(setting), "before": "65530", "during": "70000", "boot": boot})
    )
    setting.write_text("70000\n")
    return snapshot


def test_a_setting_that_may_not_be_changed_is_refused_before_anything(tmp_path: Path) -> None:
    missing = tmp_path / "none" / "max_map_count"
    with pytest.raises(HarnessError) as caught, max_map_count(70000, tmp_path, setting=missing):
        pytest.fail("never gets here")
    assert "cannot be changed by this user" in caught.value.message
    assert caught.value.remedy == "run as root, or leave --max-map-count out"
    assert waiting(tmp_path) is None


def test_the_guard_is_gone_when_the_run_is_over(setting: Path, tmp_path: Path) -> None:
    with max_map_count(70000, tmp_path, setting=setting):
        # Just after exec a process has no command line yet.
        deadline = time.monotonic() + 30
        while not _children():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert len(_children()) == 1
    assert _children() == []


def _children() -> list[str]:
    return [
        pid
        for task in Path("/proc/self/task").iterdir()
        for pid in (task / "children").read_text().split()
        if b"guard" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
