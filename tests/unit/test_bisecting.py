"""The search for a commit: git chooses for real, what a commit costs is made up."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import stand_in
from harness.adapters.bisect_repository import BisectRepository
from harness.adapters.bisect_store import BisectDirectory
from harness.adapters.manifest import Manifest
from harness.adapters.waiting import Stop
from harness.core.bisect_experiments import build_to_vary, experiment_of
from harness.core.bisecting import (
    FORMAT_VERSION,
    Answer,
    Asked,
    Commit,
    Ends,
    Measured,
    Outcome,
    Search,
    Step,
    answer_of,
    ends_of,
    skipped_in_a_row,
    verdict_of_interval,
)
from harness.core.errors import BuildFailedError, HarnessError, InputError, Interrupted
from harness.core.experiment import load_experiment
from harness.shell.bisect_begin import begin
from harness.shell.bisect_bench import Built, CannotBeMeasuredError
from harness.shell.bisect_report import text_report
from harness.shell.bisecting import Bisecting
from harness.shell.cli.main import run_cli

if TYPE_CHECKING:
    from pathlib import Path

    from harness.core.model import FactorValue

LENGTH = 16
CELL: dict[str, FactorValue] = {"rw": "read", "bs": "4k", "iodepth": 1}
ASKED = Asked(good="", bad="", good_ref="v1", bad_ref="v2", git="/q", location="/q")


# -- a whole search ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A repository of many commits, oldest first."""
    path = tmp_path_factory.mktemp("bisect") / "qemu"
    path.mkdir()
    commits = []
    for number in range(LENGTH):
        (path / "file").write_text(str(number))
        if number % 4 == 0:
            (path / "other").write_text(str(number))
        commits.append(stand_in.commit(path, f"commit {number}"))
    return path, commits


@dataclass
class World:
    """Commits whose cost is known: 100 before the change, more from it on; some do not build, or run."""

    costs: dict[str, float]
    broken: set[str] = field(default_factory=set)
    mute: set[str] = field(default_factory=set)
    unclear: set[str] = field(default_factory=set)
    interrupt_at: int = 10**6
    built: list[str] = field(default_factory=list)
    measured: list[str] = field(default_factory=list)

    def provide(self, commits: dict[str, str]) -> Built:
        (commit,) = commits.values()
        if len(self.built) == self.interrupt_at:
            self.interrupt_at = 10**6
            raise Interrupted("interrupted")
        self.built.append(commit)
        if commit in self.broken:
            raise BuildFailedError("task failed: build HERE: no", "build HERE: it does not compile")
        return Built(Manifest({}, None), "from nothing", 1.0)

    def _against(self, good: str, commit: str, threshold: float) -> Measured:
        change = self.costs[commit] / self.costs[good] - 1
        verdict = "worse" if change > threshold else "better" if change < -threshold else "same"
        if commit in self.unclear:
            return Measured(CELL, "read-4k-1", 100, None, None, None, "unclear", "repeats differ")
        return Measured(CELL, "read-4k-1", self.costs[good], self.costs[commit], change, 0.0, verdict)

    def ends(self, asked: Asked) -> tuple[list[Measured], str]:
        return [self._against(asked.good, asked.bad, asked.threshold or 0.005)], "000-ends"

    def tested(self, asked: Asked, ends: Ends, commit: str, name: str, built: Built) -> tuple[Measured, str]:
        assert built.made
        if commit in self.mute:
            raise CannotBeMeasuredError("this QEMU knows no qtest")
        self.measured.append(commit)
        return self._against(asked.good, commit, ends.threshold), name

    def table(self, parent: str, commit: str, ends: Ends) -> str:
        assert (ends.run, commit) == ("000-ends", next(c for c in self.costs if self.costs[c] != 100.0))
        if parent in self.broken | self.mute:
            raise BuildFailedError("the parent does not build", "it does not compile")
        return "table"


@dataclass
class Kept:
    """A store that is written to and read from as the one on disk is."""

    search: Search
    log: str = ""

    def save(self, search: Search) -> None:
        self.search = search

    def keep_log(self, log: str) -> None:
        self.log = log


