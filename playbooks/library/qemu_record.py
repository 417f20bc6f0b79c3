# ruff: noqa: INP001 - Ansible takes each file here for a module: there can be no __init__.py
"""Ansible module: check that a build is QEMU, and pin it by version and content hash."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess  # noqa: TID251 - the harness is not installed where this runs
import tempfile
from pathlib import Path
from typing import Any, NoReturn

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: qemu_record
short_description: Check that a build is QEMU, or its qemu-img, and record what it is
options:
  build: {type: str, required: true, description: The build's name in the experiment.}
  kind: {type: str, required: true, description: How the build was made.}
  emulator: {type: path, required: true, description: "What libvirt will start, or qemu-img."}
  binary: {type: path, description: "The executable behind it, if the emulator is a launcher."}
  package_version: {type: str, description: The distribution's version.}
  dest: {type: path, description: Where to keep the record; absent means to keep none.}
"""

PROBE = '{"execute":"qmp_capabilities"}\n{"execute":"qom-list-types"}\n{"execute":"quit"}\n'
"""What libvirt asks first. It makes QEMU load every module, which is where mixed versions abort."""


TOOL = "qemu-img"
"""What is pinned where a build is made of it alone."""


class Build:
    """One build to be pinned."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params: dict[str, Any] = module.params
        self.emulator = Path(module.params["emulator"])
        self.binary = Path(module.params["binary"] or self.emulator)
        self.is_tool = self.emulator.name == TOOL and module.params["kind"] in {"git", "tarball"}

    def fail(self, message: str, stderr: str = "") -> NoReturn:
        """End the module, naming the build and its path."""
        wanted = f"build {self.params['build']} ({self.emulator})"
        self.module.fail_json(msg=f"{wanted}: {message}", stderr=stderr, build_failed=True)
        raise AssertionError

    def check_file(self, path: Path) -> None:
        """Fail unless the path is an executable file that others may execute too."""
        if not path.exists():
            self.fail(f"{path} does not exist; give the absolute path of a qemu-system-* binary")
        if not path.is_file():
            self.fail(f"{path} is not a file; give the absolute path of a qemu-system-* binary")
        if not os.access(path, os.X_OK):
            self.fail(f"{path} is not executable; try `chmod +x {path}`")

    def version(self) -> str:
        """Return the version line, which only QEMU's programs begin like that."""
        try:
            code, out, err = self.module.run_command([str(self.emulator), "--version"])
        except OSError as error:
            self.fail(f"cannot be started: {error}")
        first = (out.splitlines() or [""])[0]
        if code or f"{TOOL if self.is_tool else 'QEMU emulator'} version" not in first:
            said = first or (err.strip().splitlines() or ["nothing"])[-1]
            self.fail(
                f"not a QEMU emulator: `--version` ended with {code} and said: {said}; "
                "give the path of a qemu-system-* binary that runs on this host",
                err,
            )
        return first

    def probe(self) -> None:
        """Start QEMU as libvirt's probe does; a build that fails here would fail there with less words."""
        if self.is_tool:
            return
        options = "-S -machine none -nodefaults -display none -qmp stdio"
        # Not by run_command: of a program that ends before it has read its input, that says nothing.
        done = subprocess.run(  # noqa: S603 - the build that the experiment names
            [str(self.emulator), *options.split()],
            input=PROBE,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        if done.returncode or '"return": [' not in done.stdout:
            said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
            self.fail(
                f"QEMU ended with {done.returncode} when asked for its types, and said: {said}; "
                "its modules may be of another version, or libraries may be missing",
                done.stderr,
            )

    def record(self) -> dict[str, Any]:
        """Check the build and return its record."""
        self.check_file(self.emulator)
        self.check_file(self.binary)
        real = self.binary.resolve()
        return {
            "kind": self.params["kind"],
            "emulator": str(self.emulator),
            "binary": str(real),
            "sha256": hashlib.sha256(real.read_bytes()).hexdigest(),
            "version": self.version(),
            "package_version": self.params["package_version"] or None,
        }


def kept(path: Path | None) -> dict[str, Any] | None:
    """Return the record kept earlier, if it is there and whole."""
    if path is None:
        return None
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(path.read_text())
        return found if isinstance(found, dict) else None
    return None


def keep(path: Path, record: dict[str, Any]) -> None:
    """Write a record so that a torn one never shows."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".build-", delete=False) as file:
        json.dump(record, file, indent=1)
        file.write("\n")
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)


def main() -> None:
    """Pin the build, or find it as it was."""
    module = AnsibleModule(
        argument_spec={
            "build": {"type": "str", "required": True},
            "kind": {"type": "str", "required": True},
            "emulator": {"type": "path", "required": True},
            "binary": {"type": "path"},
            "package_version": {"type": "str"},
            "dest": {"type": "path"},
        },
        supports_check_mode=True,
    )
    build = Build(module)
    dest = Path(module.params["dest"]) if module.params["dest"] else None
    record, earlier = build.record(), kept(dest)
    if earlier and earlier.get("sha256") != record["sha256"]:
        build.fail(f"{record['binary']} is not what {dest} recorded; remove the directory of the latter")
    if dest and earlier == record:
        if not module.check_mode:
            os.utime(dest)  # when a build was used last, for who clears the cache
        module.exit_json(changed=False, record=record)
    build.probe()
    if dest and not module.check_mode:
        keep(dest, record)
    module.exit_json(changed=dest is not None, record=record)


if __name__ == "__main__":
    main()
