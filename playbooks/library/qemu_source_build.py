# ruff: noqa: INP001 - Ansible takes each file here for a module: there can be no __init__.py
"""Ansible module: build QEMU from source into a directory of its own, once."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.qemu_build_log import (
    compile_errors,
    configure_errors,
    host_at_fault,
    unknown_option,
)
from ansible.module_utils.qemu_growing import CONFIGURED, Growing
from ansible.module_utils.qemu_source import MARK, Failure, Git, directory_of, locked, read_mark
from ansible.module_utils.qemu_source_tree import (
    add_part,
    collect_firmware,
    make_up_for_firmware,
    submodules,
    wraps,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

DOCUMENTATION = r"""
module: qemu_source_build
short_description: Build QEMU from source
description:
  - Works in a hidden directory of the build's key and renames the outcome when it is complete, so that what
    exists is whole. A failed build leaves its log; one that was killed is gone on with.
  - Two that want the same build wait for one another; the second finds it made. Nothing is installed.
  - With O(incremental) a working directory stays, and the next commit is built in it, of which only what
    changed is compiled. Where that would not be safe, or fails, the build is made from nothing.
options:
  build: {type: str, required: true, description: The build's name in the experiment.}
  key: {type: str, required: true, description: The key that qemu_source_key worked out.}
  parts: {type: dict, required: true, description: What went into the key.}
  source: {type: dict, required: true, description: "Where the code is from, for the record."}
  repository: {type: str, description: "The git directory to take the commit from."}
  tarball: {type: path, description: The tarball on this host.}
  patches: {type: list, elements: dict, default: [], description: "name and sha256, in order."}
  configure: {type: list, elements: str, default: [], description: "The role's; old versions lack some."}
  tool_arguments: {type: list, elements: str, default: [], description: "Those that name tools; likewise."}
  extra: {type: list, elements: str, default: [], description: "The user's arguments."}
  targets: {type: list, elements: str, required: true, description: What ninja is to make.}
  firmware: {type: list, elements: path, default: [], description: Where the host has ROMs.}
  parent: {type: path, required: true, description: Directory that holds the builds.}
  sources: {type: path, required: true, description: "Directory of mirrors and, by their hash, of patches."}
  ccache: {type: path, description: "Directory of the compiler cache, used where ccache is installed."}
  jobs: {type: int, default: 0, description: "Compilers at a time; 0: as many as there are CPUs."}
  nice: {type: int, default: 19, description: The priority of the build.}
  incremental: {type: bool, default: false, description: "Build a commit on top of the one built before it."}
"""


class Build:
    """One build from source."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params: dict[str, Any] = module.params
        self.fail = Failure(module, f"build {module.params['build']}")
        self.parent = Path(module.params["parent"])
        self.path = directory_of(self.parent, module.params["key"])
        self.stage = self.parent / f".making-{self.path.name}"
        self.place(self.stage)
        self.log = self.parent / ".logs" / f"{self.path.name}.log"
        self.lock = self.parent / ".locks" / f"{self.path.name}.lock"

    def place(self, work: Path) -> None:
        """Say where the source and the objects are."""
        self.work = work
        self.tree = work / "src"
        self.objects = work / "build"

    def make(self) -> str:
        """Make the build unless it is there; return how it was made, nothing where it was there."""
        with locked(self.lock, inherited=True) as descriptor:
            self.held = [descriptor]
            if read_mark(self.path) is not None:
                return ""
            made = self.grown() if self.params["incremental"] and self.params["repository"] else ""
            return made or self.from_nothing()

    def from_nothing(self) -> str:
        """Build all of it, or what is left of it where that was interrupted."""
        self.place(self.stage)
        if not (self.stage / CONFIGURED).exists():
            shutil.rmtree(self.stage, ignore_errors=True)
            self.prepare()
            (self.stage / CONFIGURED).touch()
        self.compile()
        self.finish()
        return "from nothing"

    def prepare(self) -> None:
        """Bring the source, and configure it."""
        self.fetch_source()
        self.patch()
        make_up_for_firmware(self.tree)
        self.configure()

    def grown(self) -> str:
        """Build on top of what was built before; return nothing where that did not work out."""
        git = Git(self.module, Path(self.params["sources"]), self.fail)
        growing = Growing(git, self.parent, self.params)
        with locked(self.parent / ".locks" / growing.lock_name, inherited=True) as descriptor:
            self.held.append(descriptor)
            self.place(growing.path)
            self.log.unlink(missing_ok=True)
            before = growing.advance()
            if before is None:
                growing.clear()
                self.prepare()
                growing.settle()
            else:
                make_up_for_firmware(self.tree)
            if before is None:
                self.compile()
            elif self.ninja() is not None:
                # Perhaps it is what was here before that does not go with it: from nothing it is certain.
                return ""
            self.finish()
        return f"on top of {before[:12]}" if before else "from nothing"

    def file_of(self, patch: dict[str, str]) -> Path:
        """Return where a patch lies on this host."""
        return Path(self.params["sources"]) / "patches" / patch["sha256"]

    # Commands

    def logged(self, argv: Sequence[str], cwd: Path) -> str | None:
        """Run a command of low priority, its output going to the log; return that output if it failed."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        before = self.log.stat().st_size if self.log.exists() else 0
        # The log can be followed meanwhile. Should this module be killed, the kernel ends the command.
        guard = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
        polite = [
            "nice",
            "-n",
            str(self.params["nice"]),
            *(["ionice", "-c", "3"] if shutil.which("ionice") else []),
        ]
        code, _, err = self.module.run_command(
            ["sh", "-c", 'exec "$@" >>"$0" 2>&1', str(self.log), *guard, *polite, *argv],
            cwd=str(cwd),
            environ_update=self.environment(),
            pass_fds=self.held,
        )
        if code == 0:
            return None
        with self.log.open("rb") as stream:
            stream.seek(before)
            return stream.read().decode(errors="replace") + err

    def environment(self) -> dict[str, str]:
        """Return what builds are to see of the environment: nobody's flags, the compiler cache."""
        flags = dict.fromkeys(("CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS", "CC", "MAKEFLAGS"), "")
        found = {**flags, "LC_ALL": "C", "NINJA_STATUS": "[%f/%t] "}
        if self.params["ccache"]:
            # Relative paths: another build's directory is another one, its files are mostly the same.
            found |= {
                "CCACHE_DIR": self.params["ccache"],
                "CCACHE_BASEDIR": str(self.work),
                "CCACHE_NOHASHDIR": "1",
                "CCACHE_COMPILERCHECK": "content",
                "CCACHE_MAXSIZE": "3G",
            }
        return found

    def give_up(self, message: str, lines: Sequence[str]) -> NoReturn:
        """Remove what was begun and end the module with the words of the tool that failed."""
        if (self.work / CONFIGURED).exists() and self.work != self.stage:
            # What other commits are built on top of: this one's source is in it, and the next replaces it.
            shutil.rmtree(self.stage, ignore_errors=True)
        else:
            shutil.rmtree(self.work, ignore_errors=True)
        said = "".join(f"\n  {line[:400]}" for line in lines)
        # A disk that is full says nothing of the source.
        blamed = not host_at_fault(said)
        self.fail(f"{message}{said}\n  the whole log: {self.log}", build_failed=blamed)

    # Steps

    def fetch_source(self) -> None:
        """Put the source tree into the working directory."""
        self.tree.mkdir(parents=True)
        self.log.unlink(missing_ok=True)
        git = Git(self.module, Path(self.params["sources"]), self.fail)
        home = None
        if self.params["tarball"]:
            argv = ["tar", "-xf", self.params["tarball"], "--strip-components=1", "--no-same-owner"]
            said = self.logged(argv, self.tree)
            if said is not None:
                self.give_up(f"cannot unpack {self.params['tarball']}", said.splitlines()[-3:])
        else:
            repository, commit = Path(self.params["repository"]), self.params["source"]["commit"]
            git.export(repository, commit, self.tree, keep_index=self.work != self.stage)
            home = repository
            for part in submodules(git, repository, commit):
                add_part(git, part, self.tree, home, self.fail)
        for part in wraps(self.tree):
            add_part(git, part, self.tree, home, self.fail)
        if not (self.tree / "configure").is_file():
            self.give_up(f"{self.params['source']['location']} has no configure: it is not QEMU's source", [])

    def patch(self) -> None:
        """Apply the patches in order."""
        for patch in self.params["patches"]:
            # Without the ceiling a repository above the state directory would be patched instead, in silence.
            ceiling = f"GIT_CEILING_DIRECTORIES={self.work}"
            said = self.logged(
                [
                    "env",
                    ceiling,
                    "git",
                    "-c",
                    "apply.whitespace=nowarn",
                    "apply",
                    "-p1",
                    str(self.file_of(patch)),
                ],
                self.tree,
            )
            if said is not None:
                self.give_up(
                    f"{patch['name']} does not apply to {self.params['source']['ref'] or 'the tarball'}; "
                    "make it anew on top of that, or correct the order of `patches`",
                    configure_errors(said),
                )

    def configure(self) -> None:
        """Run configure, without those of the role's own arguments that this version does not know."""
        own = [*self.params["configure"], *self.params["tool_arguments"]]
        if shutil.which("ccache") and self.params["ccache"]:
            own.append("--cc=ccache cc")
        extra = [
            argument.replace("--cc=", "--cc=ccache ") if "--cc=ccache cc" in own else argument
            for argument in self.params["extra"]
        ]
        self.objects.mkdir()
        while True:
            said = self.logged([str(self.tree / "configure"), *own, *extra], self.objects)
            if said is None:
                return
            unknown = unknown_option(said)
            if unknown not in own:
                break
            own.remove(unknown)
        self.give_up(
            "configure failed; `configure` in the experiment takes arguments", configure_errors(said)
        )

    def ninja(self) -> str | None:
        """Make the targets; return what was said if that failed."""
        jobs = self.params["jobs"] or len(os.sched_getaffinity(0))
        return self.logged(["ninja", f"-j{jobs}", *self.params["targets"]], self.objects)

    def compile(self) -> None:
        """Make the targets.

        Ends the module where they do not compile.
        """
        said = self.ninja()
        if said is not None:
            self.give_up("it does not compile", compile_errors(said))

    def finish(self) -> None:
        """Put together what stays, and rename it to its place."""
        out = self.stage / "out"
        shutil.rmtree(out, ignore_errors=True)
        (out / "bin").mkdir(parents=True)
        for target in self.params["targets"]:
            shutil.copy2(self.objects / target, out / "bin")
        # A binary in bin looks for its ROMs in ../share/qemu, wherever that is.
        firmware = [self.tree / "pc-bios", *map(Path, self.params["firmware"])]
        collect_firmware(out / "share" / "qemu", firmware)
        (out / "patches").mkdir()
        for number, patch in enumerate(self.params["patches"], 1):
            shutil.copyfile(self.file_of(patch), out / "patches" / f"{number:02}-{Path(patch['name']).name}")
        shutil.copyfile(self.log, out / "build.log")
        mark = {key: self.params[key] for key in ("key", "parts", "source")}
        (out / MARK).write_text(json.dumps(mark, indent=1) + "\n", encoding="utf-8")
        # What stands here has no mark: somebody's half of a copy.
        shutil.rmtree(self.path, ignore_errors=True)
        out.rename(self.path)
        shutil.rmtree(self.stage, ignore_errors=True)
        self.log.unlink()


def main() -> None:
    """Make the build, or find it made."""
    text = {"type": "list", "elements": "str", "default": []}
    module = AnsibleModule(
        argument_spec={
            "build": {"type": "str", "required": True},
            "key": {"type": "str", "required": True, "no_log": False},
            "parts": {"type": "dict", "required": True},
            "source": {"type": "dict", "required": True},
            "repository": {"type": "str"},
            "tarball": {"type": "path"},
            "patches": {"type": "list", "elements": "dict", "default": []},
            "configure": text,
            "tool_arguments": text,
            "extra": text,
            "targets": {"type": "list", "elements": "str", "required": True},
            "firmware": {"type": "list", "elements": "path", "default": []},
            "parent": {"type": "path", "required": True},
            "sources": {"type": "path", "required": True},
            "ccache": {"type": "path"},
            "jobs": {"type": "int", "default": 0},
            "nice": {"type": "int", "default": 19},
            "incremental": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=True)
    os.umask(0o022)  # other users (libvirt-qemu) read what lies here
    build = Build(module)
    try:
        made = build.make()
    except OSError as error:
        module.fail_json(msg=f"build {module.params['build']}: {error}; is the disk full, or read-only?")
    module.exit_json(changed=bool(made), made=made)


if __name__ == "__main__":
    main()
