"""What the doctor says of a host, with libvirt and the host's files faked."""

from __future__ import annotations

import errno
import json
import os
import shutil
from typing import TYPE_CHECKING, Any, ClassVar, Self

import pytest

from harness.adapters import hypervisor
from harness.adapters.files import make_directory, write_json
from harness.adapters.host import accel as accel_module
from harness.adapters.host.accel import decide
from harness.adapters.host.locks import host_alone
from harness.adapters.telemetry.counters import Offer
from harness.adapters.workspace import Workspace
from harness.core.errors import GuestError, HypervisorError
from harness.core.model import Accel
from harness.core.perf_events import HARDWARE_EVENTS, refusal
from harness.shell import doctor
from harness.shell.cli.main import run_cli
from harness.shell.doctor import Finding, Health, examine

if TYPE_CHECKING:
    from pathlib import Path


class FakeHypervisor:
    """libvirt, there or not."""

    error: ClassVar[HypervisorError | None] = None
    version = "9.0.0"

    def __init__(self, _uri: str, _root: Path) -> None:
        if self.error:
            raise self.error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        """Nothing was opened."""


pytestmark = pytest.mark.usefixtures("host_lock")
SETTINGS: dict[str, str] = {}


@pytest.fixture(autouse=True)
def healthy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    SETTINGS.clear()
    SETTINGS["/proc/sys/vm/max_map_count"] = "65530"
    monkeypatch.setattr(hypervisor, "Hypervisor", FakeHypervisor)
    monkeypatch.setattr(FakeHypervisor, "error", None)
    monkeypatch.setattr(doctor, "read_setting", SETTINGS.get)
    monkeypatch.setattr(doctor, "free_bytes", lambda _path: 10 * 2**30)
    monkeypatch.setattr(shutil, "which", lambda _name: "/usr/bin/fio")
    device = tmp_path / "kvm"
    device.touch()
    monkeypatch.setattr(accel_module, "KVM_DEVICE", device)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.at(make_directory(tmp_path / "state"))


def provision(workspace: Workspace) -> None:
    make_directory(workspace.state / "manifests")
    builds = {name: {"sha256": f"{name}{'0' * 61}", "version": f"QEMU of {name}"} for name in ("OLD", "NEW")}
    write_json(workspace.manifest("quick"), {"builds": builds})


def find(workspace: Workspace, what: str) -> list[Finding]:
    return [finding for finding in examine(workspace) if finding.what == what]


def test_it_looks_at_everything_a_run_needs(workspace: Workspace) -> None:
    looked_at = [finding.what for finding in examine(workspace)]
    expected = ["CPU", "KVM", "libvirt", "QEMU", "fio", "valgrind", "strace"]
    assert looked_at == [*expected, "hardware counters", "disk space", "vm.max_map_count"]


