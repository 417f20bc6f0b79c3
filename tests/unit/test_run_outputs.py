"""A run's outputs by thousands and one by one: the same numbers to the bit, and the same first error."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import FakeLab, campaign, fio_json, new_run
from fio_writer import text
from harness.adapters.results import samples, workers
from harness.adapters.results.samples import read_samples
from harness.core.errors import InputError
from harness.core.protocols import Execution

if TYPE_CHECKING:
    from harness.adapters.results.store import RunDirectory
    from harness.core.model import Cell
    from harness.core.planning import PlannedSession

NOTE = "note: queue depth will be capped at 1\n"


def printed(kind: str, cell: Cell, iops: float) -> str:
    """Return what fio prints: plainly, or in one of the ways that have to be read with care."""
    asked = {"bs": cell.bs, "iodepth": cell.iodepth, "iops": iops, "runtime_ms": 1000}
    if kind == "sparse":
        return fio_json(cell, iops)
    if kind == "noted":
        return NOTE + text(**asked)
    return text(**asked, version="2.21" if kind == "old" else "3.33")


KINDS = st.lists(
    st.tuples(st.sampled_from(["plain", "plain", "sparse", "noted", "old"]), st.floats(10, 1e6)),
    min_size=8,
    max_size=8,
)


def measured(path: Path, kinds: list[tuple[str, float]]) -> RunDirectory:
    def behave(_session: PlannedSession, cell: Cell, count: int) -> Execution:
        output = printed(kinds[count - 1][0], cell, kinds[count - 1][1])
        return Execution(0, output, "", datetime(2026, 1, 1, tzinfo=UTC), 1.0)

    run = new_run(path, blocks=2)
    campaign(run, FakeLab(behave))
    return run


@settings(max_examples=25)
@given(KINDS)
def test_both_ways_give_the_same_samples(kinds: list[tuple[str, float]]) -> None:
    with tempfile.TemporaryDirectory() as place:
        run = measured(Path(place) / "run", kinds)
        by_thousands = samples._all_at_once(run, run.plan)  # noqa: SLF001 - that it was this way
        assert by_thousands is not None
        quick = read_samples(run)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(samples, "_all_at_once", lambda *_arguments: None)
            careful = read_samples(run)
    pd.testing.assert_frame_equal(quick.frame, careful.frame, check_exact=True)
    assert (quick.order, quick.ran, quick.warnings) == (careful.order, careful.ran, careful.warnings)


def test_several_processes_read_what_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = measured(
        tmp_path / "run", [("plain", 1000.0 + n) for n in range(6)] + [("old", 7.0), ("noted", 8.0)]
    )
    alone = read_samples(run).frame
    monkeypatch.setattr(workers, "WORTH_IT", 1)
    monkeypatch.setattr(workers, "_LEAST", 3)
    pd.testing.assert_frame_equal(alone, read_samples(run).frame, check_exact=True)


@pytest.mark.parametrize("pool_from", [1, 6000])
def test_the_first_of_several_damages_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pool_from: int
) -> None:
    monkeypatch.setattr(workers, "WORTH_IT", pool_from)
    run = measured(tmp_path / "run", [("plain", 1000.0 + n) for n in range(8)])
    names = ("001-NEW", "003-OLD")
    early, late = (min((run.path / "sessions" / name).glob("0*.json")) for name in names)
    late.unlink()
    early.write_text(early.read_text().replace("randread", "randwrit"))
    with pytest.raises(InputError, match="SHA-256") as caught:
        read_samples(run)
    assert caught.value.problems[0].where == str(early)
