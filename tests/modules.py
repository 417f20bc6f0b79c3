"""The project's own Ansible modules, called as Ansible calls them, without starting Ansible."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import sys
from pathlib import Path
from typing import Any

PLAYBOOKS = Path(__file__).resolve().parents[1] / "playbooks"


def shared(name: str) -> Any:
    """Return what the modules share, which Ansible looks for beside the playbooks too."""
    package: Any = importlib.import_module("ansible.module_utils")
    if str(PLAYBOOKS / "module_utils") not in package.__path__:
        package.__path__.append(str(PLAYBOOKS / "module_utils"))
    return importlib.import_module(f"ansible.module_utils.{name}")


def load(name: str) -> Any:
    """Return one of the modules as a Python module."""
    shared("qemu_source")
    spec = importlib.util.spec_from_file_location(name, PLAYBOOKS / "library" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def call(name: str, *, check: bool = False, **parameters: Any) -> dict[str, Any]:
    """Run a module to its end and return what it answers."""
    printed = io.StringIO()
    arguments = {**parameters, "_ansible_check_mode": check, "_ansible_remote_tmp": "/tmp"}  # noqa: S108
    testing: Any = importlib.import_module("ansible.module_utils.testing")
    with (
        testing.patch_module_args(arguments),
        contextlib.redirect_stdout(printed),
        contextlib.suppress(SystemExit),
    ):
        load(name).main()
    answer: dict[str, Any] = json.loads(printed.getvalue())
    return answer


if __name__ == "__main__":
    json.dump(call(sys.argv[1], **json.loads(sys.argv[2])), sys.stdout)
