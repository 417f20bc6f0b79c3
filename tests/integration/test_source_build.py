"""Building from source for real, a tree of two files: git, cc and ninja are the real ones."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import modules
from source_builds import Builder, missing_tools, version
from stand_in import FILES, commit, git, patch, repository, runs, tarball, write_tree

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.ansible


@pytest.fixture
def builder(tmp_path: Path) -> Builder:
    missing = missing_tools()
    assert not missing, (
        f"{missing} missing; `harness provision` of an experiment with a git build installs them"
    )
    return Builder(tmp_path / "state")


@pytest.fixture
def qemu(tmp_path: Path) -> Path:
    return repository(tmp_path / "qemu")


def start(builder: Builder, **wanted: Any) -> subprocess.Popen[str]:
    """Start a build in a process of its own."""
    arguments = json.dumps(builder.arguments(**wanted))
    return subprocess.Popen(
        [sys.executable, str(modules.__file__), "qemu_source_build", arguments],
        stdout=subprocess.PIPE,
        text=True,
    )


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_the_same_build_is_made_once(builder: Builder, qemu: Path) -> None:
    first, second = builder.make(git=str(qemu)), builder.make(git=str(qemu))
    assert (first["changed"], second["changed"]) == (True, False)
    assert version(first["directory"]) == "10.0.128"
    assert (first["directory"] / "bin" / "qemu-img").is_file()
    assert builder.finished() == {first["directory"].name}
    assert builder.key(git=str(qemu))["complete"]
    assert builder.working() == []


def test_check_mode_builds_nothing(builder: Builder, qemu: Path) -> None:
    arguments = builder.arguments(git=str(qemu))
    assert modules.call("qemu_source_build", check=True, **arguments)["changed"]
    assert not builder.builds.exists()


def test_patches_are_applied_in_their_order(builder: Builder, qemu: Path) -> None:
    one = patch("64")
    two = one.replace("-    return 128;", "-    return 64;").replace("+    return 64;", "+    return 7;")
    patches = builder.patches(one, two)
    made = builder.make(git=str(qemu), patches=patches)
    assert version(made["directory"]) == "10.0.7"
    assert [file.read_text() for file in sorted((made["directory"] / "patches").iterdir())] == [one, two]
    wrong = builder.make(git=str(qemu), patches=patches[::-1])
    assert "0.patch does not apply" in wrong["msg"] or "1.patch does not apply" in wrong["msg"]
    assert "util/pool.c:1" in wrong["msg"], "git says where"
    assert builder.finished() == {made["directory"].name}
    assert builder.working() == []


def test_a_repository_around_the_state_directory_is_left_alone(tmp_path: Path) -> None:
    outer = repository(tmp_path / "outer")
    builder = Builder(outer / "state")
    made = builder.make(git=str(outer), patches=builder.patches(patch("5")))
    assert version(made["directory"]) == "10.0.5"
    assert git(outer, "diff") == ""


def test_a_compile_error_is_the_compilers(builder: Builder, qemu: Path) -> None:
    failed = builder.make(git=str(qemu), patches=builder.patches(patch("batch->size")))
    assert failed["msg"].startswith("build NEW: it does not compile\n  FAILED: pool.o")
    assert "pool.c:3:12: error: " in failed["msg"]
    assert "batch" in failed["msg"]
    log = Path(failed["msg"].rpartition("the whole log: ")[2])
    assert "error: " in log.read_text()
    assert builder.finished() == set()
    assert builder.working() == []
    assert not builder.key(git=str(qemu), patches=builder.patches(patch("batch->size")))["complete"]


def test_configure_says_what_it_lacks(builder: Builder, qemu: Path) -> None:
    failed = builder.make(git=str(qemu), extra=["--missing"])
    assert 'meson.build:7:4: ERROR: Dependency "glib-2.0" not found' in failed["msg"]
    assert builder.working() == []


def test_an_argument_nobody_knows_is_an_error_only_if_the_user_gave_it(builder: Builder, qemu: Path) -> None:
    # The stand-in knows neither --disable-download nor --meson, as some versions of QEMU.
    assert builder.make(git=str(qemu))["changed"]
    assert "ERROR: unknown option --broken" in builder.make(git=str(qemu), extra=["--broken"])["msg"]


def test_roms_are_the_trees_own_then_the_hosts(builder: Builder, qemu: Path, tmp_path: Path) -> None:
    host = tmp_path / "seabios"
    host.mkdir()
    (host / "bios-256k.bin").write_text("the host's")
    (host / "vgabios.bin").write_text("the host's")
    arguments = builder.arguments(git=str(qemu)) | {"firmware": [str(host), "/nowhere"]}
    assert modules.call("qemu_source_build", **arguments)["changed"]
    (roms,) = builder.builds.glob("source-*/share/qemu")
    assert (roms / "bios-256k.bin").read_text() == FILES["pc-bios/bios-256k.bin"]
    assert (roms / "vgabios.bin").read_text() == "the host's"


def test_a_source_that_lacks_roms_is_configured_all_the_same(tmp_path: Path) -> None:
    roms = tmp_path / "pc-bios"
    roms.mkdir()
    # As QEMU 5.2 has it: what files() names has to exist, the list of later versions need not.
    listed = "'bios.bin',\n  'QEMU,tcx.bin',\n"
    text = f"fds = [\n  'edk2-i386-vars.fd',\n]\nblobs = files(\n  {listed})\nlist = [\n  'pvh.bin',\n]\n"
    (roms / "meson.build").write_text(text)
    (roms / "bios.bin").write_text("the tree's own")
    (roms / "QEMU,tcx.bin").symlink_to("../roms/nowhere")
    modules.shared("qemu_source_tree").make_up_for_firmware(tmp_path)
    assert (roms / "bios.bin").read_text() == "the tree's own"
    assert (roms / "QEMU,tcx.bin").read_text() == ""
    assert (roms / "edk2-i386-vars.fd.bz2").is_file()
    assert not (roms / "pvh.bin").exists()


def test_a_tarball_is_built(builder: Builder, tmp_path: Path) -> None:
    made = builder.make(tarball=str(tarball(tmp_path)), patches=builder.patches(patch("9")))
    assert version(made["directory"]) == "10.0.9"


def test_what_is_not_qemus_source_is_said_so(builder: Builder, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "README").write_text("another project")
    commit(other)
    assert "it is not QEMU's source" in builder.make(git=str(other))["msg"]
    assert builder.working() == []


KEYMAP = "subprojects/keycodemapdb"


def data_repository(directory: Path, value: int) -> tuple[Path, str]:
    directory.mkdir()
    (directory / "data.h").write_text(f"#define DATA {value}\n")
    return directory, commit(directory)


def test_a_subproject_that_git_leaves_out_is_put_in_place(builder: Builder, tmp_path: Path) -> None:
    data, revision = data_repository(tmp_path / "data", 2)
    tree = write_tree(tmp_path / "qemu", without=KEYMAP)
    (tree / "subprojects").mkdir()
    wrap = f"[wrap-git]\nurl = file://{data}\nrevision = {revision}\npatch_directory = more\n"
    (tree / "subprojects" / "keycodemapdb.wrap").write_text(wrap)
    (tree / "subprojects" / "packagefiles" / "more").mkdir(parents=True)
    (tree / "subprojects" / "packagefiles" / "more" / "meson.build").write_text("\n")
    commit(tree)
    assert version(builder.make(git=str(tree))["directory"]) == "10.0.130"
    # The mirror serves the next build, also without the network.
    data.rename(data.with_name("gone"))
    (tree / "VERSION").write_text("10.0.3\n")
    commit(tree)
    assert builder.make(git=str(tree))["changed"]


def test_a_submodule_is_taken_from_the_users_own_checkout(builder: Builder, tmp_path: Path) -> None:
    data, _revision = data_repository(tmp_path / "data", 3)
    tree = write_tree(tmp_path / "qemu", without=KEYMAP)
    git(tree, "init", "-q")
    git(tree, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(data), KEYMAP)
    commit(tree)
    data.rename(data.with_name("gone"))
    assert version(builder.make(git=str(tree))["directory"]) == "10.0.131"


@pytest.fixture
def slow_compiler(tmp_path: Path) -> Path:
    """A compiler that waits until it may go on."""
    gate, script = tmp_path / "gate", tmp_path / "slow-cc"
    begun = tmp_path / "begun"
    script.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *pool.c*) echo $$ >> {begun}; while [ ! -e {gate} ]; do sleep 0.05; done ;; esac\n'
        'exec cc "$@"\n'
    )
    script.chmod(0o755)
    return script


def test_a_build_that_was_killed_is_gone_on_with(builder: Builder, qemu: Path, slow_compiler: Path) -> None:
    begun, wanted = slow_compiler.with_name("begun"), {"git": str(qemu), "extra": [f"--cc={slow_compiler}"]}
    with start(builder, **wanted) as process:
        wait_for(begun.exists)
        process.send_signal(signal.SIGKILL)
    assert builder.finished() == set()
    (stage,) = builder.working()
    assert (stage / "build" / "build.ninja").exists()
    # What the dead module had started ends too: ninja tells its compilers.
    compiler = begun.read_text().split()[0]
    wait_for(lambda: not runs(compiler))
    slow_compiler.with_name("gate").touch()
    made = builder.make(**wanted)
    assert made["changed"]
    assert version(made["directory"]) == "10.0.128"
    log = (made["directory"] / "build.log").read_text()
    assert log.count("unknown option") == 2, "configured once: each unknown option was met once"
    assert builder.working() == []


def test_two_that_want_the_same_build_make_it_once(builder: Builder, qemu: Path, slow_compiler: Path) -> None:
    begun, wanted = slow_compiler.with_name("begun"), {"git": str(qemu), "extra": [f"--cc={slow_compiler}"]}
    with start(builder, **wanted) as one, start(builder, **wanted) as other:
        wait_for(begun.exists)
        slow_compiler.with_name("gate").touch()
        answers = [json.loads(process.communicate(timeout=60)[0]) for process in (one, other)]
    assert sorted(answer["changed"] for answer in answers) == [False, True]
    assert len(begun.read_text().split()) == 1


def test_half_of_a_copy_is_no_build(builder: Builder, qemu: Path) -> None:
    made = builder.make(git=str(qemu))["directory"]
    (made / "source.json").write_text("{")
    assert not builder.key(git=str(qemu))["complete"]
    assert builder.make(git=str(qemu))["changed"]
    assert builder.key(git=str(qemu))["complete"]


def test_flags_of_the_environment_do_not_reach_a_build(
    builder: Builder, qemu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CFLAGS", "-nonsense")
    monkeypatch.setenv("CC", "false")
    assert builder.make(git=str(qemu))["changed"]


NINJA_LOG = """\
[1/9] Compiling C object a.o
FAILED: libqemuutil.a.p/util_qemu-coroutine.c.o
cc -Ilibqemuutil.a.p -I. -c ../src/util/qemu-coroutine.c
In file included from ../src/util/qemu-coroutine.c:16:
../src/util/qemu-coroutine.c: In function 'coroutine_pool_get':
../src/util/qemu-coroutine.c:25:3: error: 'batch' undeclared (first use in this function)
   25 |   return batch;
