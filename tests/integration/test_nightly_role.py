"""The nightly job as Ansible installs it, and as pipelines run it."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.ansible

TOP = Path(__file__).resolve().parents[2]
TOOLS = Path(sys.executable).parent
PIPELINES = {
    "github-actions.yml": ["--builtin-schema", "vendor.github-workflows"],
    "gitlab-ci.yml": ["--builtin-schema", "vendor.gitlab-ci", "--data-transform", "gitlab-ci"],
}


@dataclass(frozen=True)
class Host:
    """This machine, with directories of the test's in the place of the system's."""

    top: Path

    def play(self, *options: str) -> str:
        me = pwd.getpwuid(os.geteuid()).pw_name
        variables = {
            "experiment": TOP / "fio/quick.yml",
            "harness_command": TOOLS / "harness",
            "harness_state_dir": self.top / "state",
            "nightly_state_dir": self.top / "nightly",
            "nightly_config_dir": self.top / "etc",
            "nightly_unit_dir": self.top / "units",
            "nightly_tmpfiles_dir": self.top / "tmpfiles",
            "nightly_lock": self.top / "lock",
            "nightly_user": me,
            "nightly_on_failure": "mail@%n.service",
        }
        argv = [
            str(TOOLS / "ansible-playbook"),
            "-i",
            "inventory/local.yml",
            "playbooks/nightly.yml",
            *options,
        ]
        argv += [word for name, value in variables.items() for word in ("-e", f"{name}={value}")]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=TOP)
        assert done.returncode == 0, done.stdout + done.stderr
        recap = re.search(r"changed=(\d+)", done.stdout)
        assert recap is not None
        return recap[1]

    def verify(self) -> subprocess.CompletedProcess[str]:
        tool = shutil.which("systemd-analyze")
        assert tool is not None, "systemd-analyze is missing: apt-get install systemd"
        units = [str(path) for path in sorted((self.top / "units").glob("qemu-ab-nightly.*"))]
        assert len(units) == 2
        return subprocess.run([tool, "verify", *units], capture_output=True, text=True, check=False)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    for name in ("units", "tmpfiles"):
        (tmp_path / name).mkdir()
    (tmp_path / "units/mail@.service").write_text("[Service]\nExecStart=/bin/true\n")
    return Host(tmp_path)


def test_units_are_what_systemd_takes_and_are_written_once(host: Host) -> None:
    assert host.play("--check") != "0"
    assert not (host.top / "units/qemu-ab-nightly.timer").exists()
    assert host.play() != "0"
    verified = host.verify()
    assert (verified.returncode, verified.stderr) == (0, "")
    service = (host.top / "units/qemu-ab-nightly.service").read_text()
    (command,) = re.findall(r"^ExecStart=((?:.*\\\n)*.*)$", service, re.MULTILINE)
    words = command.replace("\\\n", " ").split()
    # What systemd would start is a command that the harness understands: with --help it says so.
    done = subprocess.run([*words, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert words[2] == str(host.top / "etc/qemu-ab-nightly.yml")
    assert Path(words[2]).read_text() == (TOP / "fio/quick.yml").read_text()
    assert host.play() == "0"


def test_a_unit_that_systemd_would_not_take_is_found(host: Host) -> None:
    host.play()
    service = host.top / "units/qemu-ab-nightly.service"
    service.write_text(service.read_text().replace("Type=oneshot", "Type=nosuch"))
    assert "nosuch" in host.verify().stderr


@pytest.mark.parametrize("name", PIPELINES)
def test_pipelines_are_what_their_schemas_allow(name: str) -> None:
    argv = [str(TOOLS / "check-jsonschema"), *PIPELINES[name], str(TOP / "pipelines" / name)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", PIPELINES)
def test_pipelines_call_verbs_and_options_that_exist(name: str) -> None:
    text = (TOP / "pipelines" / name).read_text()
    calls = re.findall(r'"?\$HARNESS"? ([a-z]+)((?: [^\n&"\']+)?)', text)
    assert {verb for verb, _rest in calls} >= {"run", "export", "report", "history"}
    for verb, rest in calls:
        group = ["history", "add"] if verb == "history" else [verb]
        shown = subprocess.run(
            [str(TOOLS / "harness"), *group, "--help"], capture_output=True, text=True, check=False
        )
        assert shown.returncode == 0, shown.stderr
        for option in re.findall(r"(?<!\S)(--?[a-z-]+)", rest):
            assert re.search(rf"(?<![\w-]){option}\b", shown.stdout), f"{verb} {option}"
