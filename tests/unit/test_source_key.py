"""The key of a build from source: the same for the same build, another for any other."""

from __future__ import annotations

import hashlib
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.experiment.source_values import is_remote_repository, is_url
from modules import shared
from source_builds import Builder
from stand_in import FILES, commit, git, repository, tarball

if TYPE_CHECKING:
    from pathlib import Path

HASHES = st.text("0123456789abcdef", min_size=64, max_size=64)
WORDS = st.text(min_size=1, max_size=12)
PARTS = st.fixed_dictionaries(
    {
        "source": WORDS,
        "patches": st.lists(HASHES, max_size=4),
        "configure": st.lists(WORDS, max_size=4),
        "targets": st.lists(WORDS, min_size=1, max_size=3),
        "compiler": WORDS,
        "tools": st.lists(WORDS, max_size=2),
        "recipe": WORDS,
    }
)


@given(parts=PARTS, other=PARTS)
def test_keys_are_equal_exactly_when_every_part_is(parts: dict[str, Any], other: dict[str, Any]) -> None:
    key_of = shared("qemu_source").key_of
    assert (key_of(parts) == key_of(other)) is (parts == other)
    assert key_of(dict(reversed(parts.items()))) == key_of(parts)


@given(parts=PARTS, data=st.data())
def test_any_part_that_changes_changes_the_key(parts: dict[str, Any], data: st.DataObject) -> None:
    part = data.draw(st.sampled_from(sorted(parts)))
    changed = [*parts[part], "x"] if isinstance(parts[part], list) else f"{parts[part]}x"
    assert shared("qemu_source").key_of({**parts, part: changed}) != shared("qemu_source").key_of(parts)


@given(patches=st.lists(HASHES, min_size=2, max_size=4, unique=True), data=st.data())
def test_the_order_of_patches_matters(patches: list[str], data: st.DataObject) -> None:
    key_of, other = shared("qemu_source").key_of, data.draw(st.permutations(patches))
    assert (key_of({"patches": patches}) == key_of({"patches": other})) is (patches == other)


@given(st.text(max_size=30) | st.from_regex(r"\A[a-z+]{1,6}:/{0,3}[a-z/.~-]{0,12}\Z"))
def test_harness_and_role_tell_urls_from_paths_alike(location: str) -> None:
    module = shared("qemu_source")
    assert module.is_url(location) == is_remote_repository(location)
    assert module.is_download(location) == is_url(location) or not is_url(location)


@pytest.fixture
def builder(tmp_path: Path) -> Builder:
    return Builder(tmp_path / "state")


@pytest.fixture
def qemu(tmp_path: Path) -> Path:
    return repository(tmp_path / "qemu")


def everything_in(directory: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path): (path.lstat().st_mtime_ns, path.lstat().st_size) for path in sorted(directory.rglob("*"))
    }


@pytest.mark.parametrize("ref", ["v10.0.2", "HEAD", "master", "v10.0.2~0", "refs/tags/v10.0.2"])
def test_however_a_commit_is_named_it_is_the_same_build(builder: Builder, qemu: Path, ref: str) -> None:
    by_hash = git(qemu, "rev-parse", "HEAD")
    named, hashed = builder.key(git=str(qemu), ref=ref), builder.key(git=str(qemu), ref=by_hash[:10])
    assert named["key"] == hashed["key"]
    assert named["source"]["commit"] == by_hash
    assert named["source"]["ref"] == ref
    assert not named["complete"]


def test_a_local_repository_is_only_read(builder: Builder, qemu: Path) -> None:
    (qemu / "util" / "pool.c").write_text("not committed")
    before = everything_in(qemu)
    assert builder.make(git=str(qemu), ref="v10.0.2")["changed"]
    assert everything_in(qemu) == before


def test_a_new_message_for_the_same_code_is_the_same_build(builder: Builder, qemu: Path) -> None:
    first = builder.key(git=str(qemu))
    git(qemu, "commit", "-q", "--amend", "-m", "better words")
    second = builder.key(git=str(qemu))
    assert first["source"]["commit"] != second["source"]["commit"]
    assert first["key"] == second["key"]


def test_patches_arguments_and_code_make_another_build(builder: Builder, qemu: Path, tmp_path: Path) -> None:
    one, two = builder.patches("one", "two")
    (qemu / "util" / "new.c").write_text("int x;\n")
    commit(qemu)
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\necho another compiler\n")
    compiler.chmod(0o755)
    asked = [
        builder.key(git=str(qemu), ref="v10.0.2"),
        builder.key(git=str(qemu), ref="master"),
        builder.key(git=str(qemu), ref="v10.0.2", patches=[one]),
        builder.key(git=str(qemu), ref="v10.0.2", patches=[two]),
        builder.key(git=str(qemu), ref="v10.0.2", patches=[one, two]),
        builder.key(git=str(qemu), ref="v10.0.2", patches=[two, one]),
        builder.key(git=str(qemu), ref="v10.0.2", extra=["--enable-debug"]),
        builder.key(git=str(qemu), ref="v10.0.2", extra=[f"--cc={compiler}"]),
    ]
    assert len({answer["key"] for answer in asked}) == len(asked)
    assert asked[-1]["parts"]["compiler"] == "another compiler, another compiler"