def searching(
    repository: tuple[Path, list[str]], tmp: Path, world: World, asked: Asked, said: list[str] | None = None
) -> tuple[Bisecting, Kept]:
    place = tmp / f"{len(list(tmp.iterdir()))}.git"
    git = BisectRepository.make(place, str(repository[0]))
    asked = git.resolved(asked, str(repository[0]))
    search = Search(FORMAT_VERSION, "x", asked, "now", "1", git.between(asked), {"git": "/q"})
    kept = Kept(search)
    return Bisecting(kept, git, world, Stop(), (said if said is not None else []).append), kept


def costs(commits: list[str], first: int, *, less: bool = False) -> dict[str, float]:
    return {c: 100.0 if n < first else (90.0 if less else 104.0) for n, c in enumerate(commits)}


@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_the_commit_is_found_whatever_cannot_be_tested_and_wherever_it_is_interrupted(
    repository: tuple[Path, list[str]], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    commits = repository[1]
    first = data.draw(st.integers(1, LENGTH - 1), label="first bad commit")
    middle = st.sets(st.integers(1, LENGTH - 2), max_size=6)
    broken, mute, unclear = (
        {commits[n] for n in data.draw(middle, label=word)} for word in ("broken", "mute", "unclear")
    )
    less = data.draw(st.booleans(), label="better")
    at = data.draw(st.integers(0, 6), label="interrupted at")
    world = World(costs(commits, first, less=less), broken, mute, unclear, interrupt_at=at)
    tmp = tmp_path_factory.mktemp("search")
    asked = replace(ASKED, good_ref=commits[0], bad_ref=commits[-1], improvement=less, max_skips=100)
    bisecting, kept = searching(repository, tmp, world, asked)
    try:
        found = bisecting.run()
    except Interrupted:
        bisecting = replace(bisecting, repository=BisectRepository(tmp / "0.git"))
        found = bisecting.run()
    assert found.found is not None
    candidates = [c.commit for c in found.found.commits]
    assert commits[first] in candidates
    untestable = broken | mute | unclear
    assert set(candidates) - {commits[first]} <= untestable | {commits[-1]} or len(candidates) > 1
    if not {commits[first], commits[first - 1]} & untestable:
        assert candidates == [commits[first]]
    if len(candidates) > 1:
        assert found.outcome is Outcome.RANGE
        assert set(candidates[:-1]) <= untestable, "only the last of a range was tested"
        assert candidates == sorted(candidates, key=commits.index), "the oldest first"
    tested = [step.commit.commit for step in found.steps]
    assert len(set(tested)) == len(tested) == len(world.built), "nothing is built twice"
    assert len(set(world.measured)) == len(world.measured), "nor measured"
    assert kept.search == found
    assert bisecting.run() == found, "a finished search stays as it is"
    assert "git bisect start" in kept.log


def test_commits_in_a_row_that_cannot_be_tested_stop_the_search_for_now(
    repository: tuple[Path, list[str]], tmp_path: Path
) -> None:
    commits = repository[1]
    world = World(costs(commits, 13), broken=set(commits[1:-1]))
    asked = replace(ASKED, good_ref=commits[0], bad_ref=commits[-1], max_skips=3)
    bisecting, kept = searching(repository, tmp_path, world, asked)
    with pytest.raises(HarnessError, match="3 commits in a row could not be tested; the last: it does not c"):
        bisecting.run()
    assert len(kept.search.steps) == 3
    with pytest.raises(HarnessError, match="3 commits in a row"):
        bisecting.run()
    assert len(kept.search.steps) == 6, "going on tests as many again"


def test_only_commits_that_touch_a_path(repository: tuple[Path, list[str]], tmp_path: Path) -> None:
    path, commits = repository
    world = World(costs(commits, 8))
    asked = replace(ASKED, good_ref=commits[0], bad_ref=commits[-1], paths=("other",))
    bisecting, _kept = searching((path, commits), tmp_path, world, asked)
    found = bisecting.run()
    assert found.found
    assert found.found.commits[0].commit == commits[8]
    assert {commits.index(commit) % 4 for commit in world.built} == {0}


def test_a_side_branch_is_tested_through_the_merge_base(tmp_path: Path) -> None:
    path = tmp_path / "qemu"
    path.mkdir()
    commits = []
    for number in range(4):
        (path / "file").write_text(str(number))
        commits.append(stand_in.commit(path, f"commit {number}"))
    stand_in.git(path, "checkout", "-q", "-b", "stable", commits[1])
    (path / "fix").write_text("x")
    stable = stand_in.commit(path, "a fix")
    world = World(costs(commits, 3) | {stable: 100.0})
    asked = replace(ASKED, good_ref="stable", bad_ref=commits[3])
    (tmp_path / "s").mkdir()
    bisecting, _kept = searching((path, commits), tmp_path / "s", world, asked)
    assert (found := bisecting.run().found)
    assert found.commits[0].commit == commits[3]
    assert world.built[0] == commits[1], "the merge base comes first"
    world = World(costs(commits, 0) | {stable: 90.0})
    (tmp_path / "t").mkdir()
    bisecting, _kept = searching((path, commits), tmp_path / "t", world, asked)
    with pytest.raises(HarnessError, match="fixed between") as caught:
        bisecting.run()
    assert "ancestor" in str(caught.value.remedy)


# -- what follows from a measurement -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdict", "improvement", "answer"),
    [
        ("worse", False, Answer.BAD),
        ("same", False, Answer.GOOD),
        ("better", False, Answer.GOOD),
        ("unclear", False, Answer.SKIP),
        ("worse", True, Answer.GOOD),
        ("better", True, Answer.BAD),
    ],
)
def test_what_git_is_told(verdict: str, improvement: bool, answer: Answer) -> None:  # noqa: FBT001 - a table
    assert answer_of(verdict, improvement=improvement) is answer


