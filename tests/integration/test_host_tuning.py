"""The role host_tuning by the real ansible-playbook, on a made-up host: this machine stays as it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.core.model import Tuning
from made_up_host import PATHS, content, made_up_host, put

pytestmark = pytest.mark.ansible

TOP = Path(__file__).resolve().parents[2]


class Playbooks:
    """Runs the playbooks on this machine, with a directory in the place of ``/``."""

    def __init__(self, directory: Path) -> None:
        self.root, self.state = directory / "root", directory / "state"
        made_up_host(self.root, 2)
        self.command = directory / "harness"
        self.command.write_text(
            f"#!/bin/sh\ncd '{TOP}' && exec '{sys.executable}' -m harness \"$@\"\n", encoding="utf-8"
        )
        self.command.chmod(0o755)
        self.experiment = directory / "experiment.yml"
        self.allow(["governor", "ksm"])

    def allow(self, tuning: object) -> None:
        self.experiment.write_text(yaml.safe_dump({"name": "try", "tuning": tuning}), encoding="utf-8")

    def __call__(self, name: str, *options: str) -> dict[str, Any]:
        """Run a playbook; return the recap of the one host."""
        variables = {
            "experiment": str(self.experiment),
            "harness_state_dir": str(self.state),
            "harness_command": str(self.command),
            "host_tuning_root": str(self.root),
        }
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("ansible-playbook")),
                "-i",
                str(TOP / "inventory/local.yml"),
                str(TOP / "playbooks" / name),
                "-e",
                json.dumps(variables),
                *options,
            ],
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(TOP / "playbooks/ansible.cfg"),
                "LC_ALL": "C.UTF-8",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        recap = done.stdout.rsplit("localhost", 1)[1]
        return {"text": done.stdout, "changed": int(recap.split("changed=")[1].split()[0])}


@pytest.fixture
def playbooks(tmp_path: Path) -> Playbooks:
    return Playbooks(tmp_path)


def test_a_host_is_made_quiet_once_and_put_back_once(playbooks: Playbooks) -> None:
    before = content(playbooks.root)
    assert playbooks("tune.yml", "--check")["changed"] == 1
    assert content(playbooks.root) == before, "check mode says what would be changed"
    assert not playbooks.state.exists()
    assert playbooks("tune.yml")["changed"] == 1
    assert content(playbooks.root)[PATHS["ksm"]] == "0"
    assert playbooks("tune.yml")["changed"] == 0
    # Somebody else's value is left alone, and named.
    put(playbooks.root, PATHS["ksm"], "2")
    restored = playbooks("restore.yml")
    assert restored["changed"] == 1
    assert "left ksm (/sys/kernel/mm/ksm/run) alone" in restored["text"]
    assert content(playbooks.root) == before | {PATHS["ksm"]: "2"}
    assert playbooks("restore.yml")["changed"] == 0


def test_an_experiment_that_allows_nothing_changes_nothing(playbooks: Playbooks) -> None:
    before = content(playbooks.root)
    playbooks.allow("none")
    assert playbooks("tune.yml")["changed"] == 0
    assert content(playbooks.root) == before


def test_the_role_knows_the_settings_that_experiments_know() -> None:
    specs = yaml.safe_load((TOP / "playbooks/roles/host_tuning/meta/argument_specs.yml").read_text())
    choices = specs["argument_specs"]["main"]["options"]["host_tuning_settings"]["choices"]
    assert choices == [str(name) for name in Tuning]