def test_hardware_counters_that_are_not_there_are_named_with_a_remedy(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = refusal(errno.ENOENT, paranoid="2")
    monkeypatch.setattr(doctor, "offer", lambda _tid: Offer((), refused))
    (none,) = find(workspace, "hardware counters")
    assert (none.health, none.remedy) == (Health.NOTE, refused.remedy)
    assert "no hardware counters" in none.found
    monkeypatch.setattr(doctor, "offer", lambda _tid: Offer(HARDWARE_EVENTS[:2], refused))
    (half,) = find(workspace, "hardware counters")
    assert half.found.startswith("in user mode only: ")
    monkeypatch.setattr(doctor, "offer", lambda _tid: Offer(HARDWARE_EVENTS))
    (both,) = find(workspace, "hardware counters")
    assert both.health is Health.OK


def test_libvirt_that_does_not_work_is_broken_with_a_remedy(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find(workspace, "libvirt") == [Finding("libvirt", Health.OK, "qemu:///embed works, version 9.0.0")]
    monkeypatch.setattr(FakeHypervisor, "error", HypervisorError("cannot connect", remedy="install it"))
    assert find(workspace, "libvirt") == [Finding("libvirt", Health.BROKEN, "cannot connect", "install it")]
    monkeypatch.setattr(FakeHypervisor, "error", HypervisorError("cannot connect"))
    assert "harness provision" in str(find(workspace, "libvirt")[0].remedy)


def test_a_run_that_goes_on_is_named_and_left_alone(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(FakeHypervisor, "error", HypervisorError("in use by another process"))
    with host_alone():
        (host,), (libvirt,) = find(workspace, "host"), find(workspace, "libvirt")
        assert run_cli(["doctor", "--state-dir", str(workspace.state)]) == 0
    assert host.health is libvirt.health is Health.NOTE
    assert host.found.startswith(f"a run is going on: process {os.getpid()} (")
    assert "in use by the run" in libvirt.found
    assert "disk space" in capsys.readouterr().out
    assert find(workspace, "host") == []


def test_kvm_is_judged_by_what_booted_and_not_by_the_device(workspace: Workspace) -> None:
    (untried,) = find(workspace, "KVM")
    assert (untried.health, untried.found) == (Health.NOTE, "/dev/kvm is there, but not tried yet")

    def broken() -> None:
        raise GuestError("no answer")

    decide(Accel.AUTO, cache=workspace.accel_cache, boots_under_kvm=broken, say=lambda _text: None)
    (tried,) = find(workspace, "KVM")
    assert tried.health is Health.NOTE
    assert "runs fall back to TCG: /dev/kvm is there, but no guest boots under it (no answer)" in tried.found
    assert f"delete {workspace.accel_cache}" in str(tried.remedy)
    workspace.accel_cache.unlink()
    decide(Accel.AUTO, cache=workspace.accel_cache, boots_under_kvm=lambda: None, say=lambda _text: None)
    assert find(workspace, "KVM") == [Finding("KVM", Health.OK, "a guest booted under KVM")]


def test_a_host_without_kvm_is_told_so(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(accel_module, "KVM_DEVICE", tmp_path / "absent")
    assert find(workspace, "KVM")[0].found == "/dev/kvm is not there"


def test_builds_are_shown_once_each_and_a_damaged_list_is_broken(workspace: Workspace) -> None:
    assert find(workspace, "QEMU")[0].found == "no build is provisioned yet"
    provision(workspace)
    shutil.copy(workspace.manifest("quick"), workspace.manifest("other"))
    assert [finding.found for finding in find(workspace, "QEMU")] == [
        "QEMU of OLD [OLD000000000]",
        "QEMU of NEW [NEW000000000]",
    ]
    for content in ("{", "[]", '{"builds": {"OLD": {}}}', '{"builds": 5}'):
        workspace.manifest("other").write_text(content)
        (finding,) = find(workspace, "QEMU")
        assert (finding.health, finding.found) == (
            Health.BROKEN,
            f"{workspace.manifest('other')} is damaged",
        )


@pytest.mark.parametrize(
    ("value", "health", "words"),
    [
        ("65530", Health.OK, "65530"),
        ("1048576", Health.NOTE, "1048576: above the default of 65530, which hides"),
        (None, Health.NOTE, "could not be read"),
    ],
)
def test_a_raised_max_map_count_is_pointed_out(
    workspace: Workspace, value: str | None, health: Health, words: str
) -> None:
    SETTINGS.clear()
    if value:
        SETTINGS["/proc/sys/vm/max_map_count"] = value
    (finding,) = find(workspace, "vm.max_map_count")
    assert finding.health is health
    assert words in finding.found


def test_little_space_and_no_fio_are_pointed_out(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "free_bytes", lambda _path: 2**30)
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    (space,), (fio,) = find(workspace, "disk space"), find(workspace, "fio")
    assert (space.health, space.found) == (Health.NOTE, f"1.0 GiB free for {workspace.state}")
    assert (fio.health, fio.found) == (Health.NOTE, "not installed here")
    assert space.remedy
    assert fio.remedy


def test_the_command_prints_lines_or_json_and_fails_only_on_what_is_broken(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state = ["--state-dir", str(workspace.state)]
    assert run_cli(["doctor", *state]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("ok       libvirt") for line in lines)
    assert any(line.strip().startswith("-> ") for line in lines)
    monkeypatch.setattr(FakeHypervisor, "error", HypervisorError("cannot connect"))
    assert run_cli(["doctor", "--json", *state]) == 1
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    assert [entry["what"] for entry in found if entry["health"] == "broken"] == ["libvirt"]
