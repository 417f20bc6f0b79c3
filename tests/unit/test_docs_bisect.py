"""docs/howto/bisect-by-hand.md finds the commit: with a stand-in for QEMU's repository and `harness`."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from doc_pages import execute, to_do
from stand_in import commit, git

if TYPE_CHECKING:
    from pathlib import Path

PAGE = "docs/howto/bisect-by-hand.md"
COMMITS = ("good", "good", "good", "good", "broken", "good", "slow", "slow", "unclear", "slow")
"""Oldest first; `broken` does not build, `unclear` gives no verdict."""

HARNESS = """\
#!/bin/sh
state=$(cat ~/qemu/state)
case "$1 $*" in
provision*) test "$state" != broken ;;
run*--fail-on*)
    echo "$state" >> ~/measured
    case $state in good) exit 0 ;; slow) exit 3 ;; unclear) exit 4 ;; *) exit 1 ;; esac ;;
esac
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home directory with a repository in it: one commit for each of COMMITS."""
    repository = tmp_path / "qemu"
    repository.mkdir()
    for number, state in enumerate(COMMITS):
        (repository / "state").write_text(f"{state}\n")
        (repository / "number").write_text(f"{number}\n")
        commit(repository, f"commit {number}: {state}")
    git(repository, "tag", "v8.2.0", f"HEAD~{len(COMMITS) - 1}")
    git(repository, "tag", "v9.0.0")
    put(tmp_path, HARNESS)
    return tmp_path


def put(home: Path, script: str) -> None:
    """Let `harness` be a script."""
    command = home / "bin" / "harness"
    command.parent.mkdir(exist_ok=True)
    command.write_text(script)
    command.chmod(0o755)


def test_the_first_slow_commit_is_found(home: Path) -> None:
    printed = ""
    for block in to_do(PAGE, home):
        done = execute(block, home, timeout_seconds=60, HOME=str(home))
        assert done.returncode == 0, f"{block.where}: {done.stdout}{done.stderr}"
        printed += done.stdout
    first = git(home / "qemu", "rev-parse", f"v9.0.0~{len(COMMITS) - 1 - COMMITS.index('slow')}")
    assert f"{first} is the first bad commit" in printed
    assert "# skip:" in printed
    assert "broken" not in (home / "measured").read_text(), "what does not build is not measured"
    assert (home / "qemu" / "state").read_text() == "slow\n", "git bisect reset leaves what was checked out"


@pytest.mark.parametrize(
    ("provision", "run", "told"),
    [
        (0, 0, 0),
        (0, 3, 1),
        (0, 4, 125),
        (1, 0, 125),
        (0, 1, 128),
        (0, 2, 128),
        (2, 0, 128),
        (0, 130, 128),
        (130, 0, 128),
    ],
)
def test_what_git_is_told(home: Path, provision: int, run: int, told: int) -> None:
    put(home, f"#!/bin/sh\ncase $1 in provision) exit {provision} ;; run) exit {run} ;; esac\n")
    for _block in to_do(PAGE, home):
        pass
    script = home / "bisect-step.sh"
    path = f"{home / 'bin'}:/usr/bin:/bin"
    done = subprocess.run(
        ["sh", str(script)], cwd=home / "qemu", env={"PATH": path, "HOME": str(home)}, check=False
    )
    assert done.returncode == told
