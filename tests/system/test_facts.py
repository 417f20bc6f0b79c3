"""What real sessions record, and what becomes of verdicts when they disagree."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import EXPERIMENT, ROOT, harness
from tiny import sessions

from harness.adapters.files import sha256_of
from resealed import reseal, write_sealed

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.system]

MARKER = "hunter2-only-in-the-environment"


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of both builds with enough blocks for a verdict on its one cell, a marker in its environment."""
    place = tmp_path_factory.mktemp("facts")
    text = EXPERIMENT.replace("name: quick", "name: facts").replace("blocks: 2", "blocks: 6")
    (place / "x.yml").write_text(text)
    run = place / "run"
    done = subprocess.run(
        [sys.executable, "-m", "harness", "run", place / "x.yml", "--run-dir", run],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
        cwd=ROOT,
        env={**os.environ, "SECRET_MARKER": MARKER},
    )
    assert done.returncode == 0, done.stderr
    return run


@pytest.fixture
def run(measured: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of it to tamper with."""
    copy = tmp_path / "run"
    shutil.copytree(measured, copy)
    yield copy
    shutil.rmtree(copy)


def verdicts(run: Path, *options: str) -> tuple[set[str | None], str]:
    data = json.loads(harness("compare", str(run), "--format", "json", *options).stdout)
    return {cell["verdict"] for cell in data["cells"]}, " ".join(data["warnings"])


def change(run: Path, number: int, **facts: Any) -> None:
    path = sorted(run.glob("sessions/*/session.json"))[number]
    record = json.loads(path.read_text())
    record["boots"][0]["facts"].update(facts)
    write_sealed(path, record)


def test_an_ordinary_run_of_two_builds_gets_verdicts(measured: Path) -> None:
    found, warnings = verdicts(measured)
    assert None not in found
    assert "no verdict" not in warnings
    shown = json.loads(harness("show", str(measured), "--json").stdout)
    assert shown["agreement"]["disagreements"] == []
    differences = {entry["what"]: entry["values"] for entry in shown["agreement"]["differences"]}
    assert {"sha256", "qemu.version", "qemu.machine", "libraries"} < set(differences)
    assert differences["qemu.machine"] == {"OLD": "pc-q35-7.2", "NEW": "pc-q35-10.0"}
    assert differences["qemu.devices.disk0.iothread-vq-mapping"] == {"OLD": None, "NEW": []}


def test_every_session_records_what_it_ran_on(measured: Path) -> None:
    for record in sessions(measured):
        facts = record["boots"][0]["facts"]
        number = "7.2" if record["variant"] == "OLD" else "10.0"
        qemu, guest = facts["qemu"], facts["guest"]
        assert qemu["version"].startswith(number)
        assert (qemu["machine"], qemu["cpus"]) == (f"pc-q35-{number}", 1)
        assert qemu["kvm"]["enabled"] is (facts["accel"] == "kvm")
        assert qemu["block_nodes"]["disk0"]["driver"] == "null-co"
        assert qemu["iothreads"]["iothread1"]["poll-max-ns"] == 32768
        disk = qemu["devices"]["disk0"]
        assert (disk["num-queues"], disk["queue-size"]) == (1, 128)
        assert (disk["iothread"], disk["event_idx"]) == ("/objects/iothread1", True)
        assert guest["command_line"].startswith("console=ttyS0")
        assert "virtio_blk" in guest["modules"]
        assert (guest["cpus"], guest["disk"]["hw_queues"]) == ("0", "1")
        assert int(guest["disk"]["nr_requests"]) > 0
        assert 28 in guest["disk"]["features"], "indirect descriptors were agreed on"
        assert facts["host"]["vm.max_map_count"] == Path("/proc/sys/vm/max_map_count").read_text().strip()


def test_the_libraries_are_those_of_the_build(measured: Path) -> None:
    facts = sessions(measured)[0]["boots"][0]["facts"]
    libraries = facts["libraries"]
    assert all(libraries.values()), "each could be read"
    (glib,) = [path for path in libraries if "libglib-2.0" in path]
    notes = subprocess.run(["readelf", "-n", glib], capture_output=True, text=True, check=True).stdout
    assert libraries[glib] == f"build-id:{notes.partition('Build ID: ')[2].split()[0]}"
    assert facts["sha256"] == sha256_of(facts["exe"])


def test_the_host_is_described(measured: Path) -> None:
    environment = json.loads((measured / "environment.json").read_text())
    assert environment["host"]["topology"]["cores"] >= 1
    assert environment["host"]["mitigations"]
    assert "governor" in environment["host"]["settings"]
    assert {"libvirt", "python", "harness", "harness_commit"} < set(environment)


def test_no_variable_of_the_environment_is_recorded(measured: Path) -> None:
    files = [path for path in measured.rglob("*") if path.is_file()]
    assert len(files) > 30
    assert [path for path in files if MARKER.encode() in path.read_bytes()] == []


def test_a_setting_that_drifted_forbids_verdicts_until_it_is_accepted(run: Path) -> None:
    facts = sessions(run)[4]["boots"][0]["facts"]
    change(run, 4, host={**facts["host"], "ksm": "1"})
    found, warnings = verdicts(run)
    assert found == {None}
    assert "host.ksm differs" in warnings
    assert harness("compare", str(run), "--fail-on", "unclear").returncode == 4
    found, warnings = verdicts(run, "--accept-differences")
    assert None not in found
    assert "accepted: host.ksm differs" in warnings


def test_a_domain_that_differs_forbids_verdicts_until_it_is_accepted(run: Path) -> None:
    path = sorted(run.glob("sessions/*/domain.xml"))[2]
    path.write_text(path.read_text().replace("num-queues=1", "num-queues=4"))
    reseal(run)
    found, warnings = verdicts(run)
    assert found == {None}
    assert "domain setting domain/" in warnings
    assert "num-queues=4" in harness("show", str(run)).stdout
    assert None not in verdicts(run, "--accept-differences")[0]


def test_a_run_of_before_these_facts_is_still_judged(run: Path) -> None:
    for path in run.glob("sessions/*/session.json"):
        record = json.loads(path.read_text())
        for name in ("qemu", "guest", "host", "libraries"):
            record["boots"][0]["facts"].pop(name)
        write_sealed(path, record)
    assert None not in verdicts(run)[0]
    assert harness("show", str(run)).returncode == 0