@pytest.mark.parametrize(
    ("low", "high", "improvement", "verdict"),
    [
        (-0.06, -0.05, False, "worse"),
        (-0.03, -0.01, False, "same"),
        (-0.05, -0.03, False, "unclear"),
        (0.03, 0.06, False, "same"),
        (0.05, 0.06, False, "better"),
        (0.03, 0.06, True, "unclear"),
        (-0.05, -0.03, True, "same"),
        (float("nan"), float("nan"), False, "unclear"),
    ],
)
def test_an_interval_answers_where_it_lies_whole_on_one_side(
    low: float, high: float, improvement: bool, verdict: str  # noqa: FBT001 - a table
) -> None:  # fmt: skip
    told = {"threshold": 0.04, "improvement": improvement}
    assert verdict_of_interval(low, high, higher_is_better=True, **told) == verdict  # type: ignore[arg-type]
    # Of a latency the same, turned round.
    assert verdict_of_interval(-high, -low, higher_is_better=False, **told) == verdict  # type: ignore[arg-type]


def cell(change: float, verdict: str, label: str = "read-4k-1", reason: str | None = None) -> Measured:
    return Measured(CELL, label, 100.0, 100.0 * (1 + change), change, 0.0001, verdict, reason)


def test_the_cell_that_shows_most_decides_and_half_of_it_is_the_threshold() -> None:
    cells = [cell(0.01, "worse"), cell(0.04, "worse", "read-4k-64"), cell(-0.5, "better", "write-4k-1")]
    assert ends_of(ASKED, cells) == (cells[1], 0.02)
    assert ends_of(replace(ASKED, threshold=0.03), cells) == (cells[1], 0.03)
    assert ends_of(replace(ASKED, cell="read-4k-1"), cells) == (cells[0], 0.005)
    assert ends_of(replace(ASKED, improvement=True), cells) == (cells[2], 0.25)


@pytest.mark.parametrize(
    ("cells", "improvement", "words", "remedy"),
    [
        ([cell(0.001, "same")], False, r"v2 against v1: \+0\.10% .*nothing to find", "ends that differ"),
        ([cell(-0.04, "better")], False, "better, not worse", "--improvement"),
        ([cell(0.04, "worse")], True, "worse, not better", "leave --improvement out"),
        ([cell(0.004, "unclear", reason="repeats differ")], False, "repeats differ", "more exactly"),
    ],
)
def test_ends_without_a_difference_are_refused(
    cells: list[Measured], *, improvement: bool, words: str, remedy: str
) -> None:
    with pytest.raises(InputError, match=words) as caught:
        ends_of(replace(ASKED, improvement=improvement), cells)
    assert remedy in str(caught.value.problems[0].remedy)


def step(answer: Answer) -> Step:
    return Step(Commit("a" * 40, "t", "2026-01-01", "x"), answer)


def test_skips_in_a_row() -> None:
    skip, good = step(Answer.SKIP), step(Answer.GOOD)
    assert skipped_in_a_row([]) == 0
    assert skipped_in_a_row([skip, skip]) == 2
    assert skipped_in_a_row([skip, good]) == 0
    assert skipped_in_a_row([good, skip]) == 1


