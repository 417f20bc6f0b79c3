"""The role qemu_source by the real Ansible, from an experiment's three lines to binaries in the cache."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from click.testing import CliRunner
from provisioner import TOP, Provisioner

from harness.adapters.playbook_events import TaskStatus
from harness.core.errors import Interrupted, ProvisionError
from harness.shell.cli.main import cli
from source_builds import version
from stand_in import git, patch, repository, runs, tarball

if TYPE_CHECKING:
    from harness.adapters.provision import ProvisionResult

pytestmark = pytest.mark.ansible

NO_GUEST = {"workload": "instructions", "baseline": "old"}


@dataclass(frozen=True)
class Provisioned:
    """What the first provision of the experiment made, and how."""

    directory: Path
    provisioner: Provisioner
    experiment: dict[str, Any]
    first: ProvisionResult
    changed: list[str]

    @property
    def state(self) -> Path:
        return self.provisioner.state


@pytest.fixture(scope="module")
def provisioned(tmp_path_factory: pytest.TempPathFactory) -> Provisioned:
    directory = tmp_path_factory.mktemp("source")
    qemu = repository(directory / "qemu")
    tarball(directory)
    (directory / "my.patch").write_text(patch("64"))
    experiment = {
        "builds": {
            "old": {"git": str(qemu), "ref": "v10.0.2"},
            "new": {"git": str(qemu), "ref": "v10.0.2", "patches": ["my.patch"]},
            "packed": {"tarball": "qemu-10.0.2.tar.xz", "configure": ["--enable-debug"]},
        },
        **NO_GUEST,
    }
    provisioner = Provisioner(directory, directory / "state")
    first = provisioner(experiment)
    changed = [event.task for event in provisioner.events if event.status is TaskStatus.CHANGED]
    return Provisioned(directory, provisioner, experiment, first, changed)


def test_three_lines_make_two_builds(provisioned: Provisioned) -> None:
    records = provisioned.first.builds
    shown = {name: version(Path(record.emulator).parents[1]) for name, record in records.items()}
    assert shown == {"old": "10.0.128", "new": "10.0.64", "packed": "10.0.128"}
    assert {name: record.kind for name, record in records.items()} == {
        "old": "git", "new": "git", "packed": "tarball",
    }  # fmt: skip
    old, new = records["old"].source, records["new"].source
    assert old
    assert new
    assert old.commit == new.commit == git(provisioned.directory / "qemu", "rev-parse", "HEAD")
    assert [entry.name for entry in new.patches] == ["my.patch"]
    assert len({record.emulator for record in records.values()}) == 3


def test_the_second_time_changes_nothing(provisioned: Provisioned) -> None:
    again = provisioned.provisioner(provisioned.experiment)
    assert [e.task for e in provisioned.provisioner.events if e.status is TaskStatus.CHANGED] == []
    assert again.changed == 0
    assert again.builds == provisioned.first.builds
    assert sum("Compile" in task for task in provisioned.changed) == 3


def builds_in(state: Path) -> set[str]:
    return {path.name for path in (state / "builds").iterdir()}


def test_check_mode_says_what_would_be_built_and_builds_nothing(provisioned: Provisioned) -> None:
    (provisioned.directory / "other.patch").write_text(patch("32"))
    builds = {**provisioned.experiment["builds"]}
    builds["new"] = {**builds["new"], "patches": ["other.patch"]}
    file = provisioned.directory / "check.yml"
    file.write_text(yaml.safe_dump({"name": "check", **provisioned.experiment, "builds": builds}))
    before = builds_in(provisioned.state)
    variables = {"experiment": file, "harness_state_dir": provisioned.state}
    argv = [str(Path(sys.executable).with_name("ansible-playbook")), "--check"]
    argv += ["-i", "inventory/local.yml", "playbooks/provision.yml"]
    argv += [word for name, value in variables.items() for word in ("-e", f"{name}={value}")]
    done = subprocess.run(argv, cwd=TOP, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout
    assert "failed=0" in done.stdout
    assert done.stdout.count("TASK [qemu_source : Compile new") == 1
    assert "Compile old" not in done.stdout
    assert builds_in(provisioned.state) == before


def test_explain_names_the_part_that_differs(provisioned: Provisioned) -> None:
    (provisioned.directory / "third.patch").write_text(patch("16"))
    builds = {**provisioned.experiment["builds"]}
    builds["new"] = {**builds["new"], "patches": ["third.patch"]}
    file = provisioned.directory / "explain.yml"
    file.write_text(yaml.safe_dump({"name": "explain", **provisioned.experiment, "builds": builds}))
    done = CliRunner().invoke(
        cli, ["builds", "explain", str(file), "--state-dir", str(provisioned.state)], catch_exceptions=False
    )
    source = provisioned.first.builds["new"].source
    assert source
    assert (
        f"old: in the cache as {Path(provisioned.first.builds['old'].emulator).parents[1].name}"
        in done.output
    )
    assert "new: not in the cache (" in done.output
    assert "patches: wanted" in done.output
    assert "packed: in the cache" in done.output


def test_a_compile_error_reaches_the_user(provisioned: Provisioned) -> None:
    (provisioned.directory / "broken.patch").write_text(patch("no_such_size"))
    builds = {"new": {**provisioned.experiment["builds"]["new"], "patches": ["broken.patch"]}}
    before = builds_in(provisioned.state)
    with pytest.raises(ProvisionError) as caught:
        provisioned.provisioner({**provisioned.experiment, "builds": builds})
    message = str(caught.value)
    assert "Compile new" in message
    assert "pool.c:3:12: error: 'no_such_size' undeclared" in message
    assert "the whole log: " in message
    assert builds_in(provisioned.state) == before


def test_what_is_compiled_ends_with_an_interrupted_provision(provisioned: Provisioned) -> None:
    directory = provisioned.directory
    begun, gate, compiler = directory / "begun", directory / "gate", directory / "slow-cc"
    wait = f"echo $$ >> {begun}; while [ ! -e {gate} ]; do sleep 0.05; done"
    compiler.write_text(f'#!/bin/sh\ncase "$*" in *pool.c*) {wait} ;; esac\nexec cc "$@"\n')
    compiler.chmod(0o755)
    build = {**provisioned.experiment["builds"]["old"], "configure": [f"--cc={compiler}"]}
    experiment = {**provisioned.experiment, "builds": {"old": build}}
    with pytest.raises(Interrupted):
        provisioned.provisioner(experiment, cancelled=begun.exists)
    compiling = begun.read_text().split()[0]
    deadline = time.monotonic() + 60
    while runs(compiling):
        assert time.monotonic() < deadline, "the compiler goes on"
        time.sleep(0.05)
    gate.touch()
    assert provisioned.provisioner(experiment).changed > 0
