"""What ansible-runner says becomes task events; what a manifest says becomes builds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from harness.adapters.manifest import read_manifest
from harness.adapters.playbook_events import TaskEvent, TaskStatus, task_event
from harness.core.errors import HarnessError, InputError

if TYPE_CHECKING:
    from pathlib import Path

RECORD = {
    "kind": "package",
    "emulator": "/state/builds/q/bin/qemu-system-x86_64",
    "binary": "/state/builds/q/usr/bin/qemu-system-x86_64",
    "sha256": "ab" * 32,
    "version": "QEMU emulator version 7.2.22",
    "package_version": "1:7.2",
}
IMAGE = {
    "kernel": "/state/images/m/vmlinuz",
    "initrd": "/state/images/m/initramfs.cpio",
    "sha256": "cd" * 32,
    "kernel_version": "6.1.0",
    "fio_version": "fio-3.33",
}


def raw(kind: str, **result: Any) -> dict[str, Any]:
    data = {"host": "localhost", "role": "host", "task": "Install", "res": result}
    return {"event": kind, "event_data": data}


@pytest.mark.parametrize(
    ("event", "status"),
    [
        (raw("runner_on_ok"), TaskStatus.OK),
        (raw("runner_on_ok", changed=True), TaskStatus.CHANGED),
        (raw("runner_on_skipped"), TaskStatus.SKIPPED),
        (raw("runner_on_failed", msg="no"), TaskStatus.FAILED),
        (raw("runner_on_unreachable", msg="no"), TaskStatus.FAILED),
    ],
)
def test_event_tells_host_role_task_and_status(event: dict[str, Any], status: TaskStatus) -> None:
    message = "no" if status is TaskStatus.FAILED else ""
    assert task_event(event) == TaskEvent("localhost", "host", "Install", status, message)


def test_start_of_a_task_has_no_host() -> None:
    event = {"event": "playbook_on_task_start", "event_data": {"task": "Install", "name": "Install"}}
    assert task_event(event) == TaskEvent("", "", "Install", TaskStatus.STARTED)


def test_failure_that_the_playbook_ignores_is_none() -> None:
    event = raw("runner_on_failed", msg="no")
    event["event_data"]["ignore_errors"] = True
    step = task_event(event)
    assert step is not None
    assert step.status is TaskStatus.OK


@pytest.mark.parametrize("event", [{"event": "verbose", "stdout": "x"}, {"event": "playbook_on_stats"}, {}])
def test_other_events_are_of_no_interest(event: dict[str, Any]) -> None:
    assert task_event(event) is None


def test_message_of_a_failure_ends_with_the_last_lines_of_stderr() -> None:
    stderr = "\n".join(f"line {number}" for number in range(10))
    step = task_event(raw("runner_on_failed", msg="exit code 1", stderr=stderr, stdout="unseen"))
    assert step is not None
    assert step.message.splitlines() == ["exit code 1", *(f"  line {number}" for number in range(5, 10))]


def test_message_of_a_failure_falls_back_to_stdout_and_repeats_nothing() -> None:
    step = task_event(raw("runner_on_failed", msg="it said no", stderr="said no", stdout="why"))
    assert step is not None
    assert step.message == "it said no\n  why"


def test_failure_without_a_message_still_has_one() -> None:
    step = task_event(raw("runner_on_failed"))
    assert step is not None
    assert step.message == "failed without a message"


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_manifest_names_builds_and_image(tmp_path: Path) -> None:
    found = read_manifest(write(tmp_path / "m.json", {"builds": {"OLD": RECORD}, "guest_image": IMAGE}))
    assert found.builds["OLD"].name == "OLD"
    assert found.builds["OLD"].sha256 == "ab" * 32
    assert found.guest_image is not None
    assert found.guest_image.fio_version == "fio-3.33"


def test_manifest_of_an_experiment_with_its_own_kernel_has_no_image(tmp_path: Path) -> None:
    found = read_manifest(write(tmp_path / "m.json", {"builds": {}, "guest_image": None}))
    assert found.guest_image is None


def test_missing_manifest_is_the_users_to_make(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing is provisioned") as caught:
        read_manifest(tmp_path / "m.json")
    assert "harness provision" in str(caught.value.problems[0].remedy)


@pytest.mark.parametrize(
    "text",
    [
        "",
        '{"builds": {"OLD"',
        "[]",
        "null",
        '{"builds": {}}',
        '{"builds": [], "guest_image": null}',
        '{"builds": {"OLD": {"kind": "path"}}, "guest_image": null}',
        '{"builds": {}, "guest_image": {"kernel": "/k"}}',
    ],
)
def test_torn_manifest_is_named_with_a_remedy(tmp_path: Path, text: str) -> None:
    path = tmp_path / "m.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(HarnessError, match=r"m\.json is no manifest") as caught:
        read_manifest(path)
    assert caught.value.remedy is not None


def test_manifest_that_is_a_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="cannot read"):
        read_manifest(tmp_path)
