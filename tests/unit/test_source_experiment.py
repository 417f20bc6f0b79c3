"""Builds from source in an experiment file: what is accepted, what is refused and in which words."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from harness.adapters.paths import check_paths, companion_problems
from harness.core.errors import InputError
from harness.core.experiment import BUILD_KINDS, GitBuild, TarballBuild, load_experiment
from harness.core.model import BuildRecord
from harness.shell.cli.main import cli

if TYPE_CHECKING:
    from harness.core.experiment import Experiment

ROOT = Path(__file__).parents[2]
CHECKSUM = f"sha256:{'ab' * 32}"


def load(new: str) -> Experiment:
    text = f"name: t\nbuilds:\n  old: {{git: ~/qemu, ref: v10.0.2}}\n  new: {new}\nbaseline: old\n"
    return load_experiment(text, "t.yml")


def problems(new: str) -> str:
    with pytest.raises(InputError) as caught:
        load(new)
    return "\n".join(f"{p.where}: {p.message}; {p.remedy}" for p in caught.value.problems)


def test_a_ref_and_the_same_ref_with_a_patch_are_three_lines() -> None:
    experiment = load_experiment((ROOT / "fio" / "patch.yml").read_text(), "patch.yml")
    old, new = experiment.builds["old"], experiment.builds["new"]
    assert isinstance(old, GitBuild)
    assert isinstance(new, GitBuild)
    assert (old.git, old.ref, old.patches) == ("~/qemu", "v10.0.2", ())
    assert new.patches == ("my.patch",)
    lines = (ROOT / "fio" / "patch.yml").read_text().splitlines()
    assert lines.index("baseline: old") - lines.index("builds:") == 3


@pytest.mark.parametrize(
    "new",
    [
        "{git: /home/me/qemu}",
        "{git: https://example.org/qemu.git, ref: 0123456789abcdef0123456789abcdef01234567}",
        "{git: me@example.org:qemu.git, ref: v10.0.0~3, patches: a.patch, configure: --disable-kvm}",
        "{git: ~/qemu, ref: refs/pull/7/head, patches: [a.patch, ../b.patch]}",
        "{tarball: qemu-10.0.2.tar.xz}",
        "{tarball: /srv/qemu.tar.xz, configure: [--disable-linux-io-uring]}",
        f"{{tarball: 'https://example.org/qemu.tar.xz', checksum: '{CHECKSUM}'}}",
    ],
)
def test_what_is_accepted_survives_being_written_out(new: str) -> None:
    experiment = load(new)
    assert load_experiment(experiment.to_yaml(), "again.yml") == experiment


def test_every_kind_says_which_it_is() -> None:
    example = {"path": "/q", "package": "q", "git": "/q", "tarball": "q.tar"}
    for kind, section in BUILD_KINDS.items():
        build = section.model_validate({kind: example[kind]})
        assert build.kind == kind


@pytest.mark.parametrize(
    ("new", "words"),
    [
        ("{git: qemu}", "builds.new.git: 'qemu' is neither an absolute path nor a URL"),
        ("{git: ./qemu}", "write the repository's path from / or ~"),
        ("{git: --upload-pack=x}", "builds.new.git"),
        ("{git: /q, ref: -x}", "builds.new.ref: '-x' is not a git ref"),
        ("{git: /q, ref: 'a b'}", "is not a git ref"),
        ("{git: /q, ref: 10.0}", "put it in quotes"),
        ("{git: /q, patches: [a.patch, a.patch]}", "builds.new.patches: 'a.patch' is there twice"),
        ("{git: /q, patches: 'https://x/a.patch'}", "save the patch beside the experiment file"),
        ("{git: /q, patches: {a: b}}", "where a list is expected"),
        ("{git: /q, configure: [disable-kvm]}", "builds.new.configure[0]: 'disable-kvm' is no argument"),
        ("{git: /q, configure: --target-list=arm-softmmu}", "is not yours to set"),
        ("{git: /q, tag: v1}", "builds.new.tag: is an unknown key"),
        ("{git: /q, checksum: x}", "builds.new.checksum: is an unknown key"),
        ("{git: /q, path: /q}", "a build is made in one way, here are path and git"),
        ("{tarball: 'https://x/q.tar'}", "builds.new.checksum: a tarball from a URL needs a checksum"),
        ("{tarball: q.tar, checksum: md5:1}", "is not a checksum; write sha256:"),
        ("{tarball: ''}", "names no file"),
        ("{tarbal: q.tar}", "did you mean tarball?"),
    ],
)
def test_what_is_refused_is_named_with_a_remedy(new: str, words: str) -> None:
    assert words in problems(new)


@given(st.text(max_size=40))
def test_any_location_is_taken_as_it_is_or_refused(location: str) -> None:
    for kind in ("git", "tarball"):
        document = {
            "name": "t",
            "builds": {"a": {kind: location}, "b": {kind: location}},
            "baseline": "a",
        }
        with contextlib.suppress(InputError):
            build = load_experiment(json.dumps(document), "t.yml").builds["a"]
            assert location in {getattr(build, "git", None), getattr(build, "tarball", None)}


def test_a_missing_patch_is_found_before_anything_is_touched(tmp_path: Path) -> None:
    file = tmp_path / "e.yml"
    file.write_text(
        "name: t\nbaseline: old\nbuilds:\n  old: {git: /nowhere}\n"
        "  new: {git: /nowhere, patches: [there.patch, a.patch, b.patch]}\n"
        "  packed: {tarball: q.tar}\n"
    )
    (tmp_path / "there.patch").touch()
    done = CliRunner().invoke(cli, ["check", str(file)], catch_exceptions=True)
    assert isinstance(done.exception, InputError)
    found = [problem.where for problem in done.exception.problems]
    assert found == [
        f"{file}: builds.new.patches[1]",
        f"{file}: builds.new.patches[2]",
        f"{file}: builds.packed.tarball",
    ]
    experiment = load_experiment(file.read_text(), str(file))
    (tmp_path / "q.tar").touch()
    assert len(companion_problems(experiment, "e", tmp_path)) == 2
    with pytest.raises(InputError) as caught:
        check_paths(experiment, "e", tmp_path)
    assert "e: builds.old.git" in [problem.where for problem in caught.value.problems]


def test_a_record_comes_back_from_json_as_it_was() -> None:
    plain = {"name": "OLD", "kind": "path", "emulator": "/q", "binary": "/q", "sha256": "ab", "version": "Q"}
    assert BuildRecord.read(plain).source is None, "records of older runs have none"
    source = {
        "location": "~/qemu",
        "ref": "v10.0.2",
        "commit": "0123456789abcdef",
        "tarball_sha256": None,
        "patches": [{"name": "my.patch", "sha256": "cd"}],
        "configure": ["--disable-kvm"],
        "compiler": "gcc 12",
        "key": "ef",
    }
    record = BuildRecord.read({**plain, "source": source}).source
    assert record
    assert record.summary == "~/qemu v10.0.2 (0123456789ab) + my.patch --disable-kvm"


def test_a_tarball_may_be_named_by_its_checksum_in_capitals() -> None:
    build = load(f"{{tarball: q.tar, checksum: 'sha256:{'AB' * 32}'}}").builds["new"]
    assert isinstance(build, TarballBuild)


@pytest.mark.parametrize(
    "build",
    [
        "{git: 'https://jane:S3CR3T@example.org/qemu.git', ref: master}",
        "{git: 'https://S3CR3T@example.org/qemu.git', ref: master}",
        "{git: 'ssh://jane:S3CR3T@example.org/qemu.git', ref: master}",
        "{tarball: 'https://example.org/qemu.tar.xz?token=S3CR3T', checksum: 'sha256:" + "0" * 64 + "'}",
        "{tarball: 'https://jane:S3CR3T@example.org/q.tar.xz', checksum: 'sha256:" + "0" * 64 + "'}",
    ],
)
def test_a_url_with_a_secret_is_refused_and_not_repeated(build: str) -> None:
    text = f"name: t\nbuilds: {{OLD: {build}, NEW: {{path: /new}}}}\nbaseline: OLD\n"
    with pytest.raises(InputError) as caught:
        load_experiment(text, "t.yml")
    (problem,) = caught.value.problems
    assert "a URL with a user, password or token in it" in problem.message
    assert "credential helper" in str(problem.remedy)
    assert "S3CR3T" not in f"{problem.message}{problem.remedy}{caught.value}"


@pytest.mark.parametrize("location", ["ssh://git@example.org/qemu.git", "git@example.org:qemu.git"])
def test_a_user_of_ssh_is_no_secret(location: str) -> None:
    text = f"name: t\nbuilds: {{OLD: {{git: '{location}', ref: a}}, NEW: {{path: /new}}}}\nbaseline: OLD\n"
    assert load_experiment(text, "t.yml").builds
