"""What a night measures, which nights are kept, and what a night does when something goes wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import PurePath
from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from harness.adapters.nights import Nights, commit_of
from harness.adapters.process import attached
from harness.core.errors import BusyError, HarnessError, InputError
from harness.core.experiment import load_experiment
from harness.core.nightly import LAST_NIGHT, Followed, Night, experiment_of_tonight, expired, followed, worst
from harness.shell.cli.main import run_cli

if TYPE_CHECKING:
    from pathlib import Path

    from harness.core.experiment import Experiment

TEXT = """\
name: nightly
description: "1e3"
builds:
  OLD: {package: qemu-system-x86}
  NEW: {git: /src/qemu, ref: master, configure: [--disable-slirp]}
baseline: OLD
"""
TONIGHT, LAST = "a" * 40, "b" * 40
NOW = datetime(2026, 11, 26, tzinfo=UTC)
FOLLOW = Followed("NEW", "/src/qemu", "master")


# -- the experiment of a night -------------------------------------------------------------------------------


def tonights(experiment: Experiment, last: str | None) -> str:
    return experiment_of_tonight(experiment, FOLLOW, directory=PurePath("/etc/x"), commit=TONIGHT, last=last)


def test_night_measures_the_branch_beside_the_night_before() -> None:
    experiment = load_experiment(TEXT, "n.yml")
    assert followed(experiment, "NEW", "n.yml") == FOLLOW
    tonight = load_experiment(tonights(experiment, LAST), "tonight.yml")
    assert tonight.variants == ("OLD", "NEW", LAST_NIGHT)
    builds = yaml.safe_load(tonight.to_yaml())["builds"]
    expected = {"git": "/src/qemu", "ref": TONIGHT, "configure": ["--disable-slirp"]}
    assert expected.items() <= builds["NEW"].items()
    assert builds[LAST_NIGHT] == {**builds["NEW"], "ref": LAST}


def test_night_finds_what_the_experiment_names_beside_itself() -> None:
    text = TEXT.replace("configure: [--disable-slirp]", "patches: [my.patch, /opt/other.patch]")
    text = text.replace("{package: qemu-system-x86}", "{tarball: old.tar.xz}")
    builds = yaml.safe_load(tonights(load_experiment(text, "n.yml"), LAST))["builds"]
    assert builds["OLD"]["tarball"] == "/etc/x/old.tar.xz"
    for name in ("NEW", LAST_NIGHT):
        assert builds[name]["patches"] == ["/etc/x/my.patch", "/opt/other.patch"]


@pytest.mark.parametrize("last", [None, TONIGHT])
def test_first_night_and_one_without_a_new_commit_have_nothing_beside(last: str | None) -> None:
    text = tonights(load_experiment(TEXT, "n.yml"), last)
    assert load_experiment(text, "tonight.yml").variants == ("OLD", "NEW")


@pytest.mark.parametrize(
    ("old", "new", "variant", "words"),
    [
        ("", "", "NOPE", "--follow one of OLD, NEW"),
        ("", "", "OLD", "does not come from git"),
        ("ref: master", f"ref: {TONIGHT}", "NEW", "is a commit, which does not move"),
        ("baseline: OLD", "baseline: NEW", "NEW", "is the baseline"),
        ("OLD", LAST_NIGHT, "NEW", "is the name of last night's build"),
        ("baseline: OLD", "baseline: OLD\nworkload: pool-growth", "NEW", "harness export RUN_DIR"),
    ],
)
def test_what_cannot_be_followed_is_refused(old: str, new: str, variant: str, words: str) -> None:
    experiment = load_experiment(TEXT.replace(old, new) if old else TEXT, "n.yml")
    with pytest.raises(InputError) as caught:
        followed(experiment, variant, "n.yml")
    (problem,) = caught.value.problems
    assert problem.where.startswith(("n.yml: builds.", "n.yml: workload"))
    assert words in f"{problem.message}; {problem.remedy}"


# -- retention -----------------------------------------------------------------------------------------------

nights = st.lists(
    st.builds(
        Night,
        name=st.uuids().map(str),
        began=st.integers(0, 400).map(lambda days: NOW - timedelta(days=days)),
        size_bytes=st.integers(0, 100),
    ),
    max_size=30,
)


@given(nights, st.none() | st.integers(1, 300), st.none() | st.integers(0, 1000))
def test_what_is_kept_is_young_and_fits_and_ends_with_the_newest(
    there: list[Night], days: int | None, keep_bytes: int | None
) -> None:
    keep = None if days is None else timedelta(days=days)
    gone = expired(there, now=NOW, keep=keep, keep_bytes=keep_bytes)
    kept = [night for night in there if night not in gone]
    if not there:
        assert gone == []
        return
    newest = max(night.began for night in there)
    assert newest in {night.began for night in kept}
    if len(kept) > 1:
        assert keep is None or all(NOW - night.began <= keep for night in kept if night.began != newest)
        assert keep_bytes is None or sum(night.size_bytes for night in kept) <= keep_bytes
    # Nothing goes before what is older.
    assert all(out.began <= stays.began for out in gone for stays in kept)
    # And nothing without need: with the last one that went, the rest would be too old or too much.
    if gone:
        back = [*kept, gone[-1]]
        too_old = keep is not None and NOW - gone[-1].began > keep
        assert too_old or sum(night.size_bytes for night in back) > (keep_bytes or 0)


def test_without_limits_nothing_goes() -> None:
    there = [Night(str(n), NOW - timedelta(days=n), 10**12) for n in range(500)]
    assert expired(there, now=NOW, keep=None, keep_bytes=None) == []


def test_directory_holds_nights_and_leaves_alone_what_is_none(tmp_path: Path) -> None:
    night = Nights(tmp_path).begin()
    (night / "file").write_bytes(b"x" * 10_000)
    (tmp_path / "notes").mkdir()
    (tmp_path / "20260101T000000Z").symlink_to("/")
    (found,) = Nights(tmp_path).all()
    assert found.name == night.name
    assert found.size_bytes >= 10_000
    Nights(tmp_path).remove(found)
    assert not night.exists()
    assert (tmp_path / "notes").exists()


@pytest.mark.parametrize(
    "name", ["20260230T000000Z", "20261301T000000Z", "00000101T000000Z", "20260101T000060Z"]
)
def test_directory_that_is_called_by_no_possible_date_is_no_night(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    night = Nights(tmp_path).begin()
    assert [found.name for found in Nights(tmp_path).all()] == [night.name]


# -- exit codes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codes", "code"),
    [([], 0), ([0, 0], 0), ([0, 3, 4], 3), ([4, 0], 4), ([3, 1], 1), ([3, 2, 1], 2), ([130, 3], 130)],
)
def test_a_failure_weighs_more_than_a_verdict(codes: list[int], code: int) -> None:
    assert worst(codes) == code


# -- repositories --------------------------------------------------------------------------------------------


def git(repository: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    argv = ["git", "-C", str(repository), *identity, *arguments]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    path = tmp_path / "repository"
    path.mkdir()
    git(path, "init", "-q", "-b", "master")
    git(path, "commit", "-q", "--allow-empty", "-m", "one")
    git(path, "tag", "-a", "v1", "-m", "one")
    git(path, "commit", "-q", "--allow-empty", "-m", "two")
    # git ls-remote matches the end of names: this one must not be taken for master.
    git(path, "branch", "a/master", "HEAD~1")
    return path


def test_branch_and_tag_are_resolved_to_commits(repository: Path) -> None:
    for ref, commit in (("master", "HEAD"), ("v1", "HEAD~1"), ("a/master", "HEAD~1"), ("HEAD", "HEAD")):
        assert commit_of(Followed("NEW", str(repository), ref)) == git(repository, "rev-parse", commit)


@pytest.mark.parametrize("ref", ["nosuch", "--upload-pack=touch /tmp/owned"])
def test_ref_that_is_not_there_is_named(repository: Path, ref: str) -> None:
    with pytest.raises(HarnessError, match="does not tell where") as caught:
        commit_of(Followed("NEW", str(repository), ref))
    assert "git ls-remote" in str(caught.value.remedy)


def test_repository_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"nosuch does not tell where master stands: fatal"):
        commit_of(Followed("NEW", str(tmp_path / "nosuch"), "master"))


# -- the verb ------------------------------------------------------------------------------------------------


@pytest.fixture
def experiment(tmp_path: Path, repository: Path) -> Path:
    path = tmp_path / "n.yml"
    path.write_text(TEXT.replace("/src/qemu", str(repository)))
    return path


def test_branch_that_has_not_moved_is_skipped_when_asked(
    tmp_path: Path, repository: Path, experiment: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "nights"
    directory.mkdir()
    head = git(repository, "rev-parse", "master")
    (directory / "last.json").write_text(json.dumps({"commit": head, "night": "x"}))
    arguments = ["nightly", str(experiment), "--follow", "NEW", "--directory", str(directory)]
    assert run_cli([*arguments, "--when-unchanged", "skip"]) == 0
    assert f"master still stands at {head[:12]}" in capfd.readouterr().err
    assert Nights(directory).all() == []


def test_two_nights_do_not_overlap(
    tmp_path: Path, experiment: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "nights"
    arguments = ["nightly", str(experiment), "--follow", "NEW", "--directory", str(directory)]
    with Nights(directory).alone():
        assert run_cli(arguments) == BusyError.exit_code
    assert "in use by process" in capfd.readouterr().err
    assert Nights(directory).all() == []


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (["--limit", "soon"], "--limit: 'soon' is not a duration"),
        (["--keep-size", "much"], "--keep-size: 'much' is not a size"),
        (["--keep-days", "0"], "'--keep-days': 0 is not in the range"),
        (["--follow", "OLD"], "does not come from git"),
    ],
)
def test_bad_options_end_with_exit_code_2_and_no_night(
    tmp_path: Path, experiment: Path, option: list[str], words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "nights"
    arguments = ["nightly", str(experiment), "--follow", "NEW", "--directory", str(directory), *option]
    assert run_cli(arguments) == 2
    assert words in capfd.readouterr().err
    assert not directory.exists()


# -- steps ---------------------------------------------------------------------------------------------------


def test_step_that_hangs_is_asked_and_then_made_to_end(tmp_path: Path) -> None:
    mark = tmp_path / "asked"
    polite = f"import signal,time,sys\nsignal.signal(15, lambda *_: (open({str(mark)!r}, 'w'), sys.exit(7)))"
    stubborn = "import signal\nsignal.signal(15, signal.SIG_IGN)"
    ready = "\nopen({0!r}, 'w').close()\nimport time\ntime.sleep(60)"
    for script, grace in ((polite, 30), (stubborn, 1)):
        started = tmp_path / "started"
        argv = [sys.executable, "-c", script + ready.format(str(started))]
        # Its time is up when it has begun; not before, or there would be no handler yet.
        assert attached(argv, stopped=lambda: False, timeout=5, grace=grace) is None
        assert started.exists()
        started.unlink()
    assert mark.exists()


def test_step_is_ended_by_a_stop_and_its_exit_code_kept() -> None:
    assert attached(["sleep", "60"], stopped=lambda: True, timeout=60, grace=5) == -15
    assert attached(["sh", "-c", "exit 3"], stopped=lambda: False, timeout=60, grace=5) == 3
    with pytest.raises(HarnessError, match="cannot start /nosuch"):
        attached(["/nosuch"], stopped=lambda: False, timeout=1, grace=1)
