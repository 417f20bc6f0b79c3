"""The disk image that tests and benchmarks boot: made once, by its recipe."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from harness.adapters.workspace import Workspace

RECIPE = Path(__file__).parent / "guest_image" / "build.sh"


def cloud_image() -> Path:
    """Return a Debian with boot loader, systemd, cloud-init, sshd, guest agent and fio (qcow2)."""
    name = hashlib.sha256(RECIPE.read_bytes()).hexdigest()[:12]
    image = Workspace.at().state / "test-images" / f"{name}.qcow2"
    if not image.exists():
        done = subprocess.run(["sh", str(RECIPE), str(image)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return image
