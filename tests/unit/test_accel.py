"""Which accelerator works: decided by a guest that boots, once a host, and remembered."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from harness.adapters.host import accel as accel_module
from harness.adapters.host.accel import PROBE_SECONDS, AccelDecision, decide, probe_seconds, remembered
from harness.core.errors import GuestError, HarnessError, HypervisorError, Interrupted
from harness.core.model import Accel

if TYPE_CHECKING:
    from pathlib import Path

PANIC = "the guest on OLD did not answer within 12 s of its start; its console ends:\nProbing EDD"


@dataclass
class Host:
    """A host whose /dev/kvm is a file of the test's."""

    cache: Path
    error: HarnessError | None = None
    probes: int = 0
    said: list[str] = field(default_factory=list)

    def decide(self, wanted: Accel = Accel.AUTO) -> AccelDecision:
        return decide(wanted, cache=self.cache, boots_under_kvm=self._boot, say=self.said.append)

    def _boot(self) -> None:
        self.probes += 1
        if self.error:
            raise self.error


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    device = tmp_path / "kvm"
    device.touch()
    monkeypatch.setattr(accel_module, "KVM_DEVICE", device)
    return Host(tmp_path / "accel.json")


def test_kvm_under_which_a_guest_boots_is_used_and_not_tried_again(host: Host) -> None:
    assert host.decide() == AccelDecision(Accel.KVM, "a guest booted under KVM")
    assert host.decide(Accel.KVM).accel is Accel.KVM
    assert host.probes == 1
    assert len(host.said) == 1
    assert "booting a guest" in host.said[0]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (GuestError(PANIC), "the guest on OLD did not answer within 12 s of its start)"),
        (
            HypervisorError("internal error: process exited\nqemu-system-x86_64: error: kvm: no such vcpu"),
            "(kvm: no such vcpu)",
        ),
    ],
)
def test_kvm_that_opens_but_boots_nothing_is_found_out_once(
    host: Host, error: HarnessError, words: str
) -> None:
    host.error = error
    decision = host.decide()
    assert decision.accel is Accel.TCG
    assert "/dev/kvm is there, but no guest boots under it" in decision.reason
    assert words in decision.reason
    assert "\n" not in decision.reason
    assert host.decide() == decision
    assert host.probes == 1


def test_without_kvm_no_guest_is_booted(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accel_module, "KVM_DEVICE", host.cache.parent / "absent")
    assert host.decide() == AccelDecision(Accel.TCG, "this host has no /dev/kvm")
    assert host.probes == 0


def test_a_device_this_user_may_not_open_is_explained(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    decision = host.decide()
    assert decision.accel is Accel.TCG
    assert "may not be opened by this user (join the group" in decision.reason
    assert host.probes == 0


def test_a_device_that_may_be_opened_since_is_tried(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(os, "access", lambda _path, _mode: False)
        assert host.decide().accel is Accel.TCG
    assert host.decide().accel is Accel.KVM


@pytest.mark.parametrize("tried_before", [False, True])
def test_kvm_asked_for_and_broken_is_an_error_with_a_remedy(host: Host, *, tried_before: bool) -> None:
    host.error = GuestError(PANIC)
    if tried_before:
        host.decide()
    with pytest.raises(HarnessError, match="asks for KVM, but /dev/kvm is there") as caught:
        host.decide(Accel.KVM)
    assert f"delete {host.cache}" in str(caught.value.remedy)
    assert host.probes == 1


def test_tcg_asked_for_needs_no_probe(host: Host) -> None:
    assert host.decide(Accel.TCG) == AccelDecision(Accel.TCG, "the experiment asks for TCG")
    assert host.probes == 0
    assert not host.cache.exists()


@pytest.mark.parametrize("error", [Interrupted("interrupted"), HarnessError("No space left on device")])
def test_a_probe_that_decided_nothing_is_not_remembered(host: Host, error: HarnessError) -> None:
    host.error = error
    with pytest.raises(type(error)):
        host.decide()
    assert remembered(host.cache) is None
    host.error = None
    assert host.decide().accel is Accel.KVM


@pytest.mark.parametrize(
    "content",
    ["", "{torn", "[]", "5", "null", '{"host": {}}', '{"host": null, "accel": "kvm", "reason": "x"}'],
)
def test_a_damaged_memory_is_not_trusted(host: Host, content: str) -> None:
    host.cache.write_text(content)
    host.error = GuestError(PANIC)
    assert host.decide().accel is Accel.TCG
    assert host.probes == 1


@pytest.mark.parametrize(
    ("key", "value"), [("machine", "another"), ("kernel", "0.1"), ("cpu", "Zilog Z80"), ("kvm", False)]
)
def test_what_another_host_found_out_does_not_count_here(host: Host, key: str, value: object) -> None:
    host.decide()
    data = json.loads(host.cache.read_text())
    host.cache.write_text(json.dumps(data | {"host": data["host"] | {key: value}}))
    host.error = GuestError(PANIC)
    assert host.decide().accel is Accel.TCG
    assert host.probes == 2


def test_one_does_not_wait_long_where_kvm_is_unlikely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accel_module, "cpu_facts", lambda: {"virtualization": "vmx"})
    assert probe_seconds() == PROBE_SECONDS
    monkeypatch.setattr(accel_module, "cpu_facts", lambda: {"virtualization": None})
    assert probe_seconds() < PROBE_SECONDS / 2
