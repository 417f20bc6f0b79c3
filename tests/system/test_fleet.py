"""benchmark.yml on three hosts behind real sshd servers, one of which loses its power in the middle."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fleet_hosts import Fleet, Host, make_fleet
from support import ROOT, harness
from tiny import TINY, accepted, sessions, wait_until

from harness.adapters.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.system, pytest.mark.ansible]
pytest_plugins = ["tiny_fixtures"]

NAMES = ["kvm1", "kvm2", "kvm3"]
TINY_FLEET = TINY.replace("name: tiny", "name: tiny-fleet")


@pytest.fixture
def fleet(provisioned: Path) -> Iterator[Fleet]:
    """Three hosts that have what the tiny experiment needs."""
    assert provisioned.exists()
    directory = Path(tempfile.mkdtemp(prefix="ab-fleet-"))
    directory.chmod(0o755)
    made = make_fleet(directory, NAMES, state=Workspace.at().state, variables={})
    (directory / "tiny.yml").write_text(TINY_FLEET)
    try:
        yield made
    finally:
        made.power_off()
        shutil.rmtree(directory)


def playbook(fleet: Fleet, *more: str) -> subprocess.Popen[str]:
    """Start benchmark.yml as people do; a host may be away for five seconds."""
    variables = {
        "experiment": str(fleet.directory / "tiny.yml"),
        "harness_runs_dir": str(fleet.directory / "runs"),
        "fleet_patience_seconds": 5,
        "fleet_attempts": 1,
    }
    program = Path(sys.executable).with_name("ansible-playbook")
    given = ["-i", str(fleet.inventory), "-e", json.dumps(variables), *more]
    return subprocess.Popen(
        [str(program), "playbooks/benchmark.yml", *given],
        cwd=ROOT,
        env=os.environ | {"ANSIBLE_CONFIG": str(ROOT / "playbooks/ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Return a playbook's exit code and what it said."""
    said, _ = process.communicate(timeout=1200)
    return process.returncode, said


def on_host(host: Host) -> Path:
    """Return the run directory as it lies on a host."""
    return next((host.changed / "runs").glob("tiny-fleet-*[0-9a-f]"), host.changed / "none")


def head(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "run.json").read_text())
    return found


def changed_on(said: str, host: str) -> int:
    """Return the play recap's count of changes on a host."""
    found = re.search(rf"^{host} .* changed=(\d+)", said, re.MULTILINE)
    assert found, said
    return int(found[1])


def test_a_host_that_loses_its_power_is_named_and_goes_on_later(fleet: Fleet) -> None:
    for host in fleet.hosts.values():
        host.power_on()
    victim = fleet.hosts["kvm2"]

    first = playbook(fleet)
    wait_until(lambda: first.poll() is not None or len(accepted(on_host(victim))) >= 1, 900)
    assert first.poll() is None, ended(first)[1]
    victim.power_off()
    before = accepted(on_host(victim))
    code, said = ended(first)

    home = next((fleet.directory / "runs").iterdir())
    stands = json.loads((home / "fleet.json").read_text())["hosts"]
    assert {name: entry["state"] for name, entry in stands.items()} == {
        "kvm1": "done",
        "kvm2": "unreachable",
        "kvm3": "done",
    }, said
    assert code != 0
    assert "2 of 3 hosts done" in said
    assert re.search(r"kvm2 +unreachable .*(Connection|connect)", said)
    for name in ("kvm1", "kvm3"):
        assert head(home / name)["state"] == "finished"
        assert accepted(home / name) == [0, 1]
        # Alone on a host of its own, which says its own name.
        assert json.loads((home / name / "environment.json").read_text())["host"]["name"] == name
    assert not (home / "kvm2").exists()

    victim.power_on()
    code, said = ended(playbook(fleet))
    assert code == 0, said
    assert "3 of 3 hosts done" in said
    assert accepted(home / "kvm2") == [0, 1]
    # What was measured before the power was cut is kept: only the rest was booted again.
    boots = [len(record["boots"]) for record in sessions(home / "kvm2")]
    assert boots[: len(before)] == [1] * len(before)
    assert [changed_on(said, name) for name in ("kvm1", "kvm3")] == [0, 0]
    assert len({head(home / name)["run_id"] for name in NAMES}) == len(NAMES)

    compared = harness("compare", "--fleet", str(home), "--json")
    assert compared.returncode == 0, compared.stderr
    document = json.loads(compared.stdout)
    assert set(document["hosts"]) == set(NAMES)
    assert all(host["cells"][0]["n_blocks"] == 1 for host in document["hosts"].values())
