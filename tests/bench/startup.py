"""How long until the command answers: against what Python and pandas need by themselves."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from bench.figures import Target, Who, Work
from bench.processes import walls_by_turns
from fakes import FakeLab, campaign, new_run

if TYPE_CHECKING:
    from collections.abc import Iterator

_HARNESS = Path(sys.executable).with_name("harness")


def measure(*, quick: bool) -> Iterator[Work]:
    """Time `harness --help`, and `harness compare` of a small run."""
    repeats = 3 if quick else 15
    pandas = [sys.executable, "-c", "import pandas"]
    with TemporaryDirectory() as place:
        run = Path(place) / "run"
        campaign(new_run(run, blocks=8), FakeLab())
        helped, compared, imported = walls_by_turns(
            [[_HARNESS, "--help"], [_HARNESS, "compare", run], pandas], repeats
        )
    note = f"Medians of {repeats} starts each, by turns."
    yield Work(
        "harness --help; the limit: `import pandas`",
        "s",
        {Who.BARE: imported, Who.HARNESS: helped},
        [Target(Who.BARE, 0.3)],
        note,
    )
    yield Work(
        "harness compare of a small run; the limit: `import pandas`",
        "s",
        {Who.BARE: imported, Who.HARNESS: compared},
        [Target(Who.BARE, 2.0)],
        note,
    )
