"""Commit after commit built in one working directory: quicker, and the same binaries as from nothing."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import modules
from source_builds import Builder, missing_tools, version
from stand_in import POOL, commit, git, patch, repository

pytestmark = pytest.mark.ansible


@pytest.fixture
def builder(tmp_path: Path) -> Builder:
    missing = missing_tools()
    assert not missing, f"{missing} missing"
    return Builder(tmp_path / "state")


@pytest.fixture
def qemu(tmp_path: Path) -> Path:
    return repository(tmp_path / "qemu")


def pool(size: object) -> str:
    return POOL.replace("128", str(size))


def change(qemu: Path, text: str, file: str = "util/pool.c") -> str:
    (qemu / file).write_text(text)
    return commit(qemu)


def log_of(made: dict[str, object]) -> str:
    return (Path(str(made["directory"])) / "build.log").read_text()


def growing(builder: Builder) -> list[Path]:
    return [path for path in builder.builds.glob(".growing-*") if path.is_dir()]


def hashes(directory: Path) -> dict[str, str]:
    """Return the SHA-256 of each binary without its debug information, which names the working directory."""
    found = {}
    for binary in sorted((directory / "bin").iterdir()):
        bare = binary.with_name("bare")
        cut = ["--strip-debug", "--remove-section=.note.gnu.build-id"]
        subprocess.run(["objcopy", *cut, str(binary), str(bare)], check=True)
        found[binary.name] = hashlib.sha256(bare.read_bytes()).hexdigest()
        bare.unlink()
    return found


def test_only_what_a_commit_changed_is_compiled(builder: Builder, qemu: Path) -> None:
    first = builder.make(git=str(qemu), incremental=True)
    assert first["made"] == "from nothing"
    before = git(qemu, "rev-parse", "HEAD")
    change(qemu, pool(64))
    second = builder.make(git=str(qemu), incremental=True)
    assert second["made"] == f"on top of {before[:12]}"
    assert version(second["directory"]) == "10.0.64"
    assert "util/pool.c" in log_of(second)
    assert "util/main.c" not in log_of(second)
    assert builder.make(git=str(qemu), incremental=True)["made"] == "", "it is in the cache"
    assert len(growing(builder)) == 1


def test_back_and_forth_the_binaries_are_those_of_builds_from_nothing(
    builder: Builder, qemu: Path, tmp_path: Path
) -> None:
    commits = [git(qemu, "rev-parse", "HEAD")]
    commits += [change(qemu, pool(64)), change(qemu, "one more file\n", "util/more.h")]
    (qemu / "util/more.h").unlink()
    commits += [commit(qemu), change(qemu, "#define DATA 7\n", "subprojects/keycodemapdb/data.h")]
    clean = Builder(tmp_path / "clean")
    for ref in (commits[3], commits[0], commits[2], commits[1], commits[4]):
        grown = builder.make(git=str(qemu), ref=ref, incremental=True)
        whole = clean.make(git=str(qemu), ref=ref)
        assert grown["directory"].name == whole["directory"].name, "one key, however it is built"
        assert hashes(grown["directory"]) == hashes(whole["directory"])


def test_patches_stay_on_top(builder: Builder, qemu: Path) -> None:
    patches = builder.patches(patch("7"))
    assert version(builder.make(git=str(qemu), patches=patches, incremental=True)["directory"]) == "10.0.7"
    change(qemu, "/* elsewhere */\n", "util/other.c")
    again = builder.make(git=str(qemu), patches=patches, incremental=True)
    assert again["made"].startswith("on top of")
    assert version(again["directory"]) == "10.0.7"
    without = builder.make(git=str(qemu), incremental=True)
    assert without["made"] == "from nothing"
    assert version(without["directory"]) == "10.0.128"


@pytest.mark.parametrize("file", ["VERSION", "configs/targets/x.mak", "subprojects/keycodemapdb.wrap"])
def test_what_ninja_does_not_see_begins_anew(builder: Builder, qemu: Path, file: str) -> None:
    builder.make(git=str(qemu), incremental=True)
    (qemu / file).parent.mkdir(parents=True, exist_ok=True)
    change(qemu, "x\n", file)
    assert builder.make(git=str(qemu), incremental=True)["made"] == "from nothing"


def test_a_commit_that_does_not_compile_spoils_nothing(builder: Builder, qemu: Path) -> None:
    builder.make(git=str(qemu), incremental=True)
    good = git(qemu, "rev-parse", "HEAD")
    broken = change(qemu, pool("nothing"))
    failed = builder.make(git=str(qemu), incremental=True)
    assert failed["build_failed"]
    assert "error: 'nothing' undeclared" in failed["msg"].replace("\u2018", "'").replace("\u2019", "'")
    assert builder.working() == []
    change(qemu, pool(5))
    after = builder.make(git=str(qemu), incremental=True)
    assert after["made"] == f"on top of {broken[:12]}"
    assert version(after["directory"]) == "10.0.5"
    assert builder.make(git=str(qemu), ref=good, incremental=True)["made"] == ""


def test_what_only_fails_on_top_of_another_is_built_from_nothing(builder: Builder, qemu: Path) -> None:
    builder.make(git=str(qemu), incremental=True)
    change(qemu, pool(5))
    (place,) = growing(builder)
    # Something in the working directory went wrong that is not the source's fault.
    (place / "build" / "build.ninja").write_text("rule broken\n  command = false\nbuild qemu-img: broken\n")
    made = builder.make(git=str(qemu), incremental=True)
    assert made["made"] == "from nothing"
    assert version(made["directory"]) == "10.0.5"


def test_a_full_disk_is_not_the_commits_fault(builder: Builder, qemu: Path, tmp_path: Path) -> None:
    compiler = tmp_path / "full-cc"
    compiler.write_text('#!/bin/sh\necho "fatal error: x.o: No space left on device" >&2; exit 1\n')
    compiler.chmod(0o755)
    change(qemu, pool(5))
    extra = [f"--cc={compiler}"]
    wanted = builder.arguments(git=str(qemu)) | {"extra": extra}
    assert not modules.call("qemu_source_build", **wanted)["build_failed"]


def test_a_build_that_was_killed_is_made_all_the_same(builder: Builder, qemu: Path, tmp_path: Path) -> None:
    gate, begun, compiler = tmp_path / "gate", tmp_path / "begun", tmp_path / "slow-cc"
    compiler.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *pool.c*) touch {begun}; while [ ! -e {gate} ]; do sleep 0.05; done ;; esac\n'
        'exec cc "$@"\n'
    )
    compiler.chmod(0o755)
    gate.touch()
    wanted = {"git": str(qemu), "extra": [f"--cc={compiler}"]}
    builder.make(incremental=True, **wanted)
    gate.unlink()
    begun.unlink()
    change(qemu, pool(9))
    arguments = json.dumps(builder.arguments(**wanted) | {"incremental": True})
    with subprocess.Popen(
        [sys.executable, str(modules.__file__), "qemu_source_build", arguments], stdout=subprocess.PIPE
    ) as process:
        deadline = time.monotonic() + 60
        while not begun.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    gate.touch()
    made = builder.make(incremental=True, **wanted)
    assert version(made["directory"]) == "10.0.9"


def test_the_users_repository_is_not_written_to(builder: Builder, qemu: Path) -> None:
    hook = qemu / ".git/hooks/post-index-change"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {qemu}/hooked\n")
    hook.chmod(0o755)
    builder.make(git=str(qemu), incremental=True)
    (qemu / "hooked").unlink(missing_ok=True)
    hook.chmod(0o644)
    change(qemu, pool(3))
    hook.chmod(0o755)
    before = sorted((str(p), p.stat().st_mtime_ns) for p in (qemu / ".git").rglob("*"))
    assert builder.make(git=str(qemu), incremental=True)["made"].startswith("on top of")
    assert sorted((str(p), p.stat().st_mtime_ns) for p in (qemu / ".git").rglob("*")) == before
    assert not (qemu / "hooked").exists()