# -- experiments ---------------------------------------------------------------------------------------------

TEXT = """\
name: a-rather-long-name-of-it
description: "1e3"
workload: instructions
builds:
  OLD: {package: qemu-system-x86}
  NEW: {git: /src/qemu, ref: v1, patches: [my.patch], configure: [--disable-slirp]}
  PLAIN: {git: /src/other}
baseline: OLD
matrix: {rw: read, bs: [4k, 64k], iodepth: [1, 8]}
instructions: {repeats: 1}
"""
EXPERIMENT = load_experiment(TEXT, "x.yml")


def test_the_build_of_which_the_commit_varies() -> None:
    first = build_to_vary(EXPERIMENT, "x.yml", git=None, name=None)
    assert first == {"git": "/src/qemu", "patches": ["my.patch"], "configure": ["--disable-slirp"]}
    assert build_to_vary(EXPERIMENT, "x.yml", git="/mine", name="PLAIN")["git"] == "/mine"
    text = "name: x\nbuilds: {OLD: {path: /q}, NEW: {path: /q}}\nbaseline: OLD\n"
    packages = load_experiment(text, "x.yml")
    assert build_to_vary(packages, "x.yml", git="/mine", name=None) == {"git": "/mine"}
    with pytest.raises(InputError, match="none of them comes from git"):
        build_to_vary(packages, "x.yml", git=None, name=None)
    with pytest.raises(InputError, match="NOPE is no build"):
        build_to_vary(EXPERIMENT, "x.yml", git=None, name="NOPE")
    with pytest.raises(InputError, match=r"builds\.OLD: does not come from git"):
        build_to_vary(EXPERIMENT, "x.yml", git=None, name="OLD")


def test_a_step_measures_one_cell_and_finds_the_patches(tmp_path: Path) -> None:
    build = build_to_vary(EXPERIMENT, "x.yml", git=None, name=None)
    builds = {"GOOD": {**build, "ref": "a" * 40}, "HERE": {**build, "ref": "b" * 40}}
    chosen: dict[str, FactorValue] = {"rw": "read", "bs": "64k", "iodepth": 8}
    text = experiment_of(
        EXPERIMENT, builds, directory=tmp_path, mark="abc123", margin=0.7, cell=chosen, more_repeats=3
    )
    found = load_experiment(text, "step.yml")
    assert [one.label for one in found.cells()] == ["read-64k-8"]
    assert found.variants == ("GOOD", "HERE")
    assert found.instructions.repeats == 6, "twice at least, for a resolution"
    written = yaml.safe_load(text)["builds"]
    assert written["HERE"]["patches"] == [f"{tmp_path}/my.patch"]
    assert (written["GOOD"]["ref"], written["HERE"]["ref"]) == ("a" * 40, "b" * 40)


def test_guests_are_measured_until_the_threshold_can_be_told() -> None:
    text = "name: x\nbuilds: {A: {git: /q}, B: {git: /q}}\nbaseline: A\n"
    builds = {"GOOD": {"git": "/q", "ref": "a"}, "HERE": {"git": "/q", "ref": "b"}}

    def of(text: str) -> tuple[float, float | None]:
        given = load_experiment(text, "x.yml")
        step = experiment_of(given, builds, directory=PurePath("/"), mark="m", margin=0.04)
        protocol = load_experiment(step, "s.yml").protocol
        return protocol.margin, protocol.until

    assert of(text) == (0.04, 0.02)
    assert of(f"{text}protocol: {{until: 0.5%}}\n") == (0.04, 0.005)


# -- its directory, and bad input ----------------------------------------------------------------------------


def write(tmp_path: Path, repository: Path) -> Path:
    file = tmp_path / "x.yml"
    file.write_text(TEXT.replace("/src/qemu", str(repository)))
    return file


