"""Counting needs no root, and the builds that root has made can be used; the rest of its state not."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from support import wait_for_host

from harness.adapters.manifest import read_manifest
from harness.adapters.workspace import Workspace
from somebody import SOMEBODY, somebody

if TYPE_CHECKING:
    from pathlib import Path

pytest_plugins = ["tiny_fixtures"]
pytestmark = pytest.mark.system


def test_counting_instructions_needs_nothing_but_builds(provisioned: Path) -> None:
    found = read_manifest(provisioned)
    old, new = (found.builds[name].emulator for name in ("OLD", "NEW"))
    Workspace.at().secure()
    with somebody() as user:
        file = user.home / "count.yml"
        file.write_text(
            "name: count\nworkload: instructions\nbaseline: OLD\n"
            f"builds: {{OLD: {{path: {old}}}, NEW: {{path: {new}}}}}\n"
            "matrix: {rw: randread, bs: 4k, iodepth: 8}\n"
        )
        state = user.home / "state"
        manifest = Workspace.at(state).manifest("count")
        manifest.parent.mkdir(parents=True)
        shutil.copy(provisioned, manifest)
        wait_for_host()
        done = user(
            "run", str(file), "--no-provision", "--state-dir", str(state), "--run-dir", str(user.home / "r")
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "randread" in done.stdout


def test_the_state_of_root_is_closed_to_others(provisioned: Path) -> None:
    Workspace.at().secure()
    for path in (Workspace.at().state, provisioned):
        done = subprocess.run(
            ["setpriv", f"--reuid={SOMEBODY}", "--clear-groups", "ls", f"{path}/"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode != 0
        assert "Permission denied" in done.stderr
