# ruff: noqa: INP001 - Ansible takes each file here for a module: there can be no __init__.py
"""Ansible module: say exactly what a build from source is made of, and whether it was made before."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.qemu_source import (
    RECIPE,
    Failure,
    Git,
    directory_of,
    is_download,
    is_url,
    key_of,
    read_mark,
    redacted,
)

DOCUMENTATION = r"""
module: qemu_source_key
short_description: Work out the cache key of a build from source
description:
  - Resolves a git ref to its commit and tree, or hashes a tarball, and hashes that together with the patches,
    the arguments of configure, the compiler and the recipe. The same key is the same build.
  - A local repository is only read. One from elsewhere is fetched into a bare mirror below O(sources); in
    check mode it is only asked what its ref is.
options:
  build: {type: str, required: true, description: The build's name in the experiment.}
  git: {type: str, description: "A repository: absolute path, path from ~, or URL."}
  ref: {type: str, default: HEAD, description: "A branch, tag, commit or expression such as v10.0.0~3."}
  tarball: {type: str, description: "A source tarball: absolute path on this host, or a URL."}
  checksum: {type: str, description: "sha256:... of the tarball; required for a URL."}
  patches: {type: list, elements: dict, default: [], description: "Applied in order: name and sha256."}
  configure: {type: list, elements: str, default: [], description: "The role's arguments of configure."}
  extra: {type: list, elements: str, default: [], description: "The user's, which come after them."}
  targets: {type: list, elements: str, required: true, description: What ninja is to make.}
  tools: {type: list, elements: str, default: [], description: Versions of tools that configure uses.}
  parent: {type: path, required: true, description: Directory that holds the builds.}
  sources: {type: path, required: true, description: Directory of the mirrors.}
"""


class Source:
    """One build from source, before it is made."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params: dict[str, Any] = module.params
        self.fail = Failure(module, f"build {module.params['build']}")
        self.git = Git(module, Path(module.params["sources"]), self.fail)

    def code(self) -> dict[str, Any] | None:
        """Return where the code is and what identifies it; None if only fetching it would tell."""
        return self.tarball() if self.params["tarball"] else self.commit()

    def commit(self) -> dict[str, Any] | None:
        """Return a git ref's repository, commit and tree."""
        location, ref = self.params["git"], self.params["ref"]
        if ref.startswith("-") or location.startswith("-"):
            self.fail(f"{ref if ref.startswith('-') else location} looks like an option; give a name")
        if is_url(location):
            found = (self.git.seen if self.module.check_mode else self.git.fetched)(location, ref)
            if found is None:
                return None
            repository, commit = found
        else:
            repository = self.git.local(location)
            known = self.git.commit(repository, ref)
            if known is None:
                self.fail(f"there is no commit {ref} in {location}; try `git -C {location} log -1 {ref}`")
            commit = known
        tree = self.git.ask(repository, "rev-parse", "--verify", f"{commit}^{{tree}}")
        return {"repository": str(repository), "commit": commit, "tree": tree, "identity": f"git tree {tree}"}

    def tarball(self) -> dict[str, Any]:
        """Return a tarball's hash; what has a checksum need not be here yet."""
        location, wanted = self.params["tarball"], (self.params["checksum"] or "").lower()
        algorithm, _, digest = wanted.partition(":")
        if wanted and (algorithm != "sha256" or not re.fullmatch(r"[0-9a-f]{64}", digest)):
            self.fail(
                f"checksum {wanted!r} is none; write sha256: and 64 hex digits, as sha256sum prints them"
            )
        path = Path(location).expanduser()
        if is_download(location) or not path.is_absolute():
            if not digest:
                self.fail(
                    f"{location} has no checksum; add `checksum: sha256:...`, so that it stays the same"
                )
        else:
            found = self.hash_of(path)
            if digest and found != digest:
                self.fail(f"{path} is not what its checksum says: it has sha256:{found}")
            digest = found
        return {"tarball_sha256": digest, "identity": f"tarball {digest}"}

    def hash_of(self, path: Path) -> str:
        """Return the SHA-256 of a file on this host."""
        digest = hashlib.sha256()
        try:
            with path.open("rb") as stream:
                while chunk := stream.read(2**20):
                    digest.update(chunk)
        except OSError as error:
            self.fail(f"{path}: {error.strerror}; give the path of a tarball on this host, or a URL")
        return digest.hexdigest()

    def compiler(self) -> str:
        """Return the compiler's version and target, in one line."""
        command = "cc"
        for argument in self.params["extra"]:
            command = argument[len("--cc=") :] if argument.startswith("--cc=") else command
        said = []
        for option in ("--version", "-dumpmachine"):
            try:
                code, out, err = self.module.run_command(
                    [*command.split(), option], environ_update={"LC_ALL": "C"}, handle_exceptions=False
                )
            except OSError as error:
                code, out, err = 1, "", str(error)
            if code or not out.strip():
                self.fail(f"the compiler {command} does not work; install gcc, or name another by --cc=", err)
            said.append(out.strip().splitlines()[0])
        return ", ".join(said)

    def result(self) -> dict[str, Any]:
        """Return key, parts, directory, and whether the build is there."""
        code = self.code()
        if code is None:
            return {"key": "", "parts": {}, "path": "", "complete": False, "source": {}}
        params = self.params
        configure = [*params["configure"], *params["extra"]]
        parts = {
            "source": code.pop("identity"),
            "patches": [patch["sha256"] for patch in params["patches"]],
            "configure": configure,
            "targets": params["targets"],
            "compiler": self.compiler(),
            "tools": params["tools"],
            "recipe": RECIPE,
        }
        key = key_of(parts)
        path = directory_of(Path(params["parent"]), key)
        repository = code.pop("repository", "")
        source = {
            "location": redacted(params["git"] or params["tarball"]),
            "ref": params["ref"] if params["git"] else None,
            "commit": code.get("commit"),
            "tarball_sha256": code.get("tarball_sha256"),
            "patches": params["patches"],
            "configure": params["extra"],
            "compiler": parts["compiler"],
            "key": key,
        }
        return {
            "key": key,
            "parts": parts,
            "path": str(path),
            "complete": read_mark(path) is not None,
            "repository": repository,
            "source": source,
        }


def main() -> None:
    """Work out the key."""
    module = AnsibleModule(
        argument_spec={
            "build": {"type": "str", "required": True},
            "git": {"type": "str"},
            "ref": {"type": "str", "default": "HEAD"},
            "tarball": {"type": "str"},
            "checksum": {"type": "str"},
            "patches": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "sha256": {"type": "str", "required": True},
                },
            },
            "configure": {"type": "list", "elements": "str", "default": []},
            "extra": {"type": "list", "elements": "str", "default": []},
            "targets": {"type": "list", "elements": "str", "required": True},
            "tools": {"type": "list", "elements": "str", "default": []},
            "parent": {"type": "path", "required": True},
            "sources": {"type": "path", "required": True},
        },
        required_one_of=[["git", "tarball"]],
        mutually_exclusive=[["git", "tarball"]],
        supports_check_mode=True,
    )
    os.umask(0o022)
    try:
        result = Source(module).result()
    except OSError as error:
        module.fail_json(msg=f"build {module.params['build']}: {error}; is the state directory writable?")
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
