"""Telemetry of real guests: in every session, tied to its iterations, and hardly felt."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from support import harness
from tiny import TINY, sessions

from harness.core.telemetry import Occasion, Telemetry, parse_telemetry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest_plugins = ["tiny_fixtures"]
pytestmark = pytest.mark.system

RUN = TINY.replace("runtime: 1s, ramp: 0s", "runtime: 2s, ramp: 500ms").replace(
    "iodepth: 8", "iodepth: [1, 32]"
)


@pytest.fixture(scope="module")
def watched(provisioned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert provisioned.exists()
    place = tmp_path_factory.mktemp("watched")
    (place / "x.yml").write_text(RUN)
    done = harness("run", str(place / "x.yml"), "--no-provision", "--run-dir", str(place / "run"))
    assert done.returncode == 0, done.stderr
    return place / "run"


def boots(run: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any], Telemetry]]:
    """Return each session's record, what it keeps of its telemetry, and the telemetry."""
    for record, directory in zip(sessions(run), sorted((run / "sessions").iterdir()), strict=True):
        (boot,) = record["boots"]
        data = (directory / boot["telemetry"]["file"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == boot["telemetry"]["sha256"]
        yield record, boot["telemetry"], parse_telemetry(data)


def test_every_session_has_telemetry_tied_to_its_iterations(watched: Path) -> None:
    seen = list(boots(watched))
    assert len(seen) == 2
    for record, kept, telemetry in seen:
        names = set(telemetry.header.threads.values())
        assert any(name.startswith("CPU 0/") for name in names)
        assert any(name.startswith("IO iothread") for name in names)
        assert telemetry.header.pid == record["boots"][0]["facts"]["pid"]
        assert kept["qemu_cpu_seconds"] > 1
        for entry in record["iterations"]:
            own = telemetry.of(entry["number"])
            (end,) = [reading for reading in own if reading.occasion is Occasion.END]
            assert (end.vmas, end.coroutines) == (
                entry["mappings"]["vmas"],
                entry["mappings"]["coroutines"],
            )
            marks = [reading for reading in own if reading.occasion is Occasion.MARK]
            assert len(marks) >= 2
            began = datetime.fromisoformat(entry["started"])
            ended = began + timedelta(seconds=entry["seconds"])
            assert all(began <= datetime.fromisoformat(reading.at) <= ended for reading in marks)


def test_what_watching_itself_took_is_kept(watched: Path) -> None:
    # How little it is, `make bench` measures.
    for _record, kept, telemetry in boots(watched):
        assert kept["seconds"] == pytest.approx(telemetry.readings[-1].seconds, abs=0.01)
        assert 0 < kept["cpu_seconds"] < kept["seconds"]


def test_both_tables_are_printed(watched: Path) -> None:
    done = harness("compare", str(watched), "--metric", "vmas,cpu_per_io")
    assert done.returncode == 0, done.stderr
    assert "NEW against OLD: peak VMAs of QEMU (less is better)" in done.stdout
    assert "NEW against OLD: QEMU CPU a request in ns (less is better)" in done.stdout
    data = json.loads(harness("compare", str(watched), "--metric", "vmas,coroutines", "--json").stdout)
    assert {cell["iodepth"] for cell in data["cells"]} == {1, 32}
    assert all(cell["baseline"] > 100 and cell["contender"] > 100 for cell in data["cells"])


def test_show_has_a_line_a_session(watched: Path) -> None:
    shown = harness("show", str(watched), "--full").stdout
    each = [line for line in shown.splitlines() if line.startswith("      at most ")]
    assert len(each) == 2
    assert all("VMAs" in line and "watching took" in line for line in each)
    assert "watched   at most" in shown
