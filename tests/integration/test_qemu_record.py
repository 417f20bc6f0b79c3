"""The module that pins a build: what a QEMU said that did not answer."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.ansible

MODULE = Path(__file__).resolve().parents[2] / "playbooks" / "library" / "qemu_record.py"
VERSION = "QEMU emulator version 9.9.9"


def pin(emulator: Path) -> dict[str, str]:
    """Run the module by itself, as Ansible does."""
    arguments = {"build": "OLD", "kind": "path", "emulator": str(emulator)}
    done = subprocess.run(
        [sys.executable, str(MODULE)],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
        capture_output=True,
        text=True,
        check=False,
    )
    answer: dict[str, str] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize("reads", ["exec <&-; ", "cat >/dev/null; "], ids=["ends at once", "reads the probe"])
def test_a_qemu_that_ends_at_the_probe_is_quoted(tmp_path: Path, reads: str) -> None:
    emulator = tmp_path / "qemu"
    emulator.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && echo {VERSION} && exit 0\n'
        f"{reads}echo 'libgone.so.1: cannot open shared object file' >&2; exit 127\n"
    )
    emulator.chmod(0o755)
    message = pin(emulator)["msg"]
    assert "QEMU ended with 127 when asked for its types" in message
    assert "libgone.so.1: cannot open shared object file" in message
