"""ansible-runner's artifacts hold the environment: nobody else reads them, and nothing of them stays."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

import pytest
from test_provision import NO_IMAGE, STATE, TOP

from harness.adapters.provision import provision
from harness.core.errors import ProvisionError

if TYPE_CHECKING:
    from pathlib import Path

    from harness.adapters.playbook_events import TaskEvent

pytestmark = pytest.mark.ansible

SECRET = "a-token-nobody-may-see"  # noqa: S105 - it is none


@pytest.mark.parametrize("works", [True, False], ids=["works", "fails"])
def test_the_environment_stays_with_its_user_and_is_gone_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, works: bool
) -> None:
    emulator = next(iter(sorted(STATE.glob("builds/*/bin/qemu-system-*"))), None)
    assert emulator, f"no builds in {STATE}; run `harness provision fio/quick.yml` first"
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("CI_TOKEN", SECRET)
    file = tmp_path / "experiment.yml"
    path = emulator if works else "/bin/true"
    file.write_text(f"name: try\nbuilds: {{OLD: {{path: {path}}}}}\nguest: {NO_IMAGE['guest']}\n")
    modes: set[int] = set()

    def look(_event: TaskEvent) -> None:
        modes.update(entry.stat().st_mode & 0o777 for entry in temporary.glob("ab-scratch-*"))

    def converge() -> None:
        provision(
            experiment_file=file,
            experiment_dir=tmp_path,
            state_dir=tmp_path / "state",
            manifest=tmp_path / "state" / "manifest.json",
            playbooks=TOP / "playbooks",
            inventory=TOP / "inventory/local.yml",
            on_task=look,
            cancelled=lambda: False,
        )

    if works:
        converge()
    else:
        with pytest.raises(ProvisionError):
            converge()
    assert modes == {0o700}
    assert not list(temporary.glob("ab-scratch-*"))
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert kept
    assert not [path for path in kept if SECRET.encode() in path.read_bytes()]
