"""The arrows: shell -> adapters -> analysis and core; each outside world has one door."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "harness"
MODULES = sorted(PACKAGE.rglob("*.py"))

FORBIDDEN = {
    "core": ("harness.adapters", "harness.shell", "harness.analysis"),
    "analysis": ("harness.adapters", "harness.shell"),
    "adapters": ("harness.shell",),
}
DOORS = {
    "libvirt": "adapters/hypervisor.py",
    "libvirt_qemu": "adapters/hypervisor.py",
    "ansible_runner": "adapters/provision.py",
    "subprocess": "adapters/process.py",
}


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_follow_the_arrows(path: Path) -> None:
    relative = path.relative_to(PACKAGE)
    for module in imports(path):
        assert not module.startswith(FORBIDDEN.get(relative.parts[0], ("-",))), f"{relative} imports {module}"
        door = DOORS.get(module.partition(".")[0])
        assert door in {None, str(relative)}, f"{relative} imports {module}; only {door} may"


def test_only_the_shell_prints_or_exits() -> None:
    for path in MODULES:
        if path.relative_to(PACKAGE).parts[0] in {"core", "analysis", "adapters"}:
            calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
            names = {ast.unparse(call.func) for call in calls}
            assert not names & {"print", "sys.exit", "exit", "click.echo"}, path
