# ruff: noqa: INP001 - Ansible takes each file here for a module: there can be no __init__.py
"""Ansible module: unpack distribution packages and their dependencies into a directory of their own."""

from __future__ import annotations

import contextlib
import fcntl
import fnmatch
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ansible.module_utils import own_libc
from ansible.module_utils.basic import AnsibleModule

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DOCUMENTATION = r"""
module: package_tree
short_description: Unpack packages and their dependency closure beside the system
description:
  - Resolves packages with an apt environment of its own (the system's mirrors, but lists, cache and
    configuration below O(apt_dir)), downloads them and unpacks them below O(parent). Nothing is installed,
    the system's own apt configuration and package database are not touched, and no privilege is needed.
  - Programs that want a newer C library than this host has get their own one, although it is one of O(leave).
  - The directory's name holds the version and a hash of everything in it. It is made beside its place and
    renamed when complete, so that what exists is whole.
options:
  packages: {type: list, elements: str, required: true, description: What is wanted; the first one names it.}
  suite: {type: str, description: "Suite to take it from, such as bookworm-backports."}
  version: {type: str, description: Exact version of the first package.}
  keep: {type: list, elements: str, required: true, description: Name patterns of the closure to unpack.}
  leave: {type: list, elements: str, default: [], description: Name patterns never to unpack.}
  companions:
    type: list
    elements: str
    default: []
    description: Name patterns; packages of the same source version to take without dependencies.
  parent: {type: path, required: true, description: Directory that holds the trees.}
  label: {type: str, description: First part of the directory's name; default the first package.}
  apt_dir: {type: path, required: true, description: Directory of the private apt environment.}
  max_age: {type: int, default: 86400, description: Seconds after which package lists are fetched again.}
  refresh: {type: bool, default: false, description: Ask the mirror again though the tree exists.}
"""

RECIPE = "2"
"""Changes when a tree made by an older version of this module must not be used any more."""

MARK = "tree.json"


def lines_with(pattern: str, text: str) -> list[tuple[str, ...]]:
    """Return the groups of each match of a pattern in a text."""
    return [match.groups() for match in re.finditer(pattern, text, re.MULTILINE)]


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Tell whether a package name matches one of the patterns."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def without_epoch(version: str) -> str:
    """Return a version fit for a path: no colon, as LD_LIBRARY_PATH is separated by them."""
    return re.sub(r"[^A-Za-z0-9.+~-]", "-", version.partition(":")[2] or version)


