"""Which of the distribution's packages an experiment asks for: those that it uses, and no others."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.ansible

TOP = Path(__file__).resolve().parents[2]
GUEST = {"libvirt-daemon-driver-qemu", "fio"}
SOURCE = {"gcc", "ninja-build", "libglib2.0-dev"}
COUNT = {"valgrind"}


def asked(place: Path, playbook: str, experiment: Path) -> set[str]:
    """Return the packages that a playbook asks the distribution about, without changing anything."""
    program, log = place / "bin" / "dpkg-query", place / "asked"
    real = shutil.which("dpkg-query")
    assert real is not None, "dpkg-query is missing: this test is for Debian"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >>{log}\nexec {real} "$@"\n')
    program.chmod(0o755)
    variables = {
        "experiment": experiment,
        "harness_state_dir": place / "state",
        "harness_command": "/bin/true",
    }
    argv = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "inventory/local.yml", "--check"]
    argv += [word for name, value in variables.items() for word in ("-e", f"{name}={value}")]
    path = f"{program.parent}:{os.environ['PATH']}"
    subprocess.run(
        [*argv, playbook], cwd=TOP, env=os.environ | {"PATH": path}, capture_output=True, check=False
    )
    return set(log.read_text().split())


def test_a_night_gets_what_its_builds_need_since_its_service_may_install_nothing(tmp_path: Path) -> None:
    assert asked(tmp_path, "playbooks/nightly.yml", TOP / "fio/patch.yml") >= GUEST | SOURCE


@pytest.mark.parametrize("name", ["instructions", "pool-guestless"])
def test_what_boots_no_guest_needs_no_libvirt(tmp_path: Path, name: str) -> None:
    found = asked(tmp_path, "playbooks/provision.yml", TOP / f"fio/{name}.yml")
    assert "patchelf" in found
    assert not found & (GUEST | SOURCE)
    assert (found >= COUNT) == (name == "instructions")


def test_what_boots_guests_needs_libvirt_and_no_compiler(tmp_path: Path) -> None:
    found = asked(tmp_path, "playbooks/provision.yml", TOP / "fio/quick.yml")
    assert found >= GUEST
    assert not found & (SOURCE | COUNT)
