"""Real playbooks through the real ansible-runner on this machine.

`make test` provisions fio/quick.yml first. Its builds serve here as they are: nothing is downloaded.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml
from provisioner import Provisioner

from harness.adapters.playbook_events import TaskStatus
from harness.core.errors import Interrupted, ProvisionError

pytestmark = pytest.mark.ansible

TOP = Path(__file__).resolve().parents[2]
STATE = Path(
    "/var/lib/qemu-ab-harness" if os.geteuid() == 0 else "~/.local/state/qemu-ab-harness"
).expanduser()


@pytest.fixture
def fresh(tmp_path: Path) -> Provisioner:
    """A state directory with nothing in it."""
    return Provisioner(tmp_path, tmp_path / "state")


@pytest.fixture
def provisioned(tmp_path: Path) -> Provisioner:
    """The state directory that `make test` has provisioned."""
    assert (STATE / "builds").is_dir(), f"nothing in {STATE}; run `harness provision fio/quick.yml` first"
    return Provisioner(tmp_path, STATE)


@pytest.fixture
def qemu(provisioned: Provisioner) -> str:
    """An emulator of the provisioned ones."""
    launchers = sorted(provisioned.state.glob("builds/*/bin/qemu-system-*"))
    assert launchers, f"no builds in {provisioned.state}"
    return str(launchers[0])


NO_IMAGE = {"guest": {"kernel": "/boot/mine", "initrd": "/boot/mine"}}


def test_path_that_is_not_qemu_fails_with_task_host_and_message(fresh: Provisioner) -> None:
    with pytest.raises(ProvisionError) as caught:
        fresh({"builds": {"OLD": {"path": "/bin/true"}}, **NO_IMAGE})
    message = str(caught.value)
    assert "task 'qemu_build : Pin build OLD' failed on localhost" in message
    assert "build OLD (/bin/true): not a QEMU emulator" in message
    assert [event.task for event in fresh.events if event.status is TaskStatus.FAILED] == ["Pin build OLD"]
    assert not fresh.manifest.exists()


@pytest.mark.parametrize(
    ("mode", "reason"), [(None, "does not exist"), (0o644, "is not executable")], ids=["missing", "mode"]
)
def test_path_that_cannot_be_run_says_why(
    fresh: Provisioner, tmp_path: Path, mode: int | None, reason: str
) -> None:
    path = tmp_path / "qemu"
    if mode is not None:
        path.write_text("#!/bin/sh\n", encoding="utf-8")
        path.chmod(mode)
    with pytest.raises(ProvisionError, match=reason):
        fresh({"builds": {"NEW": {"path": str(path)}}, **NO_IMAGE})


@pytest.mark.skipif(not Path("/usr/bin/apt-get").exists(), reason="names Debian's suites")
@pytest.mark.parametrize(
    ("build", "words"),
    [
        ({"package": "qemu-nosuch"}, ["package qemu-nosuch", "no such package"]),
        (
            {"package": "qemu-system-x86", "version": "1:0.1"},
            ["version 1:0.1", "no such version; the mirror has"],
        ),
        ({"package": "qemu-system-x86", "suite": "nosuch"}, ["suite nosuch", "not on this machine's mirror"]),
    ],
    ids=["package", "version", "suite"],
)
def test_package_that_is_not_there_is_named_with_a_remedy(
    provisioned: Provisioner, build: dict[str, str], words: list[str]
) -> None:
    with pytest.raises(ProvisionError) as caught:
        provisioned({"builds": {"OLD": build}, **NO_IMAGE})
    for word in [*words, "Unpack packages", "localhost"]:
        assert word in str(caught.value)


def test_second_provision_of_a_path_changes_nothing(
    fresh: Provisioner, provisioned: Provisioner, qemu: str
) -> None:
    assert provisioned.state != fresh.state
    experiment = {"builds": {"OLD": {"path": qemu}}, **NO_IMAGE}
    first, second = fresh(experiment), fresh(experiment)
    assert first.changed > 0
    assert second.changed == 0
    assert second.builds == first.builds
    assert second.guest_image is None
    record = second.builds["OLD"]
    assert record.kind == "path"
    assert record.package_version is None
    assert record.sha256 == hashlib.sha256(Path(record.binary).read_bytes()).hexdigest()


def test_provisioned_packages_are_pinned_and_stay(provisioned: Provisioner) -> None:
    experiment = yaml.safe_load((TOP / "fio/quick.yml").read_text(encoding="utf-8"))
    result = provisioned(experiment)
    # The manifest lies in this test's directory; all else is there already.
    assert [event.task for event in provisioned.events if event.status is TaskStatus.CHANGED] == [
        "Write the manifest"
    ]
    assert provisioned(experiment).changed == 0
    for record in result.builds.values():
        kept = json.loads((Path(record.emulator).parents[1] / "build.json").read_text(encoding="utf-8"))
        assert kept == {
            "kind": "package",
            "emulator": record.emulator,
            "binary": record.binary,
            "sha256": hashlib.sha256(Path(record.binary).read_bytes()).hexdigest(),
            "version": record.version,
            "package_version": record.package_version,
        }
        shown = subprocess.run([record.emulator, "--version"], capture_output=True, text=True, check=True)
        assert shown.stdout.startswith(record.version)
    image = result.guest_image
    assert image is not None
    content = Path(image.kernel).read_bytes() + Path(image.initrd).read_bytes()
    assert image.sha256 == hashlib.sha256(content).hexdigest()


def test_cancelled_provision_is_an_interruption(fresh: Provisioner) -> None:
    with pytest.raises(Interrupted):
        fresh({"builds": {"OLD": {"path": "/bin/true"}}, **NO_IMAGE}, patience=0.5)


def test_build_of_no_known_kind_is_refused(fresh: Provisioner) -> None:
    with pytest.raises(ProvisionError, match="exactly one of path, package"):
        fresh({"builds": {"OLD": {"paht": "/bin/true"}}, **NO_IMAGE})
