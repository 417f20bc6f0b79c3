"""QEMU itself, built from source twice and counted: minutes on an idle machine, so only when asked for."""

from __future__ import annotations

import json
import os
import re
import subprocess
from typing import TYPE_CHECKING

import pytest
from support import harness

from stand_in import commit, git

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.system, pytest.mark.slow]

LINE = "    COROUTINE_POOL_BATCH_MAX_SIZE = 128,\n"


@pytest.fixture
def qemu(tmp_path: Path) -> Path:
    """A repository of QEMU 10's source, made from the tarball that QEMU_TARBALL names."""
    path = os.environ.get("QEMU_TARBALL")
    assert path, "QEMU_TARBALL names no tarball of QEMU; `apt-get source --download-only qemu` gets one"
    tree = tmp_path / "qemu"
    tree.mkdir()
    subprocess.run(["tar", "-xf", path, "-C", str(tree), "--strip-components=1"], check=True)
    git(tree, "init", "-q")
    git(tree, "add", "--all", "--force")
    commit(tree)
    return tree


def test_a_ref_against_the_same_ref_with_a_patch(qemu: Path, tmp_path: Path) -> None:
    pool = qemu / "util" / "qemu-coroutine.c"
    text = pool.read_text()
    assert LINE in text
    pool.write_text(text.replace(LINE, LINE.replace("128", "16")))
    (tmp_path / "my.patch").write_text(git(qemu, "diff") + "\n")
    file = tmp_path / "patch.yml"
    file.write_text(
        "name: source\nworkload: instructions\nbaseline: old\nbuilds:\n"
        f"  old: {{git: {qemu}}}\n  new: {{git: {qemu}, patches: [my.patch]}}\n"
        "disk: {queue_size: 256}\ninstructions: {repeats: 2}\nmatrix: {rw: read, iodepth: 64}\n"
    )
    done = harness("run", str(file), "--run-dir", str(tmp_path / "run"), timeout=7200)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^read +4k +64 +[0-9]+ +[0-9]+ [+-][0-9.]+%", done.stdout, re.MULTILINE), done.stdout
    again = harness("provision", str(file), "--json", timeout=600)
    answer = json.loads(again.stdout)
    assert answer["changed"] == 0
    assert [p["name"] for p in answer["builds"]["new"]["source"]["patches"]] == ["my.patch"]
    explained = harness("compare", str(tmp_path / "run"), "--explain").stdout
    assert "virtqueue_split_pop" in explained, "the binaries have symbols"
