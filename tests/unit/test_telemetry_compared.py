"""Metrics from telemetry: in tables when asked for, and absent, never 0, where they were not measured."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from fakes import FakeGuest, FakeLab, campaign, new_run
from harness.adapters.files import read_json
from harness.adapters.results.samples import read_samples
from harness.adapters.telemetry.sampler import telemetry_file
from harness.core.mappings import Mappings
from harness.core.perf_events import HARDWARE_EVENTS, ThreadCounts
from harness.core.telemetry import Occasion, Reading, TelemetryHeader, TelemetryRecord, ThreadTime
from harness.shell.cli.main import run_cli
from resealed import write_sealed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from harness.adapters.results.store import RunDirectory
    from harness.core.planning import PlannedSession

PID = 50
MOMENT = "2026-01-01T00:00:00.000+00:00"
Captured = pytest.CaptureFixture[str]


def busy(ms: int) -> dict[str, Any]:
    """Return CPU times: a vCPU that used so much, and a main loop and an IOThread that used a tenth each."""
    threads = (
        ThreadTime(PID, "qemu-system-x86", ms * 100_000),
        ThreadTime(PID + 1, "CPU 0/KVM", ms * 1_000_000),
        ThreadTime(PID + 2, "IO iothread1", ms * 100_000),
    )
    return {"cpu_ns": ms * 1_200_000, "threads": threads, "counts": counted(ms)}


def counted(ms: int) -> tuple[ThreadCounts, ...]:
    """Return counters of threads so busy, at a million instructions and two million cycles a millisecond."""
    names = ("qemu-system-x86", "CPU 0/KVM", "IO iothread1")
    values = (ms * 600_000, ms * 1_500_000, ms * 400_000, ms * 500_000)
    return tuple(ThreadCounts(PID + at, name, values, ms, ms) for at, name in enumerate(names))


@dataclass
class WatchedLab(FakeLab):
    """A lab whose guests leave telemetry: a second of 1000 IOPS each iteration.

    Attributes:
        vmas: peak of each variant.
        cpu: milliseconds that each variant's vCPU takes in that second.
        unreadable: what the header says cannot be read; mappings are then not there.
        counters: what the counts of the threads are.
    """

    vmas: Mapping[str, int] = field(default_factory=lambda: {"OLD": 400, "NEW": 300})
    cpu: Mapping[str, int] = field(default_factory=lambda: {"OLD": 500, "NEW": 600})
    unreadable: dict[str, str] = field(default_factory=dict)
    counters: tuple[str, ...] = tuple(event.label for event in HARDWARE_EVENTS)

    @contextmanager
    def session(self, planned: PlannedSession, directory: Path, *, boot: int = 0) -> Iterator[FakeGuest]:
        with super().session(planned, directory, boot=boot) as guest:
            yield guest
        limit = 65530
        lines: list[Any] = [
            TelemetryHeader(
                1,
                PID,
                MOMENT,
                limit,
                "clock",
                "schedstat",
                unreadable=self.unreadable,
                counters=self.counters,
            )
        ]
        for entry in planned.iterations:
            lines += self.readings(planned.variant, entry.number)
        data = b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines)
        path = directory / telemetry_file(boot)
        path.write_bytes(data)
        peak = None if self.unreadable else Mappings(self.vmas[planned.variant], 64)
        sha256 = hashlib.sha256(data).hexdigest()
        guest.telemetry = TelemetryRecord(path.name, sha256, len(lines) - 1, 10.0, 0.02, 7.5, peak)

    def readings(self, variant: str, number: int) -> list[Reading]:
        began, used = 10.0 * number, self.cpu[variant]
        counts: dict[str, Any] = {} if self.unreadable else {"vmas": self.vmas[variant], "coroutines": 64}
        return [
            Reading(Occasion.BEGIN, MOMENT, began, number),
            Reading(Occasion.MARK, MOMENT, began + 0.25, number, **busy(100)),
            Reading(Occasion.MARK, MOMENT, began + 1.0, number, **busy(100 + used * 3 // 4)),
            Reading(Occasion.END, MOMENT, began + 1.1, number, **counts),
        ]


def measure(run: RunDirectory, lab: FakeLab | None = None) -> Path:
    campaign(run, lab or WatchedLab())
    return run.path


@pytest.fixture
def watched(tmp_path: Path) -> Path:
    return measure(new_run(tmp_path / "run", blocks=8))


def forget_telemetry(path: Path) -> None:
    """Make a session as older versions left it, or a harness that was killed."""
    record = read_json(path)
    for boot in record["boots"]:
        del boot["telemetry"]
    write_sealed(path, record)


def test_several_metrics_give_a_table_each(watched: Path, capsys: Captured) -> None:
    assert run_cli(["compare", str(watched), "--metric", "vmas,cpu_per_io"]) == 0
    out = capsys.readouterr().out
    first, second = out.split("\n\nNEW against OLD: ")
    assert first.startswith("NEW against OLD: peak VMAs of QEMU (less is better)\n\n      RW BLKSIZE IODEPTH")
    assert "randread      4k       1 400 300 -25.0%" in first
    assert "faster" in first
    assert second.startswith("QEMU CPU a request in ns (less is better)\n\n      RW BLKSIZE IODEPTH")
    assert "randread      4k       8 600000 720000 +20.0%" in second
    assert "slower" in second
    assert out.count("the plan is done") == 1, "what all tables share stands below the last one"


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("headroom", ["65130", "65230", "+0.2%"]),
        ("coroutines", ["64", "64", "+0.0%"]),
        ("vcpu_cpu_ns_per_io", ["500000", "600000", "+20.0%"]),
        ("iothread_cpu_ns_per_io", ["50000", "60000", "+20.0%"]),
        ("main_cpu_ns_per_io", ["50000", "60000", "+20.0%"]),
        ("instructions_per_io", ["1500000", "1800000", "+20.0%"]),
        ("cycles_per_io", ["3000000", "3600000", "+20.0%"]),
        ("user_instructions_per_io", ["900000", "1080000", "+20.0%"]),
        ("iothread_cycles_per_io", ["1000000", "1200000", "+20.0%"]),
    ],
)
def test_each_metric_can_be_asked_for(name: str, numbers: list[str], watched: Path, capsys: Captured) -> None:
    assert run_cli(["compare", str(watched), "--metric", name, "--format", "commit"]) == 0
    first = capsys.readouterr().out.splitlines()[1]
    assert first.split() == ["randread", "4k", "1", *numbers]


def test_counts_that_never_differ_are_the_same(watched: Path, capsys: Captured) -> None:
    assert run_cli(["compare", str(watched), "--metric", "coroutines", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    for cell in document["cells"]:
        assert (cell["change"], cell["ci_low"], cell["ci_high"]) == (0, 0, 0)
        assert (cell["verdict"], cell["p_adjusted"], cell["mde"], cell["stray"]) == ("same", 1, 0, 0)
    assert document["pooled"]["verdict"] == "same"
    assert "further" not in document


def test_several_metrics_for_programs(watched: Path, capsys: Captured) -> None:
    assert run_cli(["compare", str(watched), "--metric", "iops,vmas", "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["metric"] for row in rows] == ["iops", "iops", "vmas", "vmas"]
    assert next(iter(rows[0])) == "metric"
    assert [row["baseline"] for row in rows[2:]] == ["400.0", "400.0"]
    assert run_cli(["compare", str(watched), "--metric", "iops,vmas,headroom", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["metric"] == "iops"
    assert [further["metric"] for further in document["further"]] == ["vmas", "headroom"]
    assert document["further"][0]["cells"][0]["contender"] == 300


def test_several_commit_tables_say_what_they_show(watched: Path, capsys: Captured) -> None:
    assert run_cli(["compare", str(watched), "--metric", "iops,vmas", "--format", "commit"]) == 0
    assert capsys.readouterr().out == (
        "IOPS (more is better):\n\n"
        "      RW BLKSIZE IODEPTH  OLD  NEW CHANGE\n"
        "randread      4k       1 1000 1000 +0.0%\n"
        "randread      4k       8 1000 1000 +0.0%\n\n"
        "peak VMAs of QEMU (less is better):\n\n"
        "      RW BLKSIZE IODEPTH OLD NEW CHANGE\n"
        "randread      4k       1 400 300 -25.0%\n"
        "randread      4k       8 400 300 -25.0%\n"
    )


def test_the_exit_code_weighs_every_table(watched: Path) -> None:
    both = ["compare", str(watched), "--fail-on", "slower", "--metric"]
    assert run_cli([*both, "vmas"]) == 0
    assert run_cli([*both, "vmas,cpu"]) == 3


def test_an_unknown_metric_among_several_is_refused(watched: Path, capsys: Captured) -> None:
    assert run_cli(["compare", str(watched), "--metric", "vmas,speed,weight"]) == 2
    assert "--metric: 'speed', 'weight' are unknown" in capsys.readouterr().err


def test_a_run_without_telemetry_says_so_and_what_it_has(tmp_path: Path, capsys: Captured) -> None:
    path = measure(new_run(tmp_path / "run", blocks=8), FakeLab())
    assert run_cli(["compare", str(path), "--metric", "iops,vmas"]) == 2
    captured = capsys.readouterr()
    assert "has no vmas: its sessions have no telemetry" in captured.err
    assert "it has iops, bw_bytes" in captured.err
    assert captured.out == "", "no half of an answer"
    assert run_cli(["compare", str(path)]) == 0


def test_mappings_that_the_kernel_hides_explain_themselves(tmp_path: Path, capsys: Captured) -> None:
    lab = WatchedLab(unreadable={"vmas": "/proc/50/maps may not be read by this user"})
    path = measure(new_run(tmp_path / "run", blocks=8), lab)
    assert run_cli(["compare", str(path), "--metric", "headroom"]) == 2
    assert "has no headroom: /proc/50/maps may not be read by this user" in capsys.readouterr().err
    assert run_cli(["compare", str(path), "--metric", "cpu_per_io"]) == 0


def test_a_machine_without_counters_has_no_such_columns_and_says_why(
    tmp_path: Path, capsys: Captured
) -> None:
    why = "this machine offers no hardware counters (ENOENT)"
    lab = WatchedLab(unreadable={"counts": why}, counters=())
    path = measure(new_run(tmp_path / "run", blocks=8), lab)
    assert run_cli(["compare", str(path), "--metric", "instructions_per_io"]) == 2
    assert f"has no instructions_per_io: {why}" in capsys.readouterr().err


def test_results_from_elsewhere_have_no_telemetry(tmp_path: Path, watched: Path, capsys: Captured) -> None:
    other = tmp_path / "new.csv"
    other.write_text("rw,bs,iodepth,iops\nrandread,4k,1,1000\n")
    assert run_cli(["compare", str(watched), str(other), "--metric", "vmas"]) == 2
    assert f"{other}: has no vmas" in capsys.readouterr().err


def delete(path: Path) -> None:
    path.unlink()


def alter(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"400", b"401"))


@pytest.mark.parametrize(("spoil", "said"), [(delete, "does not exist"), (alter, "SHA-256 differs")])
def test_telemetry_that_is_lost_spoils_its_own_numbers_only(
    spoil: Callable[[Path], None], said: str, tmp_path: Path, capsys: Captured
) -> None:
    run = new_run(tmp_path / "run", blocks=9)
    measure(run)
    session = next(session for session in run.plan.sessions if session.variant == "OLD")
    spoil(run.path / "sessions" / session.directory / "telemetry.jsonl")
    assert run_cli(["compare", str(run.path), "--json", "--metric", "iops,vmas"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [cell["n_blocks"] for cell in document["cells"]] == [9, 9]
    (vmas,) = document["further"]
    assert [cell["n_blocks"] for cell in vmas["cells"]] == [8, 8]
    (named,) = [warning for warning in document["warnings"] if said in warning]
    assert named.startswith(f"session {session.directory}: its telemetry telemetry.jsonl ")


def test_a_session_whose_harness_was_killed_has_its_telemetry_all_the_same(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", blocks=2)
    measure(run)
    first = run.path / "sessions" / run.plan.sessions[0].directory
    forget_telemetry(first / "session.json")
    whole = (first / "telemetry.jsonl").read_bytes()
    (first / "telemetry.jsonl").write_bytes(whole[:-10])
    frame = read_samples(run).frame
    mine = frame[frame["session"] == 0].sort_values("qemu_cpu_ns_per_io")
    assert list(mine["vmas"].isna()) == [False, True], "the torn line was its last iteration's count"


def test_a_run_of_an_older_version_is_read(tmp_path: Path, capsys: Captured) -> None:
    path = measure(new_run(tmp_path / "run", blocks=8), FakeLab())
    for record in path.glob("sessions/*/session.json"):
        forget_telemetry(record)
    assert run_cli(["show", str(path)]) == 0
    assert "VMAs" not in capsys.readouterr().out
    assert run_cli(["compare", str(path)]) == 0


def test_a_recorded_noise_floor_without_the_metric_is_left_out_with_a_warning(
    tmp_path: Path, capsys: Captured
) -> None:
    same = {name: {"version": "QEMU 7.2", "sha256": "5" * 64} for name in ("OLD", "NEW")}
    floor = measure(new_run(tmp_path / "aa", blocks=8, builds=same), FakeLab())
    path = measure(new_run(tmp_path / "run", blocks=8, noise_floor=str(floor)))
    assert run_cli(["compare", str(path), "--metric", "vmas"]) == 0
    assert "the noise floor is not shown" in capsys.readouterr().out
    assert run_cli(["compare", str(path), "--metric", "vmas", "--noise-floor", str(floor)]) == 2


def test_show_tells_of_each_session(watched: Path, capsys: Captured) -> None:
    assert run_cli(["show", str(watched)]) == 0
    short = "watched   at most 400 VMAs and 64 coroutines of QEMU; watching took at most 0.20% of a core"
    assert short in capsys.readouterr().out
    assert run_cli(["show", str(watched), "--full"]) == 0
    out = capsys.readouterr().out
    line = "at most 400 VMAs, 64 coroutines; QEMU used 7.5 s of CPU; watching took 0.20% of a core"
    assert out.count(line) == 8
    assert run_cli(["show", str(watched), "--json"]) == 0
    session = json.loads(capsys.readouterr().out)["sessions"][0]
    assert session["telemetry"]["peak"]["vmas"] in {300, 400}
    assert session["telemetry"]["share"] == 0.002


def test_show_says_what_was_not_to_be_seen(tmp_path: Path, capsys: Captured) -> None:
    path = measure(new_run(tmp_path / "run", blocks=1), WatchedLab(unreadable={"vmas": "hidden"}))
    assert run_cli(["show", str(path), "--full"]) == 0
    assert "VMAs not to be seen; QEMU used 7.5 s of CPU" in capsys.readouterr().out
