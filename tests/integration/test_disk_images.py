"""Copies of users' disk images, by the real qemu-img."""

from __future__ import annotations

import os
import stat
import subprocess
from typing import TYPE_CHECKING

from harness.adapters.guest.image import copy_image, make_overlay, pin

if TYPE_CHECKING:
    from pathlib import Path


def test_a_copy_and_its_overlays_are_not_for_other_users(tmp_path: Path) -> None:
    image, copy, overlay = (tmp_path / name for name in ("image.qcow2", "copy.qcow2", "overlay.qcow2"))
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(image), "4M"], check=True)
    before = os.umask(0o022)
    try:
        copy_image(pin(image, tmp_path / "hashes.json"), copy)
        make_overlay(copy, overlay)
    finally:
        os.umask(before)
    assert [stat.S_IMODE(disk.stat().st_mode) for disk in (copy, overlay)] == [0o600, 0o600]
    shown = subprocess.run(["qemu-img", "info", str(overlay)], capture_output=True, text=True, check=True)
    assert f"backing file: {copy}" in shown.stdout
