"""Nights for real, by the verb that the timer starts: git, Ansible, a compiler, callgrind, history, reports.

The source tree is a stand-in whose `qemu-img bench` spends a loop on each request: a commit that doubles it
is a regression, and takes a second to build.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from support import harness

import stand_in

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

pytestmark = pytest.mark.system


@dataclass(frozen=True)
class Job:
    """A nightly job of a repository."""

    repository: Path
    experiment: Path
    directory: Path
    state: Path

    def night(self, *options: str) -> subprocess.CompletedProcess[str]:
        return harness(
            "nightly", str(self.experiment), "--follow", "NEW", "--directory", str(self.directory),
            "--state-dir", str(self.state), "--fail-on", "slower", *options,
        )  # fmt: skip

    def commit(self, name: str, content: str) -> str:
        (self.repository / name).write_text(content)
        return stand_in.commit(self.repository)

    @property
    def nights(self) -> list[Path]:
        return sorted(path for path in self.directory.iterdir() if path.is_dir())

    def filed(self) -> int:
        done = harness("history", "list", "--state-dir", str(self.state), "--json")
        assert done.returncode == 0, done.stderr
        return len(json.loads(done.stdout)["runs"])


@pytest.fixture
def job(tmp_path: Path) -> Job:
    repository = tmp_path / "qemu"
    stand_in.write_bench_tree(repository)
    stand_in.commit(repository)
    stand_in.git(repository, "tag", "v10.0.2")
    experiment = tmp_path / "nightly.yml"
    experiment.write_text(stand_in.bench_experiment(repository, "nightly"))
    return Job(repository, experiment, tmp_path / "nights", tmp_path / "state")


def failures(junit: Path) -> list[str]:
    return [element.text or "" for element in ET.parse(junit).getroot().iter("failure")]  # noqa: S314


def test_nights_find_the_commit_that_costs_more_and_outlive_the_one_that_does_not_build(job: Job) -> None:
    done = job.night()
    assert done.returncode == 0, done.stdout + done.stderr
    (first,) = job.nights
    assert {"report.html", "junit.xml", "table.md", "run", "night.json"} <= {p.name for p in first.iterdir()}
    assert failures(first / "junit.xml") == []
    assert job.filed() == 1

    skipped = job.night("--when-unchanged", "skip")
    assert skipped.returncode == 0
    assert "nothing to do" in skipped.stderr
    assert job.nights == [first]

    slow = job.commit("util/pool.c", stand_in.POOL.replace("128", "256"))
    done = job.night()
    assert done.returncode == 3, done.stdout + done.stderr
    # Once against the baseline, once against the night before.
    assert "NEW against OLD" in done.stdout
    assert "NEW against LAST" in done.stdout
    second = job.nights[-1]
    assert second != first
    assert any("costlier" in text for text in failures(second / "junit.xml"))
    assert job.filed() == 2

    broken = job.commit("util/pool.c", "int pool_size(void) { return nothing; }\n")
    done = job.night()
    assert done.returncode == 1, done.stdout + done.stderr
    assert "nothing" in done.stderr, "the compiler's words"
    assert json.loads((job.directory / "last.json").read_text())["commit"] == slow != broken
    assert job.filed() == 2
