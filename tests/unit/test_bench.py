"""The benchmarks still work, and give what their page needs; what they find is nobody's business here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from bench import page
from bench.figures import Curve, Suite, Target, Who, Work
from bench.reports import write_run, write_trees
from harness.adapters.results.imports import read_results
from harness.adapters.results.samples import read_samples
from harness.adapters.results.store import RunDirectory

if TYPE_CHECKING:
    from pathlib import Path


def test_made_up_reports_are_as_real_ones(tmp_path: Path) -> None:
    """All of them count, and none is a copy."""
    old, _new = write_trees(tmp_path, 120)
    found = read_results(old, "OLD")
    assert len(found.samples) == 60
    assert not found.warnings
    count = write_run(tmp_path / "run", 1)
    assert len(read_samples(RunDirectory.open(tmp_path / "run")).frame) == count


def test_the_page_has_works_and_curves(tmp_path: Path) -> None:
    work = Work("reading", "s", {Who.BARE: 2.0, Who.HARNESS: 3.0}, [Target(Who.BARE, 1.2)], "By turns.")
    curve = Curve("more and more", ("files", "s"), [(1000, 0.5), (10_000, 5.0)], 1.0, "It grows.")
    path = tmp_path / "page.md"
    path.write_text(f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n")
    page.write(path, Suite({"CPUs": "2"}, [work], [curve]))
    text = path.read_text()
    assert "old" not in text
    assert "| reading | s | 2.00 | 3.00 |" in text
    assert "1.50 x, missed" in text
    assert "| 10,000 | 5.00 |" in text
    assert "(slope 1.00): It grows." in text


@pytest.mark.slow
def test_analysis_can_be_measured(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "analysis", "--json", tmp_path / "found.json"],
        check=True,
        env={**os.environ, "PYTHONPATH": "tests:tests/unit"},
    )
    found = json.loads((tmp_path / "found.json").read_text())
    assert all(work["took"]["harness"] > 0 for work in found["works"])
    (curve,) = found["curves"]
    assert [row[0] for row in curve["rows"]] == [10, 100, 1000, 10_000]