[2/9] Compiling C object b.o
../src/util/b.c:9:1: warning: unused
[3/9] Compiling C object c.o
ninja: build stopped: subcommand failed.
"""


def test_of_a_parallel_build_the_step_that_failed_is_shown() -> None:
    log = modules.shared("qemu_build_log")
    lines = log.compile_errors(NINJA_LOG)
    assert lines[0] == "FAILED: libqemuutil.a.p/util_qemu-coroutine.c.o"
    assert lines[1].endswith("In function 'coroutine_pool_get':")
    assert "error: 'batch' undeclared" in lines[2]
    assert not any("warning: unused" in line or "build stopped" in line for line in lines)
    assert log.compile_errors("Killed\n") == ["Killed"]


def test_of_the_roles_arguments_a_version_goes_without_those_it_refuses() -> None:
    refused = modules.shared("qemu_build_log").refused_argument
    own = ["--enable-x", "--python=/venv/bin/python3", "--meson=/venv/bin/meson"]
    assert refused("ERROR: unknown option --enable-x\nTry --help\n", own) == "--enable-x"
    assert refused("ERROR: unknown option --users\n", own) is None
    assert refused("all well", own) is None
    embedded = "ERROR: --python requires using QEMU's embedded Meson distribution.\n"
    assert refused(embedded, own) == "--python=/venv/bin/python3"
    assert refused(embedded, ["--meson=/venv/bin/meson"]) is None, (
        "the user's --python is the user's business"
    )


def test_the_checksum_of_the_patch_that_is_applied_is_the_keys(builder: Builder, qemu: Path) -> None:
    (one,) = builder.patches(patch("1"))
    mark = json.loads((builder.make(git=str(qemu), patches=[one])["directory"] / "source.json").read_text())
    assert mark["parts"]["patches"] == [hashlib.sha256(patch("1").encode()).hexdigest()]
    assert mark["source"]["patches"] == [one]
    assert Path(mark["source"]["location"]).is_absolute()


def test_benchmarks_of_coroutines_are_made_where_asked_for(builder: Builder, qemu: Path) -> None:
    plain = builder.make(git=str(qemu))
    asking = Builder(builder.state, further=("tests/unit/test-coroutine",)).make(git=str(qemu))
    assert asking["directory"] != plain["directory"], "they are a build of their own"
    assert not (Path(plain["directory"]) / "bin" / "test-coroutine").exists()
    program = str(Path(asking["directory"]) / "bin" / "test-coroutine")
    argv = [program, "-m", "perf", "-p", "/perf/lifecycle"]
    for environment, iterations in (({"HARNESS_ITERATIONS": "000000000007"}, 7), ({}, 1_000_000)):
        said = subprocess.run(argv, env=environment, check=True, capture_output=True, text=True).stdout
        assert said == f"# Lifecycle {iterations} iterations: 0.250000 s\n"
