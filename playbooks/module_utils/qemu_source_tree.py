# ruff: noqa: INP001 - Ansible takes each file here by itself: there can be no __init__.py
"""QEMU's source tree as configure wants it without a network, with the parts that git leaves out."""

from __future__ import annotations

import configparser
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ansible.module_utils.qemu_source import FULL_HASH, is_url

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ansible.module_utils.qemu_source import Failure, Git

WANTED_PARTS = ("keycodemapdb", "berkeley-softfloat-3", "berkeley-testfloat-3")
"""Of the repositories that QEMU's tree refers to: those that its emulators do not build without."""

COROUTINE_TEST = "tests/unit/test-coroutine"
"""The target whose benchmarks are counted; its source is that with ``.c``."""

_BLOB = re.compile(r"'(edk2-[\w-]+\.fd|[\w-]+\.dt[sb])'")
_DEMANDED = re.compile(r"^\w+ = files\(([^)]*)\)", re.MULTILINE)
_NAME = re.compile(r"'([^'/]+)'")

_BENCHMARK = re.compile(r"^static void perf_\w+\(void\)\n\{.*?^\}", re.MULTILINE | re.DOTALL)
_ITERATIONS = re.compile(r"\b(max|maxcycles)( = )(\d+)(?=;)")
_ASKED = """
/* Added by qemu-ab-harness: a count takes the difference of two numbers of iterations. */
static unsigned long harness_iterations(unsigned long usual)
{
    const char *asked = getenv("HARNESS_ITERATIONS");

    return asked ? strtoul(asked, NULL, 10) : usual;
}
"""


@dataclass(frozen=True)
class Part:
    """A repository that the tree refers to.

    Attributes:
        path: where it belongs, relative to the tree.
        url: where it comes from.
        commit: which of its commits.
        overlay: a directory of the tree whose files go on top of it, or nothing.
    """

    path: str
    url: str
    commit: str
    overlay: str = ""


def submodules(git: Git, repository: Path, commit: str) -> Iterator[Part]:
    """Yield the wanted submodules of a commit (QEMU up to 8.0 has them so)."""
    listed = git.ask(repository, "ls-tree", "-r", commit) or ""
    links = re.findall(r"^160000 commit ([0-9a-f]+)\t(.*)$", listed, re.MULTILINE)
    for target, path in links:
        if Path(path).name in WANTED_PARTS:
            blob = ("config", "--blob", f"{commit}:.gitmodules")
            url = git.ask(repository, *blob, "--get", f"submodule.{path}.url")
            yield Part(path, url or "", target)


def wraps(tree: Path) -> Iterator[Part]:
    """Yield the wanted subprojects that meson would fetch (QEMU from 8.1 on has them so)."""
    for name in WANTED_PARTS:
        file = tree / "subprojects" / f"{name}.wrap"
        if not file.is_file() or (tree / "subprojects" / name).exists():
            continue
        parser = configparser.ConfigParser(interpolation=None)
        parser.read_string(file.read_text(encoding="utf-8"))
        if not parser.has_section("wrap-git"):
            continue
        wrap = parser["wrap-git"]
        patch = wrap.get("patch_directory", "")
        overlay = f"subprojects/packagefiles/{patch}" if patch else ""
        yield Part(f"subprojects/{name}", wrap.get("url", ""), wrap.get("revision", ""), overlay)


def add_part(git: Git, part: Part, tree: Path, home: Path | None, fail: Failure) -> None:
    """Put a part into the tree: from the user's own checkout, which often has it, or from elsewhere.

    Args:
        git: asked for it.
        part: what is missing.
        tree: the source tree.
        home: the git directory of the user's repository; None where the source is not one.
        fail: ends the module.
    """
    if not FULL_HASH.fullmatch(part.commit):
        fail(f"{part.path} is wanted at {part.commit or 'no'} commit; build from a release's tarball instead")
    near = [home / "modules" / part.path, home.parent / part.path / ".git"] if home else []
    found = next((place for place in near if place.is_dir() and git.commit(place, part.commit)), None)
    if found is None:
        if not is_url(part.url):
            fail(f"{part.path} is not in the repository; run `git submodule update --init` there")
        found, _ = git.fetched(part.url, part.commit)
    git.export(found, part.commit, tree / part.path)
    if part.overlay and (tree / part.overlay).is_dir():
        shutil.copytree(tree / part.overlay, tree / part.path, dirs_exist_ok=True)


def make_up_for_firmware(tree: Path) -> None:
    """Make firmware files that configure insists on where the tree has none: empty, as nothing uses them."""
    for directory in (tree / "pc-bios", tree / "pc-bios" / "dtb"):
        listing = directory / "meson.build"
        if not listing.is_file():
            continue
        text = listing.read_text(encoding="utf-8")
        blobs = {f"{name}.bz2" if name.endswith(".fd") else f"{name[:-1]}b" for name in _BLOB.findall(text)}
        # QEMU up to 6.0 wants to see every ROM that it could install; it may be a link to nowhere.
        blobs |= {name for block in _DEMANDED.findall(text) for name in _NAME.findall(block)}
        for blob in sorted(blobs):
            if not (directory / blob).exists():
                (directory / blob).unlink(missing_ok=True)
                (directory / blob).touch()


def vary_iterations(tree: Path, fail: Failure) -> None:
    """Have the benchmarks of QEMU's test-coroutine take their number of iterations from the environment.

    Without HARNESS_ITERATIONS they do what they always did; nothing but the test's own source is changed.

    Args:
        tree: the source tree, patched.
        fail: ends the module, where this version's test is none that is known.
    """
    file = tree / f"{COROUTINE_TEST}.c"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    changed = _BENCHMARK.sub(lambda found: _ITERATIONS.sub(r"\1\2harness_iterations(\3)", found[0]), text)
    includes = text.rfind("#include")
    if changed == text or not -1 < includes < changed.find("harness_iterations"):
        fail(f"{COROUTINE_TEST}.c has no benchmarks as they are known: this version cannot be counted by it")
    end = changed.index("\n", includes) + 1
    file.write_text(changed[:end] + _ASKED + changed[end:], encoding="utf-8")


def collect_firmware(into: Path, places: Sequence[Path]) -> None:
    """Copy the ROMs that a PC boots with: the tree's own first, what it lacks from the host's packages."""
    into.mkdir(parents=True, exist_ok=True)
    for place in places:
        for file in sorted([*place.glob("*.bin"), *place.glob("*.rom")]):
            if file.stat().st_size and not (into / file.name).exists():
                shutil.copyfile(file, into / file.name)
    keymaps = places[0] / "keymaps" if places else into
    if keymaps.is_dir():
        shutil.copytree(keymaps, into / "keymaps", ignore=shutil.ignore_patterns("meson.build"))