class Tree:
    """One wanted tree, and how to make it."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params: dict[str, Any] = module.params
        self.packages: list[str] = module.params["packages"]
        self.suite: str | None = module.params["suite"] or None
        self.version: str | None = module.params["version"] or None
        self.parent = Path(module.params["parent"])
        self.apt_dir = Path(module.params["apt_dir"])

    # What exists already

    @property
    def request(self) -> Path:
        """The link from what was asked for to the tree that answers it."""
        asked = {
            key: self.params[key]
            for key in ("packages", "suite", "version", "keep", "leave", "companions", "label")
        }
        digest = hashlib.sha256(json.dumps([RECIPE, asked], sort_keys=True).encode()).hexdigest()
        return self.parent / ".requests" / digest[:16]

    def existing(self) -> dict[str, Any] | None:
        """Return the record of the tree that answers the request, if there is one and it is whole."""
        try:
            found: dict[str, Any] = json.loads((self.request / MARK).read_text())
        except (OSError, ValueError):
            return None
        return found

    # Talking to apt

    def run(self, argv: list[str], *, cwd: Path | None = None) -> tuple[int, str, str]:
        """Run a command in the C locale."""
        code, out, err = self.module.run_command(
            argv, cwd=None if cwd is None else str(cwd), environ_update={"LC_ALL": "C", "APT_CONFIG": ""}
        )
        return code, out, err

    def apt(self, *argv: str, cwd: Path | None = None) -> tuple[int, str, str]:
        """Run an apt tool in the private environment."""
        return self.run([argv[0], "-c", str(self.config), *argv[1:]], cwd=cwd)

    def fail(self, message: str, stderr: str = "") -> NoReturn:
        """End the module: what was wanted, what went wrong, what to do."""
        wanted = f"package {self.packages[0]}"
        if self.version:
            wanted += f", version {self.version}"
        if self.suite:
            wanted += f", suite {self.suite}"
        self.module.fail_json(msg=f"{wanted}: {message}", stderr=stderr)
        raise AssertionError

    @property
    def config(self) -> Path:
        """The private apt configuration for the wanted suite."""
        return self.apt_dir / (self.suite or "base") / "apt.conf"

    def write_environment(self) -> None:
        """Write the private sources and configuration."""
        place = self.config.parent
        for directory in (place / "parts", self.apt_dir / "lists/partial", self.apt_dir / "debs",
                          self.apt_dir / "cache/archives/partial"):  # fmt: skip
            directory.mkdir(parents=True, exist_ok=True)
        (place / "sources.list").write_text(self.sources())
        (place / "status").write_text("")
        self.config.write_text(
            f'Dir::Etc::sourcelist "{place}/sources.list";\n'
            f'Dir::Etc::sourceparts "{place}/parts";\n'
            f'Dir::State::status "{place}/status";\n'
            f'Dir::State::lists "{self.apt_dir}/lists";\n'
            f'Dir::Cache "{self.apt_dir}/cache";\n'
            f'Dir::Cache::pkgcache "{place}/pkgcache.bin";\n'
            f'Dir::Cache::srcpkgcache "{place}/srcpkgcache.bin";\n'
            # The lists of several suites share a directory: an update for one must not remove the others'.
            'APT::Get::List-Cleanup "false";\n'
            'APT::Sandbox::User "root";\n'
            'Acquire::Languages "none";\n'
            'Acquire::Retries "3";\n'
            # Hooks of the host (docker-clean, package managers' caches) are not ours to run.
            "#clear DPkg::Post-Invoke;\n"
            "#clear APT::Update::Post-Invoke;\n"
            "#clear APT::Update::Post-Invoke-Success;\n"
        )

    def sources(self) -> str:
        """Return the private sources.list: the host's own mirrors, with the wanted suite added."""
        base, entries = self.host_sources()
        # Another release's backports lean on that release.
        released = (self.suite or "").removesuffix("-sloppy").removesuffix("-backports")
        wanted = [release for release in (base, f"{base}-updates", released, self.suite) if release]
        mirror = next(entry for entry in entries if entry[1] == base)
        lines = [f"deb {mirror[2]}{mirror[0]} {release} main" for release in dict.fromkeys(wanted)]
        lines += [
            f"deb {options}{uri} {release} main"
            for uri, release, options in entries
            if "security" in release and release not in wanted
        ]
        return "\n".join(lines) + "\n"

    def host_sources(self) -> tuple[str, list[tuple[str, str, str]]]:
        """Return the host's base suite and its sources as (URI, suite, options)."""
        # Without --no-release-info apt lists only what it has fetched, on a fresh machine: nothing.
        code, out, err = self.run(
            ["apt-get", "indextargets", "--no-release-info", "--format",
             "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(SIGNED_BY)", "Created-By: Packages"]
        )  # fmt: skip
        if code:
            self.fail("apt cannot read this machine's package sources; see /etc/apt/sources.list*", err)
        found = dict.fromkeys(tuple(line.split("|")) for line in out.splitlines())
        entries = [(uri, suite, self.options(key)) for uri, suite, part, key in found if part == "main"]
        os_release = Path("/etc/os-release").read_text(encoding="utf-8")
        codename = "".join(groups[0] for groups in lines_with(r'^VERSION_CODENAME="?([^"\n]*)', os_release))
        names = (codename, "stable", "oldstable", "testing", "sid", "unstable")
        suites = {suite for _, suite, _ in entries}
        base = next((name for name in names if name in suites), None)
        if base is None:
            self.fail(
                f"no source for {codename or 'this distribution'} and component main in apt's "
                "configuration; add one to /etc/apt/sources.list"
            )
        return base, entries

    @staticmethod
    def options(signed_by: str) -> str:
        """Return sources.list options for a source's key."""
        if signed_by.startswith("$"):  # apt does not expand what the source leaves out
            signed_by = "/usr/share/keyrings/debian-archive-keyring.gpg"
        return f"[signed-by={signed_by}] " if signed_by and Path(signed_by).exists() else ""

    def update_lists(self) -> None:
        """Fetch the package lists unless they are fresh."""
        stamp = self.config.parent / "updated"
        with contextlib.suppress(OSError):
            if 0 <= time.time() - stamp.stat().st_mtime < self.params["max_age"]:
                return
        code, _, err = self.apt("apt-get", "update", "-q")
        if "does not have a Release file" in err or "404" in err:
            self.fail(
                "the suite is not on this machine's mirror; check its spelling, or leave `suite` out for the "
                "release's own package",
                err,
            )
        if code or re.search(r"^(E:|W: Failed to fetch)", err, re.MULTILINE):
            self.fail("cannot fetch the package lists; is the mirror in apt's configuration reachable?", err)
        stamp.touch()

    # Resolving

    def target(self) -> list[str]:
        """Return the option that prefers the wanted suite."""
        base = self.host_sources()[0]
        # The release itself is preferred anyway; -t would hide its security updates.
        return ["-t", self.suite] if self.suite and self.suite != base else []

    def simulate(self, wanted: list[str]) -> dict[str, str]:
        """Return the closure of packages as name -> version, as if nothing were installed."""
        code, out, err = self.apt(
            "apt-get", "install", "-s", "-q", "--no-install-recommends", *self.target(), *wanted
        )
        if code:
            self.explain(err)
        return dict(lines_with(r"^Inst (\S+) (?:\[\S+\] )?\((\S+) ", out))  # type: ignore[arg-type]

    def explain(self, err: str) -> NoReturn:
        """Fail for packages that apt cannot install, with the versions that exist."""
        _, known, _ = self.apt("apt-cache", "madison", self.packages[0])
        versions = sorted({line.split("|")[1].strip() for line in known.splitlines() if line.count("|") > 1})
        if not versions:
            self.fail("no such package; check its name with `apt-cache search`, or name a suite with it", err)
        if self.version and self.version not in versions:
            self.fail(f"no such version; the mirror has {', '.join(versions)}", err)
        self.fail(f"apt cannot resolve its dependencies; versions known: {', '.join(versions)}", err)

    def companions(self, version: str) -> dict[str, str]:
        """Return the packages of the same source version that match the companions' patterns."""
        patterns = self.params["companions"]
        if not patterns:
            return {}
        _, names, _ = self.apt("apt-cache", "pkgnames")
        chosen = sorted(name for name in names.split() if matches(name, patterns))
        _, shown, _ = self.apt("apt-cache", "show", "--all-versions", self.packages[0], *chosen)
        found: dict[str, str] = {}
        sources: dict[tuple[str, str], str] = {}
        for stanza in shown.split("\n\n"):
            field = dict(lines_with(r"^(Package|Version|Source): (.*)$", stanza))  # type: ignore[arg-type]
            if "Package" in field:
                source = re.search(r"\((.*)\)", field.get("Source", ""))
                sources[field["Package"], field["Version"]] = source[1] if source else field["Version"]
        wanted = sources.get((self.packages[0], version))
        for (name, own), source_version in sources.items():
            if source_version == wanted and name in chosen:
                found[name] = own
        return found

    def resolve(self) -> dict[str, str]:
        """Return what to unpack as name -> version; the first package comes first."""
        first = self.packages[0] + (f"={self.version}" if self.version else "")
        closure = self.simulate([first, *self.packages[1:]])
        version = closure[self.packages[0]]
        companions = self.companions(version)
        chosen = {
            name: own
            for name, own in sorted((closure | companions).items())
            if name in companions
            or (matches(name, self.params["keep"]) and not matches(name, self.params["leave"]))
            or (name == own_libc.PACKAGE and self.brings_libc(closure))
        }
        return {self.packages[0]: version} | chosen

    def brings_libc(self, closure: dict[str, str]) -> bool:
        """Tell whether what is unpacked has to bring a C library, to run on this host."""
        left = matches(own_libc.PACKAGE, self.params["leave"])
        if not left or not own_libc.is_newer(closure.get(own_libc.PACKAGE, "")):
            return False
        if shutil.which("patchelf") is None:
            self.fail(
                f"it wants the C library {closure[own_libc.PACKAGE]}, newer than this host's, and without "
                "patchelf it cannot be given one of its own; apt-get install patchelf"
            )
        return True

    # Making

    def make(self) -> dict[str, Any]:
        """Resolve, download and unpack; return the record and whether anything was made."""
        self.write_environment()
        self.update_lists()
        versions = self.resolve()
        version = versions[self.packages[0]]
        digest = hashlib.sha256(json.dumps([RECIPE, versions], sort_keys=True).encode()).hexdigest()
        label = self.params["label"] or self.packages[0]
        path = self.parent / f"{label}-{without_epoch(version)}-{digest[:8]}"
        record = {"path": str(path), "version": version, "versions": versions}
        made = not (path / MARK).exists()
        if made:
            self.unpack(path, record)
        self.request.parent.mkdir(parents=True, exist_ok=True)
        link = self.request.with_suffix(".new")
        link.unlink(missing_ok=True)
        link.symlink_to(path)
        link.replace(self.request)
        return record | {"changed": made}

    def unpack(self, path: Path, record: dict[str, Any]) -> None:
        """Download and unpack into a temporary sibling, then rename it."""
        debs = self.download(record["versions"])
        temporary = Path(tempfile.mkdtemp(prefix=".making-", dir=self.parent))
        try:
            temporary.chmod(0o755)
            for deb in debs:
                apart = deb.name.startswith(f"{own_libc.PACKAGE}_") and matches(
                    own_libc.PACKAGE, self.params["leave"]
                )
                into = temporary / own_libc.PLACE if apart else temporary
                code, _, err = self.run(["dpkg-deb", "-x", str(deb), str(into)])
                if code:
                    self.fail(f"cannot unpack {deb.name}; is the disk full?", err)
            if (temporary / own_libc.PLACE).is_dir():
                wrong = own_libc.bind_programs(temporary, path, self.run)
                if wrong is not None:
                    self.fail(wrong)
            temporary.chmod(0o755)  # dpkg-deb takes over the mode of the packages' root
            (temporary / MARK).write_text(json.dumps(record, indent=1) + "\n")
            if path.exists():
                shutil.rmtree(path)
            temporary.rename(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def download(self, versions: dict[str, str]) -> list[Path]:
        """Fetch the packages that are not here yet; return their files."""
        debs = self.apt_dir / "debs"
        files = {name: self.deb(debs, name, version) for name, version in versions.items()}
        missing = [f"{name}={versions[name]}" for name, file in files.items() if file is None]
        if missing:
            code, _, err = self.apt("apt-get", "download", "-q", *missing, cwd=debs)
            if code:
                self.fail(
                    "cannot download; is the mirror reachable, and are the package lists fresh? "
                    f"(remove {self.config.parent}/updated to fetch them again)",
                    err,
                )
        found = [self.deb(debs, name, version) for name, version in versions.items()]
        return [file for file in found if file is not None]

    @staticmethod
    def deb(debs: Path, name: str, version: str) -> Path | None:
        """Return the downloaded file of a package; apt writes it under its name only when it is whole."""
        quoted = version.replace(":", "%3a")
        return next(debs.glob(f"{name}_{quoted}_*.deb"), None)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep two provisions from working in the same place."""
        self.apt_dir.mkdir(parents=True, exist_ok=True)
        self.parent.mkdir(parents=True, exist_ok=True)
        with (self.apt_dir / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def main() -> None:
    """Make the tree, or find it made."""
    module = AnsibleModule(
        argument_spec={
            "packages": {"type": "list", "elements": "str", "required": True},
            "suite": {"type": "str"},
            "version": {"type": "str"},
            "keep": {"type": "list", "elements": "str", "required": True},
            "leave": {"type": "list", "elements": "str", "default": []},
            "companions": {"type": "list", "elements": "str", "default": []},
            "parent": {"type": "path", "required": True},
            "label": {"type": "str"},
            "apt_dir": {"type": "path", "required": True},
            "max_age": {"type": "int", "default": 86400},
            "refresh": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    os.umask(0o022)  # other users (libvirt-qemu) read what lies here
    tree = Tree(module)
    found = None if module.params["refresh"] else tree.existing()
    if found:
        module.exit_json(changed=False, complete=True, **found)
    if module.check_mode:
        module.exit_json(changed=True, complete=False, path="", version="", versions={})
    try:
        with tree.locked():
            made = tree.existing() if not module.params["refresh"] else None
            result = {"changed": False, **made} if made else tree.make()
    except OSError as error:
        tree.fail(f"{error}; is the state directory writable, and the disk not full?")
    module.exit_json(complete=True, **result)


if __name__ == "__main__":
    main()
