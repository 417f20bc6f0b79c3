"""The roles' variables and the Python types that fill them, or are filled by them, say the same."""

from __future__ import annotations

import json
import re
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.core.experiment import Experiment
from harness.core.experiment.builds import BUILD_KINDS
from harness.core.model import BuildRecord, GuestImage, Workload
from harness.core.records import RunState

PLAYBOOKS = Path(__file__).resolve().parents[2] / "playbooks"
ROLES = sorted(path.name for path in (PLAYBOOKS / "roles").iterdir() if (path / "tasks").is_dir())


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text()) if path.exists() else {}


def specs(role: str) -> dict[str, dict[str, Any]]:
    """Return the options of each of a role's entry points."""
    found = read(PLAYBOOKS / "roles" / role / "meta" / "argument_specs.yml")["argument_specs"]
    return {entry: spec.get("options", {}) for entry, spec in found.items()}


def tasks_of(value: Any) -> list[dict[str, Any]]:
    """Return every task below a play or a task file, those of blocks too."""
    if isinstance(value, list):
        return [task for item in value for task in tasks_of(item)]
    if not isinstance(value, dict):
        return []
    below = [task for key in ("tasks", "block", "always", "rescue") for task in tasks_of(value.get(key))]
    return [value, *below]


def uses() -> list[tuple[str, str, str, dict[str, Any]]]:
    """Return (file, role, entry point, variables) of every use of a role."""
    found = []
    for path in sorted(PLAYBOOKS.rglob("*.yml")):
        for task in tasks_of(read(path)):
            for how in ("ansible.builtin.import_role", "ansible.builtin.include_role"):
                if how in task:
                    role = task[how]
                    entry = str(role.get("tasks_from", "main")).removesuffix(".yml")
                    found.append((path.name, str(role["name"]), entry, dict(task.get("vars", {}))))
    return found


@pytest.mark.parametrize("role", ROLES)
def test_a_role_types_its_variables_and_their_defaults_are_those_it_says(role: str) -> None:
    declared: dict[str, Any] = {}
    for options in specs(role).values():
        declared |= options
    defaults = read(PLAYBOOKS / "roles" / role / "defaults" / "main.yml") or {}
    for name, option in declared.items():
        assert name.startswith(f"{role}_"), f"{name} does not carry its role's name"
        if "default" in option:
            assert defaults[name] == option["default"], name
        if option.get("required"):
            assert name not in defaults, f"{name} is required and has a default"


@pytest.mark.parametrize(("file", "role", "entry", "given"), uses())
def test_a_role_is_given_what_it_declares_and_all_that_it_requires(
    file: str, role: str, entry: str, given: dict[str, Any]
) -> None:
    options = specs(role).get(entry)
    if options is None and entry != "main":
        return  # a part of a role that only another role includes
    assert options is not None, f"{file} uses {role}/{entry}, which has no argument spec"
    # Of a role's own variables; others are for expressions beside it.
    own = {name for name in given if name.startswith(f"{role}_")}
    assert own <= set(options), f"{file}: {role} does not know {own - set(options)}"
    required = {name for name, option in options.items() if option.get("required")}
    assert required <= own, f"{file}: {role} lacks {required - own}"


def test_the_kinds_of_builds_are_those_of_the_experiment() -> None:
    role = PLAYBOOKS / "roles" / "qemu_build"
    assert read(role / "defaults" / "main.yml")["qemu_build_kinds"] == list(BUILD_KINDS)
    for kind, section in BUILD_KINDS.items():
        text = (role / "tasks" / f"{kind}.yml").read_text()
        used = set(re.findall(r"qemu_build_item\.value\.(\w+)", text))
        known = set(section.model_fields)
        assert used <= known, f"{kind}.yml reads what no experiment has: {used - known}"


def test_the_workloads_that_need_packages_are_workloads() -> None:
    for system in ("Debian", "RedHat"):
        needs = read(PLAYBOOKS / "roles" / "host" / "vars" / f"{system}.yml")["host_workload_packages"]
        assert set(needs) <= {workload.value for workload in Workload}
    default = Experiment.model_fields["workload"].default
    assert specs("host")["main"]["host_workload"]["default"] == default.value
    assert f"default('{default.value}', true)" in (PLAYBOOKS / "group_vars" / "all.yml").read_text()


def test_what_the_playbooks_read_of_an_experiment_is_there() -> None:
    text = "\n".join(path.read_text() for path in PLAYBOOKS.rglob("*.yml"))
    read_of_it = set(re.findall(r"harness_experiment\.(\w+)", text))
    assert read_of_it <= set(Experiment.model_fields)
    guest = set(re.findall(r"harness_guest\.(\w+)", text))
    assert guest <= set(type(Experiment.model_fields["guest"].default).model_fields)


def test_a_build_s_record_has_what_the_manifest_is_read_into() -> None:
    module = (PLAYBOOKS / "library" / "qemu_record.py").read_text()
    # What the module returns, in its own words.
    text = module[module.index("def record(self)") : module.index("def kept(")]
    returned = set(re.findall(r'"(\w+)":', text))
    known = {field.name: field for field in fields(BuildRecord)}
    assert returned <= set(known)
    required = {name for name, field in known.items() if field.default is MISSING} - {"name"}
    assert required <= returned


def test_an_image_s_record_has_what_the_manifest_is_read_into() -> None:
    script = (PLAYBOOKS / "roles" / "guest_image" / "files" / "build-image.sh").read_text()
    record = json.loads(re.findall(r"image\.json\" <<END\n(.*?)\nEND", script, re.DOTALL)[0])
    # The others are of disk images.
    assert set(record) == {field.name for field in fields(GuestImage) if field.default is MISSING}


def test_a_fleet_knows_a_finished_run_by_the_state_that_a_run_records() -> None:
    fleet = PLAYBOOKS / "roles" / "fleet" / "tasks"
    text = "\n".join(path.read_text() for path in fleet.glob("*.yml"))
    assert set(re.findall(r"run_state [!=]= '(\w+)'", text)) == {RunState.FINISHED.value}
