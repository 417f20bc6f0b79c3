"""The variables of the roles that make builds follow the Python types that fill them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import yaml

from harness.adapters.provision import Lookup
from harness.core.builds import PART_NAMES
from harness.core.experiment import BUILD_KINDS, GitBuild, SourceBuild, TarballBuild
from harness.core.model import BuildRecord, SourceRecord, Workload
from modules import shared

ROLES = Path(__file__).resolve().parents[2] / "playbooks" / "roles"
BY_ANNOTATION = {"patches": "list", "configure": "list"}


def read(role: str, part: str) -> Any:
    return yaml.safe_load((ROLES / role / part).read_text())


def options(role: str) -> dict[str, Any]:
    found: dict[str, Any] = read(role, "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    return found


def test_every_kind_of_build_has_its_task_file() -> None:
    kinds = options("qemu_build")["qemu_build_kinds"]["default"]
    assert kinds == list(BUILD_KINDS)
    assert kinds == read("qemu_build", "defaults/main.yml")["qemu_build_kinds"]
    for kind in kinds:
        assert (ROLES / "qemu_build" / "tasks" / f"{kind}.yml").is_file()


def test_the_role_knows_every_key_of_a_build_from_source() -> None:
    known = options("qemu_source")["qemu_source_build"]["options"]
    assert set(known) == set(GitBuild.model_fields) | set(TarballBuild.model_fields)
    for name, option in known.items():
        assert option["type"] == BY_ANNOTATION.get(name, "str"), name
    assert set(SourceBuild.model_fields) == set(BY_ANNOTATION)


def test_records_have_the_fields_that_the_modules_write() -> None:
    described = options("qemu_build") and read("qemu_build", "meta/argument_specs.yml")
    words = str(described["argument_specs"]["main"]["description"])
    fields = [field.name for field in dataclasses.fields(BuildRecord) if field.name != "name"]
    assert f"({', '.join(fields)})" in words.replace("\n", " ")
    source = (ROLES.parent / "library" / "qemu_source_key.py").read_text()
    for record in (SourceRecord, Lookup):
        for field in dataclasses.fields(record):
            assert f'"{field.name}": ' in source, field.name
    for part in PART_NAMES:
        assert f'"{part}": ' in source, part
    assert shared("qemu_source").MARK == "source.json"


def test_the_hosts_role_knows_the_workloads() -> None:
    assert options("host")["host_workload"]["default"] == Workload.FIO_MATRIX
    for family in ("Debian", "RedHat"):
        needed = read("host", f"vars/{family}.yml")
        assert set(needed["host_workload_packages"]) <= set(Workload)
        assert needed["host_source_packages"] == sorted(needed["host_source_packages"])
