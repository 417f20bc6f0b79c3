"""Commits measured in guests, beside the good one: everything is real but Ansible, libvirt and fio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

import harness.shell.bisect_bench as module
from fakes import FakeClock, FakeLab, FakeStop, campaign, fio_json
from harness.adapters.bisect_store import BisectDirectory
from harness.adapters.provision import ProvisionResult
from harness.adapters.results.store import RunDirectory
from harness.adapters.waiting import Stop
from harness.adapters.workspace import Workspace
from harness.core.bisecting import Asked, Ends, ends_of
from harness.core.errors import Interrupted
from harness.core.experiment import load_experiment
from harness.core.model import Accel, BuildRecord
from harness.core.protocols import Execution
from harness.core.records import RunState
from harness.shell.beginning import RunOptions, new_run
from harness.shell.bisect_bench import BisectBench, CannotBeMeasuredError
from harness.shell.stopping import stopping_rule

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from harness.adapters.manifest import Manifest
    from harness.core.model import Cell
    from harness.core.planning import PlannedSession
    from harness.shell.campaign import Outcome
    from harness.shell.declare import Declared

TEXT = """\
name: guests
builds: {OLD: {git: /q}, NEW: {git: /q}}
baseline: OLD
matrix: {rw: randread, bs: 4k, iodepth: [1, 8]}
protocol: {runtime: 1s, ramp: 0s, max_blocks: 12}
"""
IOPS = {"a" * 40: 1000.0, "b" * 40: 900.0, "c" * 40: 995.0, "d" * 40: 950.0}
"""Of the good commit, the bad one, one as good, and one at the threshold, by their hashes."""

GOOD, BAD, AS_GOOD, BETWEEN = IOPS
ASKED = Asked(good=GOOD, bad=BAD, good_ref="v1", bad_ref="v2", git="/q", location="/q")


class Guests:
    """Stands for Ansible, libvirt and fio."""

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.provisioned: list[list[str]] = []
        self.broken: set[str] = set()
        self.stop_at: int | None = None

    def provide(self, declared: Declared, *_arguments: Any, **options: Any) -> ProvisionResult:
        assert options["incremental"]
        refs = {name: build["ref"] for name, build in yaml.safe_load(declared.text)["builds"].items()}
        self.provisioned.append(list(refs.values()))
        builds = {
            name: BuildRecord(name, "git", f"/{ref}", f"/{ref}", ref * 2, "QEMU 10")
            for name, ref in refs.items()
        }
        return ProvisionResult(1, 1, builds, None)

    def runner(self, *_arguments: Any, **_options: Any) -> Guests:
        return self

    def start(
        self, declared: Declared, manifest: Manifest, path: Path, options: RunOptions
    ) -> tuple[RunDirectory, Outcome]:
        run = new_run(
            declared, path, builds=manifest.builds, options=options, accel=Accel.TCG, accel_reason="a test"
        )
        return run, self.resume(run)

    def resume(self, run: RunDirectory) -> Outcome:
        self.runs.append(run.path.name)
        experiment = load_experiment(run.experiment, "x")
        refs = {name: str(build["sha256"])[:40] for name, build in run.record.builds.items()}
        stop = FakeStop()

        def behave(session: PlannedSession, cell: Cell, count: int) -> Execution:
            if count == self.stop_at:
                stop.set()
                self.stop_at = None
            value = speed(refs, session, cell)
            code = 1 if refs[session.variant] in self.broken else 0
            return Execution(code, fio_json(cell, value), "no disk" if code else "", moment(), 1.0)

        return campaign(run, FakeLab(behave), stop=stop, enough=stopping_rule(run, experiment))


def speed(refs: Mapping[str, str], session: PlannedSession, cell: Cell) -> float:
    """Return IOPS that differ from session to session; at depth 8 all commits are nearly the same."""
    value = IOPS[refs[session.variant]] if cell.iodepth == 1 else 1000.0
    return value * (1 + (session.number * 7 % 5) / 2000)


def moment() -> datetime:
    return FakeClock().now()


@pytest.fixture
def guests(monkeypatch: pytest.MonkeyPatch) -> Guests:
    found = Guests()
    monkeypatch.setattr(module, "provision_for", found.provide)
    monkeypatch.setattr(module, "Runner", found.runner)
    return found


@pytest.fixture
def bench(tmp_path: Path) -> BisectBench:
    return BisectBench(
        experiment=load_experiment(TEXT, "x.yml"),
        source=tmp_path / "x.yml",
        build={"git": "/q"},
        mark="abc123",
        store=BisectDirectory(tmp_path),
        workspace=Workspace.at(tmp_path / "state"),
        stop=Stop(),
        say=lambda _text: None,
    )


def ends(bench: BisectBench) -> Ends:
    cells, run = bench.ends(ASKED)
    measured, threshold = ends_of(ASKED, cells)
    return Ends(measured, threshold, run)


def test_the_ends_choose_cell_and_threshold_and_steps_measure_that_cell_alone(
    guests: Guests, bench: BisectBench, tmp_path: Path
) -> None:
    found = ends(bench)
    assert found.measured.label == "randread-4k-1"
    assert found.measured.change == pytest.approx(-0.1, abs=0.005)
    assert found.threshold == pytest.approx(0.05, abs=0.003)
    built = bench.provide({"HERE": BAD})
    bad, name = bench.tested(ASKED, found, BAD, "001-b", built)
    assert bad.verdict == "worse"
    good, _name = bench.tested(ASKED, found, AS_GOOD, "002-c", bench.provide({"HERE": AS_GOOD}))
    assert good.verdict == "same"
    between, _name = bench.tested(ASKED, found, BETWEEN, "003-d", bench.provide({"HERE": BETWEEN}))
    assert (between.verdict, between.reason) == ("unclear", "the interval holds the threshold")
    step = load_experiment(RunDirectory.open(tmp_path / "runs" / name).experiment, "step")
    assert [cell.label for cell in step.cells()] == ["randread-4k-1"]
    assert step.protocol.until == pytest.approx(found.threshold / 2)
    assert guests.provisioned[-1] == [GOOD, BETWEEN], "beside the good one"
    assert bench.table(GOOD, BAD, found) == "table"


def test_an_interrupted_run_is_gone_on_with_and_a_finished_one_is_not_made_again(
    guests: Guests, bench: BisectBench, tmp_path: Path
) -> None:
    found = ends(bench)
    guests.stop_at = 3
    built = bench.provide({"HERE": BAD})
    with pytest.raises(Interrupted):
        bench.tested(ASKED, found, BAD, "001-b", built)
    assert RunDirectory.open(tmp_path / "runs" / "001-b").record.state is RunState.INTERRUPTED
    assert bench.tested(ASKED, found, BAD, "001-b", built)[0].verdict == "worse"
    assert guests.runs == ["000-ends", "001-b", "001-b"]
    assert bench.tested(ASKED, found, BAD, "001-b", built)[0].verdict == "worse"
    assert len(guests.runs) == 3


def test_a_commit_whose_guests_fail_cannot_be_measured(guests: Guests, bench: BisectBench) -> None:
    found = ends(bench)
    guests.broken = {BAD}
    with pytest.raises(CannotBeMeasuredError, match="no disk"):
        bench.tested(ASKED, found, BAD, "001-b", bench.provide({"HERE": BAD}))
