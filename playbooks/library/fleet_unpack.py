# ruff: noqa: INP001 - Ansible takes each file here for a module: there can be no __init__.py
"""Ansible module: put a run directory that came from a host in its place at home, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.basic import AnsibleModule

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENTATION = r"""
module: fleet_unpack
short_description: Unpack a run directory that came from a host
description:
  - "The archive is not trusted: only plain files and directories below C(run/) are taken, no larger than
    max_bytes together. dest is replaced in one step, once everything is there."
options:
  src: {type: path, required: true, description: The archive; removed afterwards.}
  sha256: {type: str, required: true, description: What the host says it is.}
  dest: {type: path, required: true, description: The run directory to make or replace.}
  max_bytes: {type: int, default: 8589934592, description: The largest run that is taken.}
"""

TOP = "run"


class RefusedError(Exception):
    """The archive is not what a host of ours sends."""


def checked(tar: tarfile.TarFile, most: int) -> Iterator[tarfile.TarInfo]:
    """Yield the members that may be unpacked.

    Raises:
        RefusedError: one may not, or all together are too large; nothing of it was written.
    """
    total = 0
    for member in tar:
        parts = Path(member.name).parts
        if parts[:1] != (TOP,) or ".." in parts or not (member.isfile() or member.isdir()):
            raise RefusedError(f"holds {member.name!r}, which belongs in no run directory")
        total += member.size
        if total > most:
            raise RefusedError(f"is larger than {most} bytes unpacked (max_bytes)")
        yield member


def write(tar: tarfile.TarFile, member: tarfile.TarInfo, below: Path) -> None:
    """Write one checked member; not by extractall, whose filters Debian 12's Python does not know."""
    path = below / member.name
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    content = tar.extractfile(member)
    # x: a name that comes twice is refused.
    with path.open("xb") as stream:
        if content is not None:
            shutil.copyfileobj(content, stream)
    os.utime(path, (member.mtime, member.mtime))


def unpack(archive: Path, sha256: str, dest: Path, most: int) -> dict[str, Any]:
    """Unpack an archive to a directory.

    Returns:
        The module's result: bytes as packed and unpacked.

    Raises:
        RefusedError: the archive is damaged or holds what it must not; dest is as it was.
    """
    with archive.open("rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != sha256:
            raise RefusedError("did not arrive as it was sent: its SHA-256 differs")
    part, old = (dest.with_name(f".{dest.name}.{ending}") for ending in ("part", "old"))
    shutil.rmtree(part, ignore_errors=True)
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in checked(tar, most):
                write(tar, member, part)
        with (part / TOP / "run.json").open("rb") as head:
            if not isinstance(json.load(head), dict):
                raise RefusedError("holds no run directory: its run.json is none")
        # Whose run it is decides who else may read it.
        (part / TOP).chmod(0o700)
        size = sum(file.stat().st_size for file in (part / TOP).rglob("*") if file.is_file())
        swap(part / TOP, dest, old)
    except (tarfile.TarError, ValueError, EOFError, OSError) as error:
        raise RefusedError(f"cannot be unpacked: {error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return {"changed": True, "packed_bytes": archive.stat().st_size, "bytes": size}


def swap(new: Path, dest: Path, old: Path) -> None:
    """Put a directory in the place of another; what was there stays if that fails."""
    shutil.rmtree(old, ignore_errors=True)
    if dest.exists():
        dest.rename(old)
    try:
        new.rename(dest)
    except OSError:
        if old.exists():
            old.rename(dest)
        raise
    shutil.rmtree(old, ignore_errors=True)


def main() -> None:
    """Do what the task asks for."""
    module = AnsibleModule(
        argument_spec={
            "src": {"type": "path", "required": True},
            "sha256": {"type": "str", "required": True},
            "dest": {"type": "path", "required": True},
            "max_bytes": {"type": "int", "default": 8 * 2**30},
        },
        supports_check_mode=True,
    )
    archive, dest = Path(module.params["src"]), Path(module.params["dest"])
    if module.check_mode:
        module.exit_json(changed=True)
    try:
        result = unpack(archive, module.params["sha256"], dest, module.params["max_bytes"])
    except (RefusedError, OSError) as error:
        module.fail_json(msg=f"what {dest.name} sent {error}")
    finally:
        archive.unlink(missing_ok=True)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
