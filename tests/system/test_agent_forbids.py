"""A guest whose agent forbids guest-exec, as RHEL's does: what a user is told."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from support import run_alone
from tiny import NAME, TINY

pytest_plugins = ["tiny_fixtures"]
pytestmark = [pytest.mark.system, pytest.mark.usefixtures("no_guest_left")]


def test_an_agent_that_forbids_guest_exec_names_ssh(
    provisioned: Path, fresh_state: Path, image: dict[str, str], place: Path
) -> None:
    init = place / "init"
    script = Path(__file__).parents[2] / "playbooks/roles/guest_image/files/init"
    forbidding = script.read_text().replace("qemu-ga -m", "qemu-ga --blacklist=guest-exec -m")
    assert forbidding != script.read_text()
    init.write_text(forbidding)
    init.chmod(0o755)
    # The kernel unpacks one archive after the other: the last /init is the one that runs.
    archive = subprocess.run(
        ["cpio", "--quiet", "-o", "-H", "newc"], input=b"init\n", cwd=place, capture_output=True, check=True
    ).stdout
    initrd = place / "initramfs.cpio"
    initrd.write_bytes(Path(image["initrd"]).read_bytes() + archive)
    experiment = place / f"{NAME}.yml"
    experiment.write_text(
        TINY.replace("vcpus: 1", f"vcpus: 1, kernel: {image['kernel']}, initrd: {initrd}") + "accel: tcg\n"
    )
    assert provisioned.exists()
    done = run_alone(
        str(experiment), "--no-provision", "--state-dir", str(fresh_state), "--run-dir", str(place / "run")
    )
    assert done.returncode == 1
    said = " ".join(done.stderr.split())
    assert "guest-exec has been disabled" in said
    assert "write `connection: ssh`" in said
