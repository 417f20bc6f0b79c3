"""The arrows: shell -> adapters and report -> analysis and core; each outside world has one door."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from harness.shell.cli.main import _VERBS

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(__file__).resolve().parents[2] / "harness"
MODULES = sorted(PACKAGE.rglob("*.py"))

FORBIDDEN = {
    "core": ("harness.adapters", "harness.shell", "harness.analysis", "harness.report"),
    "analysis": ("harness.adapters", "harness.shell", "harness.report"),
    "report": ("harness.adapters", "harness.shell"),
    "adapters": ("harness.shell", "harness.report"),
    "resources.py": ("harness.adapters", "harness.shell", "harness.analysis", "harness.report"),
}
DOORS = {
    "libvirt": "adapters/libvirt_api.py",
    "libvirt_qemu": "adapters/libvirt_api.py",
    "libvirtmod": "adapters/libvirt_api.py",
    "ansible_runner": "adapters/playbook.py",
    "subprocess": "adapters/process.py",
    "duckdb": "adapters/results/history_store.py",
    "ruptures": "analysis/steps.py",
    "vl_convert": "report/vega.py",
}
OTHER_WORLDS = {
    "ansible", "asyncio", "multiprocessing", "os", "pty", "shutil", "signal", "socket", "tempfile",
    "threading", "time",
}  # fmt: skip
"""What a pure module has no use for: processes, files, clocks, threads, the network."""

SIDE_DOORS = {"os.system", "os.popen", "os.posix_spawn", "os.fork", "os.execv", "os.execvp", "pty.spawn"}
IMPURE_CALLS = {
    "open", "input", "datetime.now", "datetime.today", "date.today", "random.random", "random.choice",
    "random.shuffle", "random.seed", "np.random.default_rng", "uuid.uuid4",
}  # fmt: skip
OWN_FILES = {"core/domain_xml.py": {"read_text"}}
"""Who reads a file that comes with the package: the template, when the caller names no other."""

FILE_METHODS = {"read_text", "write_text", "read_bytes", "write_bytes", "mkdir", "unlink", "iterdir"}


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name the whole module"
            assert node.module
            # `from harness import shell` imports harness.shell.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def parse(path: Path) -> ast.AST:
    return ast.parse(path.read_text())


def layer(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0]


every_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
pure_modules = pytest.mark.parametrize(
    "path",
    [path for path in MODULES if layer(path) in {"core", "analysis", "report"}],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)


def test_there_is_something_to_look_at() -> None:
    assert {"core", "analysis", "report", "adapters", "shell"} <= {layer(path) for path in MODULES}
    # The parser sees what the rules are about.
    assert "harness.shell" in set(imports(ast.parse("def f():\n    from harness import shell")))
    assert set(DOORS.values()) <= {str(path.relative_to(PACKAGE)) for path in MODULES}


@every_module
def test_imports_follow_the_arrows(path: Path) -> None:
    relative = path.relative_to(PACKAGE)
    for module in imports(parse(path)):
        for forbidden in FORBIDDEN.get(relative.parts[0], ()):
            assert not f"{module}.".startswith(f"{forbidden}."), f"{relative} imports {module}"
        door = DOORS.get(module.partition(".")[0])
        assert door in {None, str(relative)}, f"{relative} imports {module}; only {door} may"


@every_module
def test_processes_start_in_one_place_only(path: Path) -> None:
    assert not SIDE_DOORS & {ast.unparse(call.func) for call in calls(parse(path))}


@pure_modules
def test_the_pure_layers_touch_no_outside_world(path: Path) -> None:
    tree = parse(path)
    assert not OTHER_WORLDS & {module.partition(".")[0] for module in imports(tree)}
    names = {ast.unparse(call.func) for call in calls(tree)}
    assert not IMPURE_CALLS & names
    methods = {name.rpartition(".")[2] for name in names if "." in name}
    assert not (FILE_METHODS & methods) - OWN_FILES.get(str(path.relative_to(PACKAGE)), set())


@every_module
def test_only_the_command_line_prints_data_or_exits(path: Path) -> None:
    relative = path.relative_to(PACKAGE)
    if relative.parts[:2] == ("shell", "cli"):
        return
    for call in calls(parse(path)):
        name = ast.unparse(call.func)
        assert name not in {"sys.exit", "exit", "quit", "os._exit", "click.echo"}, f"{relative}: {name}"
        assert name not in {"sys.stdout.write", "sys.stderr.write"}, f"{relative}: {name}"
        if name == "print":
            assert str(relative) == "shell/console.py", f"{relative} prints"
            assert any(keyword.arg == "file" for keyword in call.keywords), "to its stream, not to stdout"


def test_the_process_ends_in_one_place() -> None:
    found = {
        str(path.relative_to(PACKAGE))
        for path in MODULES
        if "sys.exit" in {ast.unparse(call.func) for call in calls(parse(path))}
    }
    assert found == {"shell/cli/main.py"}


def test_every_verb_is_a_module_and_every_module_a_verb() -> None:
    helpers = {"__init__", "exit_codes", "main", "options", "run_result"}
    modules = {path.stem for path in (PACKAGE / "shell" / "cli").glob("*.py")} - helpers
    assert modules == set(_VERBS)
    for verb in _VERBS:
        command = importlib.import_module(f"harness.shell.cli.{verb}").command
        assert isinstance(command, click.Command)
        assert inspect.getdoc(command.callback)
