"""The commit is found for real: git bisect, Ansible, a compiler, callgrind; killed on the way.

The source tree is a stand-in whose `qemu-img bench` spends a loop on each request: a commit that makes it 2 %
longer is a regression, and takes a second to build.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from support import ROOT, harness

import stand_in

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.system

COMMITS, BROKEN, COSTS = 12, 6, 8


@dataclass(frozen=True)
class Chain:
    """Twelve commits: the sixth does not compile, the eighth costs 2 %."""

    repository: Path
    experiment: Path
    commits: list[str]
    directory: Path
    state: Path

    @property
    def search(self) -> list[str]:
        where = ["--dir", str(self.directory), "--state-dir", str(self.state)]
        return ["bisect", str(self.experiment), "--good", "v10.0.2", "--bad", "master", *where]

    def go_on(self, *options: str) -> subprocess.CompletedProcess[str]:
        return harness(
            "bisect", "--resume", str(self.directory), "--state-dir", str(self.state), *options, timeout=1800
        )

    def kept(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.directory / "bisect.json").read_text())
        return found


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    repository = stand_in.write_bench_tree(tmp_path / "qemu")

    def commit(number: int) -> str:
        size: object = "no_such_name" if number == BROKEN else 1000 if number < COSTS else 1020
        text = stand_in.POOL.replace("128", str(size))
        (repository / "util/pool.c").write_text(f"{text}/* {number} */\n")
        return stand_in.commit(repository, f"commit {number}")

    commits = [commit(0)]
    stand_in.git(repository, "tag", "v10.0.2")
    commits += [commit(number) for number in range(1, COMMITS + 1)]
    experiment = tmp_path / "bench.yml"
    experiment.write_text(stand_in.bench_experiment(repository, "bench"))
    return Chain(repository, experiment, commits, tmp_path / "search", tmp_path / "state")


def killed_when(argv: list[str], condition: Callable[[], bool]) -> None:
    """Start a command, and kill it as soon as a condition holds."""
    with subprocess.Popen([sys.executable, "-m", "harness", *argv], cwd=ROOT) as process:
        deadline = time.monotonic() + 1800
        while not condition():
            assert process.poll() is None, "it ended by itself"
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)


def test_the_commit_that_costs_more_is_found_after_a_kill(chain: Chain) -> None:
    before = stand_in.git(chain.repository, "for-each-ref") + stand_in.git(chain.repository, "status")
    # In the midst of a count: one commit was skipped, the next is built.
    counting = chain.directory / "runs"
    killed_when(
        chain.search,
        lambda: bool(list(counting.glob("002-*/run.json"))) and len(chain.kept()["steps"]) == 1,
    )
    done = chain.go_on()
    assert done.returncode == 0, done.stderr
    assert f"{chain.commits[COSTS]} is the first bad commit" in done.stdout
    assert "commit 8" in done.stdout
    table = [line.split() for line in done.stdout.splitlines() if line.startswith("read ")]
    assert table[0][-1] == "+2.0%"
    assert table[1][-1] == "costlier"
    assert "util/main.c" in done.stdout, "where the instructions went"

    kept = chain.kept()
    steps = {step["commit"]["commit"]: step for step in kept["steps"]}
    assert len(steps) == len(kept["steps"]), "no commit is tested twice"
    answers = {chain.commits.index(commit): step["answer"] for commit, step in steps.items()}
    assert answers.pop(BROKEN) == "skip"
    assert answers == {number: "bad" if number >= COSTS else "good" for number in answers}
    assert "no_such_name" in steps[chain.commits[BROKEN]]["reason"], "the compiler's words"
    assert any(step["made"].startswith("on top of") for step in steps.values())

    shown = harness("bisect", "--show", str(chain.directory))
    assert shown.stdout == done.stdout
    again = json.loads(chain.go_on("--json").stdout)
    assert again["outcome"] == "found"
    assert again["found"]["commits"][0]["commit"] == chain.commits[COSTS]
    assert again["table"]["cells"][0]["verdict"] == "costlier"
    assert before == stand_in.git(chain.repository, "for-each-ref") + stand_in.git(chain.repository, "status")
    # Anybody can replay it.
    stand_in.git(chain.repository, "bisect", "replay", str(chain.directory / "bisect.log"))
    assert "# first bad commit" in stand_in.git(chain.repository, "bisect", "log")


def test_ends_that_do_not_differ_are_refused(chain: Chain) -> None:
    argv = [word if word != "master" else chain.commits[3] for word in chain.search]
    done = harness(*argv, timeout=1800)
    assert done.returncode == 2
    assert "nothing to find" in done.stderr
    assert "Traceback" not in done.stderr
