"""What the code must not do: shells made of strings, YAML that makes objects, templates without escaping."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
PYTHON = sorted([*ROOT.glob("harness/**/*.py"), *ROOT.glob("playbooks/**/*.py")])
PLAYBOOKS = sorted(ROOT.glob("playbooks/**/*.yml"))


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: str(path.relative_to(ROOT)))
def test_code(path: Path) -> None:
    for name, call in calls(path):
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert keywords.get("shell", "False") == "False", f"line {call.lineno}: a shell"
        assert keywords.get("use_unsafe_shell", "False") == "False", f"line {call.lineno}: a shell"
        assert name not in {"os.system", "os.popen", "eval", "exec", "pickle.load", "pickle.loads"}
        assert name not in {"yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load"}
        if name in {"Environment", "jinja2.Environment"}:
            assert keywords.get("autoescape") == "True", f"line {call.lineno}: no escaping"
        if name in {"tempfile.mktemp", "mktemp"}:
            raise AssertionError(f"line {call.lineno}: a name that others can foresee")


def test_yaml_makes_plain_values_only() -> None:
    loaders = re.findall(r"class \w+\(yaml\.(\w*Loader)\)", "\n".join(path.read_text() for path in PYTHON))
    assert set(loaders) == {"SafeLoader"}


def tasks(value: object) -> Iterator[dict[str, object]]:
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from tasks(item)
    elif isinstance(value, list):
        for item in value:
            yield from tasks(item)


@pytest.mark.parametrize("path", PLAYBOOKS, ids=lambda path: str(path.relative_to(ROOT)))
def test_playbooks_build_no_command_lines(path: Path) -> None:
    for task in tasks(yaml.safe_load(path.read_text())):
        assert "ansible.builtin.shell" not in task
        # Before there is Python in a guest; then a sentence of the project's own.
        assert "{{" not in str(task.get("ansible.builtin.raw", ""))
        command = task.get("ansible.builtin.command")
        assert command is None or (isinstance(command, dict) and "argv" in command), "a string for a command"


def test_a_name_that_others_can_foresee_is_nowhere() -> None:
    text = {path: path.read_text() for path in [*PYTHON, *PLAYBOOKS]}
    found = {
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path, content in text.items()
        for line in content.splitlines()
        if re.search(r"[\"' =]/tmp/|TMPDIR", line)
    }
    # In the guest, where the harness is alone; in a sentence to the user; and the one name by which users
    # meet, which is only locked, never followed, read or written.
    allowed = ("ansible_remote_tmp", "a shorter TMPDIR", "USERS_LOCK = ")
    assert {line for line in found if not any(words in line for words in allowed)} == set()
