"""Packages of a newer release get that release's C library, and nothing else on the host does."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import modules


def here() -> tuple[int, int]:
    version = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()[-1]
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def test_only_a_newer_release_of_the_library_is_brought_along() -> None:
    is_newer = modules.shared("own_libc").is_newer
    major, minor = here()
    assert is_newer(f"{major}.{minor + 1}-12+deb13u5")
    assert is_newer(f"{major + 1}.0-1")
    # 2.9 is older than 2.36; a revision of the distribution is no release.
    assert not is_newer("2.9-1")
    assert not is_newer(f"{major}.{minor}-999")
    assert not is_newer("")


@pytest.mark.parametrize(
    ("suite", "releases"),
    [
        ("trixie-backports", ["bookworm", "bookworm-updates", "trixie", "trixie-backports"]),
        ("bookworm-backports", ["bookworm", "bookworm-updates", "bookworm-backports"]),
        ("sid", ["bookworm", "bookworm-updates", "sid"]),
        (None, ["bookworm", "bookworm-updates"]),
    ],
)
def test_backports_bring_the_release_along_that_they_are_of(suite: str | None, releases: list[str]) -> None:
    package_tree = modules.load("package_tree")
    tree = object.__new__(package_tree.Tree)
    tree.suite = suite
    tree.host_sources = lambda: ("bookworm", [("http://mirror/debian", "bookworm", "")])
    assert [line.split()[2] for line in tree.sources().splitlines()] == releases


def run(argv: list[str]) -> tuple[int, str, str]:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A program and a script, and the host's own C library where an unpacked one would be."""
    if shutil.which("patchelf") is None:
        pytest.fail("patchelf is missing; ./bootstrap.sh test installs it")
    tree = tmp_path / "making"
    (tree / "usr/bin").mkdir(parents=True)
    shutil.copy("/bin/true", tree / "usr/bin/program")
    (tree / "usr/bin/script").write_text("#!/bin/sh\n")
    _code, loader, _err = run(["patchelf", "--print-interpreter", "/bin/true"])
    library = tree / "libc/usr/lib/some-linux-gnu"
    library.mkdir(parents=True)
    shutil.copy(Path(loader.strip()).resolve(), library / Path(loader.strip()).name)
    libc = next(Path("/lib").glob("*/libc.so.6"), None) or Path("/lib64/libc.so.6")
    shutil.copy(libc.resolve(), library / "libc.so.6")
    link = tree / "libc/usr/lib64"
    link.mkdir()
    (link / Path(loader.strip()).name).symlink_to(f"../lib/some-linux-gnu/{Path(loader.strip()).name}")
    return tree


def test_programs_start_with_the_library_beside_them(tree: Path, tmp_path: Path) -> None:
    final = tmp_path / "final"
    assert modules.shared("own_libc").bind_programs(tree, final, run) is None
    tree.rename(final)
    traced = subprocess.run(
        [final / "usr/bin/program"],
        env={"LD_TRACE_LOADED_OBJECTS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"libc.so.6 => {final}/libc/usr/lib/some-linux-gnu/libc.so.6" in traced.stdout
    assert run([str(final / "usr/bin/program")])[0] == 0
    assert (final / "usr/bin/script").read_text() == "#!/bin/sh\n"


def test_a_library_without_the_loader_is_an_error(tree: Path, tmp_path: Path) -> None:
    shutil.rmtree(tree / "libc")
    (tree / "libc").mkdir()
    wrong = modules.shared("own_libc").bind_programs(tree, tmp_path / "final", run)
    assert wrong is not None
    assert "which program starts with" in wrong
