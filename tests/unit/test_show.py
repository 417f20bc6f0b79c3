"""`harness show` about what a run ran on, and `harness compare` about what it accepts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import counted_run
import pytest

from fakes import FakeLab, campaign, new_run
from harness.shell.cli.main import run_cli
from recorded import FACTS

if TYPE_CHECKING:
    from harness.adapters.results.store import RunDirectory

SEED = Path(__file__).resolve().parents[1] / "data" / "seed"

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """Return a run whose sessions recorded what two real ones did."""
    run = new_run(tmp_path / "r", blocks=2)
    campaign(run, FakeLab())
    for number in range(len(run.plan.sessions)):
        record_facts(run, number)
    return run


def record_facts(run: RunDirectory, number: int, **changes: Any) -> None:
    planned = run.plan.sessions[number]
    record = run.load_session(planned)
    record.boots[0].facts = FACTS[planned.variant] | changes
    run.save_session(planned, record)


def shown(run: RunDirectory, capsys: Captured, *options: str) -> str:
    assert run_cli(["show", str(run.path), *options]) == 0
    return capsys.readouterr().out


def test_what_differs_between_the_builds_is_told_on_a_screen(run: RunDirectory, capsys: Captured) -> None:
    text = shown(run, capsys)
    assert "what differs between OLD and NEW, as builds may:" in text
    assert "OLD pc-q35-7.2, NEW pc-q35-10.0" in text
    assert "no verdict" not in text
    assert "iothread1 (polls up to 32768 ns)" in text
    assert "num-queues 1, queue-size 128" in text
    assert "scheduler mq-deadline, nr_requests 256" in text
    assert len(text.splitlines()) < 40
    assert max(map(len, text.splitlines())) <= 120


def test_a_list_beside_something_else_is_told_too(run: RunDirectory, capsys: Captured) -> None:
    """A record may be of another version, or anybody's."""
    for planned in run.plan.sessions:
        if planned.variant == "NEW":
            record_facts(run, planned.number, argv="nothing that is a list")
    assert "NEW: nothing that is a list" in shown(run, capsys)


def test_everything_is_told_on_demand(run: RunDirectory, capsys: Captured) -> None:
    text = shown(run, capsys, "--full")
    assert "qemu.devices.disk0.x-pcie-ext-tag (only some builds know it):" in text
    assert "discard_granularity: 4294967295" in text
    assert len([line for line in text.splitlines() if line.startswith("  session ")]) == 4


def test_what_must_not_differ_stands_on_top(run: RunDirectory, capsys: Captured) -> None:
    record_facts(run, 3, host=FACTS["OLD"]["host"] | {"ksm": "1"})
    lines = shown(run, capsys).splitlines()
    at = lines.index("  no verdict, since sessions differ in more than the build:")
    assert lines[at + 1].startswith("    host.ksm differs: 0 in session 000-OLD, 1 in session 003-")
    assert at < lines.index("  what differs between OLD and NEW, as builds may:")


def test_scripts_get_all_of_it_under_stable_keys(run: RunDirectory, capsys: Captured) -> None:
    record_facts(run, 3, host=FACTS["OLD"]["host"] | {"ksm": "1"})
    data = json.loads(shown(run, capsys, "--json"))
    assert set(data["agreement"]) == {"disagreements", "differences"}
    assert any("host.ksm differs" in sentence for sentence in data["agreement"]["disagreements"])
    machine = next(entry for entry in data["agreement"]["differences"] if entry["what"] == "qemu.machine")
    assert list(machine) == ["what", "values", "why"]
    assert list(machine["values"]) == ["OLD", "NEW"], "the baseline first"
    assert data["sessions"][0]["facts"]["qemu"]["devices"]["disk0"]["queue-size"] == 128


@pytest.mark.parametrize("kind", ["fio-matrix", "instructions"])
def test_only_rounds_are_drawn(kind: str, run: RunDirectory, tmp_path: Path, capsys: Captured) -> None:
    counts = counted_run.make(tmp_path / "counts", lambda planned: planned.requests * 7000)
    path, plot = run.path if kind == "fio-matrix" else counts, tmp_path / "plot.svg"
    assert run_cli(["show", str(path), "--plot", str(plot)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"--plot: draws the rounds of pool-growth; {path} is a run of {kind}" in captured.err
    assert f"harness report {path}" in captured.err
    assert not plot.exists()


def test_differences_can_be_accepted(run: RunDirectory, capsys: Captured) -> None:
    record_facts(run, 3, guest_kernel="6.12")
    assert run_cli(["compare", str(run.path)]) == 0
    assert "no verdict: guest_kernel differs" in capsys.readouterr().out
    assert run_cli(["compare", str(run.path), "--accept-differences"]) == 0
    text = capsys.readouterr().out
    assert "no verdict: guest_kernel" not in text
    assert "which was accepted: guest_kernel differs" in text