def test_what_was_found_out_outlives_the_process(repository: tuple[Path, list[str]], tmp_path: Path) -> None:
    path, commits = repository
    asked = replace(ASKED, good_ref=commits[0], bad_ref="HEAD")
    store = begin(tmp_path / "d", write(tmp_path, path), asked, git=None, build=None)
    search = store.search
    assert search.asked.bad == commits[-1]
    assert search.commits == LENGTH - 1
    assert search.build["configure"] == ["--disable-slirp"]
    nothing = Measured(CELL, "x", None, None, None, None, "unclear", "not counted")
    search = replace(search, ends=Ends(nothing, 0.01, "000-ends")).with_step(step(Answer.SKIP))
    store.save(search)
    assert BisectDirectory.open(tmp_path / "d").search == search
    with store.writing(), pytest.raises(HarnessError, match="is in use"):  # noqa: SIM117 - the order matters
        with store.writing():
            pass
    assert not (path / ".git" / "BISECT_LOG").exists()


def test_everything_that_is_wrong_is_said_at_once_and_nothing_is_left(
    repository: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, repository[0])
    file.write_text(file.read_text().replace("iodepth: [1, 8]", "iodepth: [1, 8], nonsense: 1"))
    where = tmp_path / "d"
    asked = ["--git", str(repository[0]), "--good", "v0.0.0", "--bad", "-x", "--dir", str(where)]
    assert run_cli(["bisect", str(file), *asked]) == 2
    said = capsys.readouterr().err
    for words in ("nonsense", "there is no commit v0.0.0", "--bad: there is no commit -x"):
        assert words in said
    assert not where.exists()


@pytest.mark.parametrize(
    ("good", "bad", "more", "words"),
    [
        (0, 0, [], "both are the same commit"),
        (5, 2, [], "comes before the good one"),
        (5, 6, ["--", "other"], "no commit between them that touches other"),
        (0, 5, ["--cell", "randread-4k-1"], "one of read-4k-1, read-4k-8"),
        (0, 5, ["--git", "/nowhere/at/all"], "/nowhere/at/all is not there"),
        (0, 5, ["--build", "OLD"], "does not come from git"),
        (0, 5, ["--threshold", "much"], "--threshold"),
        (0, 5, ["--metric", "speed", "--cell", "x"], "--metric: 'speed' is unknown"),
        (0, 5, ["--metric", "speed", "--cell", "x"], "--cell: x is no cell of it"),
    ],
)
def test_bad_input(  # noqa: PLR0917 - a table
    repository: tuple[Path, list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    good: int,
    bad: int,
    more: list[str],
    words: str,
) -> None:
    path, commits = repository
    where = ["--dir", str(tmp_path / "d")]
    ends = ["--good", commits[good], "--bad", commits[bad]]
    assert run_cli(["bisect", str(write(tmp_path, path)), *ends, *where, *more]) == 2
    assert words in "".join(capsys.readouterr())
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name an experiment"),
        (["x.yml", "--good", "a"], "--bad missing"),
        (["x.yml", "--resume", "d"], "name an experiment"),
        (["--resume", "d", "--threshold", "1%"], "--threshold: a search that goes on"),
        (["--show", "nothing-here"], "is no directory of a bisection"),
    ],
)
def test_usage(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["bisect", *arguments]) == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_a_repository_from_elsewhere_is_cloned_and_its_password_not_kept(
    repository: tuple[Path, list[str]], tmp_path: Path
) -> None:
    path, commits = repository
    url = f"file://{path}"
    asked = replace(ASKED, good_ref=commits[0], bad_ref="master")
    store = begin(tmp_path / "d", write(tmp_path, path), asked, git=url, build=None)
    assert store.search.build["git"] == str(store.repository)
    assert store.search.asked.location == url
    assert url not in (store.repository / "config").read_text()
    assert json.loads((store.path / "bisect.json").read_text())["asked"]["bad"] == commits[-1]


def test_a_range_is_told_as_one(repository: tuple[Path, list[str]], tmp_path: Path) -> None:
    path, commits = repository
    asked = replace(ASKED, good_ref=commits[0], bad_ref="HEAD", max_skips=100)
    store = begin(tmp_path / "d", write(tmp_path, path), asked, git=None, build=None)
    world = World(costs(commits, 9), broken={commits[8], commits[9]})
    said: list[str] = []
    Bisecting(store, BisectRepository(store.repository), world, Stop(), said.append).run()
    text = text_report(store)
    assert "One of these 3 commits" in text
    assert [line.split()[-1] for line in text.splitlines() if line.startswith("  ")][:3] == ["8", "9", "10"]
    assert "was skipped: it does not compile" in text
    assert run_cli(["bisect", "--show", str(store.path)]) == 1
    assert any("about" in line and "left" in line for line in said)
