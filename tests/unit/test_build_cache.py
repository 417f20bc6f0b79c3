"""The cache of builds: what is listed, what may go, what two builds differ in."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from harness.adapters.build_cache import BuildCache
from harness.core.builds import CachedBuild, differences, nearest, prune_plan
from harness.core.errors import BusyError, InputError
from harness.shell.cli.main import cli

if TYPE_CHECKING:
    from pathlib import Path

PARTS = {
    "source": "git tree 4c71",
    "patches": ["aa"],
    "configure": ["--one", "--two"],
    "targets": ["qemu-img"],
    "compiler": "gcc 12",
    "tools": [],
    "recipe": "1",
}
DAY = 86400


def source(key: str, **more: Any) -> dict[str, Any]:
    record = {
        "location": "~/qemu",
        "ref": "v10.0.2",
        "commit": "0123456789abcdef",
        "tarball_sha256": None,
        "patches": [{"name": "my.patch", "sha256": "aa"}],
        "configure": [],
        "compiler": "gcc 12",
        "key": key,
    }
    return {"key": key, "parts": {**PARTS, **more}, "source": record}


def add(state: Path, key: str, *, days: float = 0, **more: Any) -> Path:
    """Put a finished build from source into the cache that was used some days ago."""
    path = state / "builds" / f"source-{key[:16]}"
    (path / "bin").mkdir(parents=True)
    (path / "bin" / "qemu-system-x86_64").write_bytes(b"x" * 5000)
    (path / "source.json").write_text(json.dumps(source(key, **more)))
    (path / "build.json").write_text(json.dumps({"version": "QEMU emulator version 10.0.2 (v10)"}))
    used = time.time() - days * DAY
    os.utime(path / "build.json", (used, used))
    return path


def add_package(state: Path, *, days: float = 0) -> Path:
    path = state / "builds" / "qemu-system-x86-7.2-0a478936"
    path.mkdir(parents=True)
    (path / "tree.json").write_text(
        json.dumps({"version": "1:7.2", "versions": {"qemu-system-x86": "1:7.2"}})
    )
    used = time.time() - days * DAY
    os.utime(path / "tree.json", (used, used))
    requests = state / "builds" / ".requests"
    requests.mkdir()
    (requests / "abc").symlink_to(path)
    return path


def name_in_manifest(state: Path, path: Path) -> None:
    record = {"emulator": str(path / "bin" / "qemu-system-x86_64")}
    (state / "manifests").mkdir()
    (state / "manifests" / "mine.json").write_text(json.dumps({"builds": {"OLD": record}}))


def harness(state: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["builds", *arguments, "--state-dir", str(state)], catch_exceptions=True)


def test_the_list_shows_builds_of_every_kind(tmp_path: Path) -> None:
    add(tmp_path, "1f0c5a7be2d94c36aaaa")
    add_package(tmp_path, days=2)
    (tmp_path / "builds" / ".making-source-ffff").mkdir()
    listed = harness(tmp_path, "list").output
    assert "~/qemu v10.0.2 (0123456789ab) + my.patch" in listed
    assert "1f0c5a7be2d94c36  git" in listed
    assert "package  1:7.2" in listed
    assert "INCOMPLETE" in listed
    records = json.loads(harness(tmp_path, "list", "--json").stdout)
    assert [record["kind"] for record in records if record["complete"]] == ["git", "package"]
    assert records[1 if records[0]["kind"] is None else 0]["size_bytes"] >= 5000
    assert harness(tmp_path / "empty", "list").output.startswith("KEY")


def test_a_build_is_found_by_the_beginning_of_its_key(tmp_path: Path) -> None:
    add(tmp_path, "1f0c5a7be2d94c36aaaa")
    add(tmp_path, "1f99")
    shown = harness(tmp_path, "explain", "1f0c").output
    assert "git tree 4c71" in shown
    assert "--one --two" in shown
    for wrong, words in (("1f", "is the beginning of 2 keys"), ("zz", "neither an experiment file nor")):
        error = harness(tmp_path, "explain", wrong).exception
        assert isinstance(error, InputError)
        assert words in str(error)


def test_prune_alone_removes_what_was_left_behind(tmp_path: Path) -> None:
    kept = add(tmp_path, "1f0c", days=400)
    left = tmp_path / "builds" / ".making-source-ffff"
    left.mkdir()
    logs = tmp_path / "builds" / ".logs"
    logs.mkdir()
    (logs / "source-ffff.log").touch()
    assert "would remove .making-source-ffff" in harness(tmp_path, "prune", "--dry-run").output
    assert left.exists()
    assert "removed 1 of 2" in harness(tmp_path, "prune").output
    assert kept.exists()
    assert not left.exists()
    assert list(logs.iterdir()) == []


def test_prune_keeps_what_is_named_made_or_running(tmp_path: Path) -> None:
    named, running = add(tmp_path, "aa00", days=90), add(tmp_path, "bb00", days=90)
    making = tmp_path / "builds" / ".making-source-cc00"
    making.mkdir()
    idle = add_package(tmp_path, days=90)
    name_in_manifest(tmp_path, named)
    shutil.copy(shutil.which("sleep") or "/bin/sleep", running / "bin" / "qemu-system-x86_64")
    lock = tmp_path / "builds" / ".locks" / "source-cc00.lock"
    lock.parent.mkdir()
    with (
        lock.open("w") as held,
        subprocess.Popen([str(running / "bin" / "qemu-system-x86_64"), "60"]) as process,
    ):
        fcntl.flock(held, fcntl.LOCK_EX)
        done = harness(tmp_path, "prune", "--keep", "0")
        process.kill()
        assert done.exit_code == 0, done.output
        assert "kept source-aa00: OLD of the experiment mine" in done.output
        assert "kept source-bb00: running as process" in done.output
        assert "kept .making-source-cc00: made at the moment by" in done.output
        assert not idle.exists()
        with pytest.raises(BusyError):
            BuildCache(tmp_path).remove(".making-source-cc00")
    assert list((tmp_path / "builds" / ".requests").iterdir()) == [], "nothing points at what is gone"
    assert harness(tmp_path, "prune", "--keep", "0", "--named-too").exit_code == 0
    assert BuildCache(tmp_path).builds() == []


def test_prune_by_age(tmp_path: Path) -> None:
    young, old = add(tmp_path, "aa00", days=3), add(tmp_path, "bb00", days=40)
    assert harness(tmp_path, "prune", "--older-than", "30d").exit_code == 0
    assert young.exists()
    assert not old.exists()
    for wrong in ("soon", "-1d", "-1h", "30", "nand", "infd", "1e3d", "d", ""):
        error = harness(tmp_path, "prune", "--older-than", wrong).exception
        assert isinstance(error, InputError), wrong
        assert "write e.g. --older-than 30d" in str(error.problems[0].remedy)
    assert young.exists()
    answer = json.loads(harness(tmp_path, "prune", "--older-than", "12h", "--json").stdout)
    assert [entry["removed"] for entry in answer["builds"]] == [True]


def cached(name: str, *, complete: bool = True, used: float = 0.0, **more: Any) -> CachedBuild:
    from harness.core.model import SourceRecord

    made = source(name, **more)
    record = SourceRecord.read(made["source"])
    return CachedBuild(name, "git", None, None, record, name, made["parts"], complete, 1, used)


ENTRIES = st.lists(
    st.builds(
        lambda number, complete, used: (number, complete, used),
        st.integers(0, 50),
        st.booleans(),
        st.floats(0, 1e6),
    ),
    unique_by=lambda entry: entry[0],
    max_size=8,
)


@given(
    entries=ENTRIES,
    keep=st.none() | st.integers(0, 5),
    age=st.none() | st.floats(0, 1e6),
    protected=st.sets(st.integers(0, 50)),
)
def test_what_may_go_and_what_never(
    entries: list[tuple[int, bool, float]], keep: int | None, age: float | None, protected: set[int]
) -> None:
    builds = [cached(str(number), complete=done, used=used) for number, done, used in entries]
    names = {str(number): "needed" for number in protected}
    plan = prune_plan(builds, names, keep=keep, older_than_seconds=age, now=1e6)
    assert sorted(v.build.name for v in plan) == sorted(build.name for build in builds)
    removed = [v.build for v in plan if v.removed]
    assert not any(build.name in names for build in removed)
    whole = [build for build in removed if build.complete]
    free = [build for build in builds if build.complete and build.name not in names]
    if keep is None and age is None:
        assert whole == []
    if keep is not None:
        assert len(free) - len(whole) >= min(keep, len(free))
        kept = [build.used for build in free if build not in whole]
        if age is None:
            assert all(build.used <= min(kept, default=build.used) for build in whole)
    if age is not None:
        assert all(1e6 - build.used >= age for build in whole)
    assert all(build in removed or build.complete or build.name in names for build in builds)


def test_the_nearest_build_differs_in_the_fewest_parts() -> None:
    near, far = cached("near", patches=["bb"]), cached("far", patches=["bb"], compiler="gcc 13")
    whole = cached("half", complete=False)
    found = nearest(PARTS, [far, near, whole])
    assert found
    build, different = found
    assert build is near
    assert [(d.part, d.wanted, d.cached) for d in different] == [("patches", "aa", "bb")]
    assert nearest(PARTS, []) is None
    assert differences(PARTS, PARTS) == []


def test_patches_in_another_order_are_shown_in_their_order() -> None:
    (found,) = differences({"patches": ["a", "b"]}, {"patches": ["b", "a"]})
    assert (found.wanted, found.cached) == ("a, b", "b, a")
    (found,) = differences({"configure": ["a", "b"]}, {"configure": ["a"]})
    assert (found.wanted, found.cached) == ("b", "none")