def test_a_repository_from_elsewhere_is_mirrored_and_kept_fresh(builder: Builder, qemu: Path) -> None:
    url = f"file://{qemu}"
    unknown = builder.key(check=True, git=url, ref="v10.0.2")
    assert unknown["key"] == "", "check mode fetches nothing"
    assert not (builder.state / "sources").exists()
    first = builder.key(git=url, ref="master")
    assert first["key"] == builder.key(git=str(qemu))["key"]
    assert builder.key(check=True, git=url, ref="master")["key"] == first["key"]
    (qemu / "VERSION").write_text("10.0.3\n")
    newer = commit(qemu)
    for ref in ("master", "HEAD", newer):
        assert builder.key(git=url, ref=ref)["source"]["commit"] == newer
    # What is known by its hash is not asked for again.
    qemu.rename(qemu.with_name("gone"))
    assert builder.key(git=url, ref=newer)["source"]["commit"] == newer
    assert "cannot fetch" in builder.key(git=url, ref="master")["msg"]


def test_a_branch_that_makes_way_for_another_is_gone_from_the_mirror(builder: Builder, qemu: Path) -> None:
    url = f"file://{qemu}"
    git(qemu, "branch", "feature")
    git(qemu, "update-ref", "refs/changes/1", "HEAD")
    asked = [builder.key(git=url, ref=ref) for ref in ("feature", "refs/changes/1")]
    assert asked[0]["key"] == asked[1]["key"]
    # git keeps refs as files: no branch can be called feature/x beside one called feature.
    for gone, there in (("feature", "feature/x"), ("feature/x", "feature")):
        git(qemu, "branch", "-m", gone, there)
        (qemu / "VERSION").write_text(f"of {there}\n")
        newer = commit(qemu)
        assert builder.key(git=url, ref="master")["source"]["commit"] == newer
        assert builder.key(git=url, ref=there)["key"] == asked[0]["key"]
        # Nobody measures what upstream has withdrawn without noticing.
        assert f"there is no {gone}" in builder.key(git=url, ref=gone)["msg"]
        assert builder.key(git=url, ref="refs/changes/1")["key"] == asked[1]["key"]


def test_a_commit_that_was_asked_for_outlives_its_branch(builder: Builder, qemu: Path) -> None:
    url = f"file://{qemu}"
    git(qemu, "checkout", "-q", "-b", "feature")
    (qemu / "VERSION").write_text("of feature\n")
    wanted = commit(qemu)
    git(qemu, "checkout", "-q", "master")
    asked = builder.key(git=url, ref="feature")
    git(qemu, "branch", "-q", "-D", "feature")
    builder.key(git=url, ref="master")
    # What git does by itself, some day; and a server that does not give what it no longer shows.
    git(asked["repository"], "gc", "-q", "--prune=now")
    qemu.rename(qemu.with_name("gone"))
    assert builder.key(git=url, ref=wanted)["key"] == asked["key"]


def test_who_fetched_it_stays_a_secret(builder: Builder) -> None:
    answer = builder.key(git="https://me:secret@127.0.0.1:1/qemu.git")
    assert answer["failed"]
    assert "secret" not in str(answer["msg"])


def test_a_tarball_is_its_content(builder: Builder, tmp_path: Path) -> None:
    path = tarball(tmp_path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    plain = builder.key(tarball=str(path))
    assert plain["source"]["tarball_sha256"] == digest
    assert builder.key(tarball=str(path), checksum=f"sha256:{digest.upper()}")["key"] == plain["key"]
    assert builder.key(tarball="https://x/qemu.tar.xz", checksum=f"sha256:{digest}")["key"] == plain["key"]
    wrong = builder.key(tarball=str(path), checksum=f"sha256:{'0' * 64}")
    assert digest in wrong["msg"]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"git": "/nowhere/qemu"}, "/nowhere/qemu is not there"),
        ({"git": "/"}, "is no git repository"),
        ({"tarball": "/nowhere.tar"}, "/nowhere.tar: No such file"),
        ({"tarball": "https://x/qemu.tar.xz"}, "add `checksum: sha256:...`"),
        ({"git": "/", "ref": "--upload-pack=x"}, "looks like an option"),
    ],
)
def test_what_is_not_there_is_named(builder: Builder, source: dict[str, Any], words: str) -> None:
    message = builder.key(**source)["msg"]
    assert message.startswith("build NEW: ")
    assert words in message


def test_a_ref_that_is_not_there_is_named(builder: Builder, qemu: Path) -> None:
    assert "there is no commit v9" in builder.key(git=str(qemu), ref="v9")["msg"]
    assert "v9" in builder.key(git=f"file://{qemu}", ref="v9")["msg"]


def test_a_hooks_environment_does_not_lead_astray(
    builder: Builder, qemu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = builder.key(git=str(qemu))["key"]
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert builder.key(git=str(qemu))["key"] == expected
    assert "GIT_DIR" not in os.environ


def test_the_stand_in_is_a_tree(qemu: Path) -> None:
    listed = subprocess.check_output(["git", "-C", str(qemu), "ls-files"], text=True).split()
    assert set(listed) == set(FILES)
