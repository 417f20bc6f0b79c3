"""The JSON of results and its schema go together."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from test_comparing import SAME, a_run
from test_exports import counted, grown

from harness.analysis.documents import result_schema
from harness.shell.cli.main import run_cli

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["counted", "grown"]

Captured = pytest.CaptureFixture[str]


def errors(document: Any, kind: str) -> list[str]:
    schema = result_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    of_kind = {"$ref": f"#/$defs/{kind}", "$defs": schema["$defs"]}
    both = (jsonschema.Draft202012Validator(schema), jsonschema.Draft202012Validator(of_kind))
    return [error.message for validator in both for error in validator.iter_errors(document)]


def printed(capsys: Captured, *arguments: str) -> Any:
    assert run_cli([*arguments]) == 0
    return json.loads(capsys.readouterr().out)


def test_what_compare_prints_satisfies_the_schema(tmp_path: Path, capsys: Captured) -> None:
    floor = a_run(tmp_path / "aa", builds=SAME, new=1000.0)
    run = str(a_run(tmp_path / "r", new=800.0))
    asked = ("--json", "--metric", "iops,bw", "--noise-floor", str(floor))
    document = printed(capsys, "compare", run, *asked)
    assert errors(document, "MatrixResult") == []
    assert document["further"]
    assert document["noise_floor"]
    # And with next to nothing known.
    assert (
        errors(printed(capsys, "compare", str(a_run(tmp_path / "s", blocks=1)), "--json"), "MatrixResult")
        == []
    )
    assert errors(printed(capsys, "compare", run, run, "--json"), "MatrixResult") == []


def test_further_factors_are_keys_of_a_cell(tmp_path: Path, capsys: Captured) -> None:
    table = tmp_path / "a.csv"
    table.write_text("rw,bs,iodepth,aio,iops\nread,4k,1,native,10\nread,4k,1,io_uring,20\n")
    document = printed(capsys, "compare", str(table), str(table), "--json")
    assert document["factors"] == ["rw", "bs", "iodepth", "aio"]
    assert errors(document, "MatrixResult") == []


def test_counts_and_pools_satisfy_it(counted: Path, grown: Path, capsys: Captured) -> None:
    assert errors(printed(capsys, "compare", str(counted), "--json"), "CountsResult") == []
    assert errors(printed(capsys, "compare", str(grown), "--json"), "PoolResult") == []


def test_the_schema_tells_a_wrong_document(counted: Path, capsys: Captured) -> None:
    document = printed(capsys, "compare", str(counted), "--json")
    for wrong in (
        document | {"format_version": 2},
        document | {"cells": [{**document["cells"][0], "verdict": "slower"}]},
        {name: value for name, value in document.items() if name != "margin"},
        document | {"unheard": 1},
    ):
        assert errors(wrong, "CountsResult")


def test_the_command_prints_the_schema(capsys: Captured) -> None:
    assert printed(capsys, "schema", "result") == result_schema()
    assert "matrix" in printed(capsys, "schema")["properties"]
