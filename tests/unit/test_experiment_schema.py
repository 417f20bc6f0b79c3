"""The JSON Schema for editors follows the types."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from harness.core.experiment import json_schema, load_experiment
from harness.core.experiment.yaml_text import read_yaml

ROOT = Path(__file__).parents[2]
FILES = sorted([*ROOT.glob("fio/*.yml"), *ROOT.glob("tests/data/domain/*.yml")])
HEAD = "name: t\nbuilds: {OLD: {path: /old}, NEW: {path: /new}}\nbaseline: OLD\n"


@functools.cache
def validator() -> Any:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def errors(text: str) -> list[str]:
    document, flaws = read_yaml(text)
    assert not flaws
    return [error.message for error in validator().iter_errors(document)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_files_that_load_satisfy_the_schema(path: Path) -> None:
    assert errors(path.read_text()) == []
    assert errors(load_experiment(path.read_text(), path.name).to_yaml()) == []


@pytest.mark.parametrize(
    "text",
    [
        "matrix: {bs: 4k, iodepth: 1, rw: [read, readwrite]}",
        "matrix: {bs: [4096, 1MiB], aio: native, iothread_mapping: [on, false]}",
        "protocol: {runtime: 5, ramp: 500ms, margin: 0.02, alpha: 5%, until: 1.5%}",
        "placement: {vcpupin: {0: 2, 1: '3-4,^4'}, hugepages: 2m}",
        "placement: {hugepages: true, numa: {nodeset: 0}}",
        "guest: {memory: 512 MiB, kernel: null}",
    ],
)
def test_shorthand_is_allowed(text: str) -> None:
    assert errors(HEAD + text) == []


@pytest.mark.parametrize(
    "text",
    [
        "matrix: {bs: 4q}",
        "matrix: {iodepth: 0}",
        "matrix: {rw: [read, read]}",
        "disk: {cach: none}",
        "disk: {aio: nativ}",
        "protocol: {margin: 2}",
        "libvirt: xen:///",
    ],
)
def test_what_the_loader_refuses_an_editor_marks(text: str) -> None:
    assert errors(HEAD + text)


def test_every_key_is_described_in_the_schema() -> None:
    schema: dict[str, Any] = json_schema()
    for section in (schema, *schema["$defs"].values()):
        for name, prop in section.get("properties", {}).items():
            assert prop.get("description"), name
