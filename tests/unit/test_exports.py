"""What other tools read: JUnit, benchstat's text, OpenMetrics."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import counted_run
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families as classic_families
from test_comparing import MOMENT, a_run, measure, speeds

from fakes import FakeLab, campaign, fio_json, new_run, qemu_died
from harness.adapters.results.store import RunDirectory
from harness.analysis.exports.benchstat import Bench, Value, benchstat
from harness.analysis.exports.findings import Finding, Head, Outcome
from harness.analysis.exports.junit import WHOLE_PLAN, junit
from harness.analysis.exports.openmetrics import openmetrics
from harness.core.experiment.protocol import Protocol
from harness.core.mappings import Mappings
from harness.core.model import Cell, Workload
from harness.core.protocols import Execution
from harness.core.records import IterationState, RunState, SessionState
from harness.shell.cli.main import run_cli
from harness.shell.exporting import FILE_NAMES
from resealed import rewrite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from prometheus_client.metrics_core import Metric
    from prometheus_client.samples import Sample

    from harness.core.planning import PlannedIteration, PlannedSession

Captured = pytest.CaptureFixture[str]

HEAD = Head(
    run_id="r-1", name="test", workload=Workload.FIO_MATRIX, state=RunState.FINISHED,
    stopped="the plan is done",
    created="2026-01-02T03:04:05+01:00", wall_seconds=30.0, harness_version="0", baseline="OLD",
    builds={"OLD": {"version": "QEMU 7", "sha256": "a" * 64}}, host="here",
)  # fmt: skip


@pytest.fixture(scope="module")
def slower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run whose cells are slower; not to be changed."""
    return a_run(tmp_path_factory.mktemp("runs") / "slower", new=800.0)


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cost = {"OLD": 5000, "NEW": 6000}
    path = tmp_path_factory.mktemp("runs") / "counted"
    return counted_run.make(path, lambda c: 1_000_000 + c.requests * cost[c.variant] + c.repeat)


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of pool-growth in which OLD grows and NEW does not."""
    return pool_run(tmp_path_factory.mktemp("runs") / "pool", {"OLD": 8000, "NEW": 0})


def pool_run(path: Path, growth: dict[str, int]) -> Path:
    run = new_run(path, blocks=1, repeats=3, state=RunState.FINISHED, max_map_count=65530)
    text = (
        "name: test\nworkload: pool-growth\nbuilds: {OLD: {path: /old}, NEW: {path: /new}}\nbaseline: OLD\n"
    )
    rewrite(path, "experiment.yml", text)
    for planned in run.plan.sessions:
        record = run.load_session(planned)
        record.state = SessionState.DONE
        step = growth[planned.variant]
        for number, entry in enumerate(planned.iterations):
            vmas = 8000 + number * step
            record.iterations.append(_round(entry, Mappings(vmas, vmas // 2)))
        record.boots.append(_boot())
        run.save_session(planned, record)
    return path


def _round(planned: PlannedIteration, mappings: Mappings) -> Any:
    from harness.core.records import IterationRecord

    number, factors = planned.number, planned.cell.factors()
    return IterationRecord(
        number, planned.repeat, factors, 0, MOMENT.isoformat(), 1.0, IterationState.OK, mappings=mappings
    )


def _boot() -> Any:
    from harness.core.records import BootRecord

    return BootRecord(MOMENT.isoformat(), MOMENT.isoformat(), 1.0)


def exported(capsys: Captured, *arguments: str, code: int = 0) -> str:
    assert run_cli(["export", *arguments]) == code
    return capsys.readouterr().out


# JUnit

SUITE = {"name", "package", "id", "hostname", "timestamp", "time", "tests", "failures", "errors", "skipped"}


def suite_of(text: str) -> ET.Element:
    """Return the suite, in the form that both published schemas allow (Ant's tasks, Jenkins' plugin)."""
    root = ET.fromstring(text)  # noqa: S314 - our own
    assert (root.tag, root.attrib) == ("testsuites", {})
    (suite,) = root
    assert suite.tag == "testsuite"
    assert set(suite.attrib) == SUITE
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.attrib["timestamp"])
    tags = [child.tag for child in suite]
    assert tags == ["properties", *["testcase"] * (len(tags) - 3), "system-out", "system-err"]
    for entry in suite.iterfind("properties/property"):
        assert set(entry.attrib) == {"name", "value"}
    cases = suite.findall("testcase")
    for case in cases:
        assert set(case.attrib) == {"name", "classname", "time"}
        assert re.fullmatch(r"\d+\.\d{3}", case.attrib["time"])
        assert len(case) <= 1
        for verdict in case:
            assert verdict.tag in {"failure", "error", "skipped"}
            assert set(verdict.attrib) == ({"message"} if verdict.tag == "skipped" else {"message", "type"})
            assert len(verdict) == 0
    assert suite.attrib["tests"] == str(len(cases))
    for tag, attribute in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        assert suite.attrib[attribute] == str(sum(case.find(tag) is not None for case in cases))
    assert len({(case.attrib["classname"], case.attrib["name"]) for case in cases}) == len(cases)
    return suite


def verdicts(suite: ET.Element) -> dict[str, str]:
    return {case.attrib["name"]: case[0].tag if len(case) else "passed" for case in suite.iter("testcase")}


def test_a_slower_cell_is_a_failure_with_its_row(slower: Path, capsys: Captured) -> None:
    suite = suite_of(exported(capsys, str(slower), "--format", "junit"))
    assert verdicts(suite) == {
        WHOLE_PLAN: "passed", "randread 4k qd1: iops": "failure", "randread 4k qd8: iops": "failure",
    }  # fmt: skip
    case = suite.findall("testcase")[1]
    assert case.attrib["classname"] == "test.NEW"
    (failure,) = case
    assert failure.attrib["type"] == "slower"
    assert failure.attrib["message"].startswith("slower: -20.0% [-20.0%, -20.0%]")
    head, row = (failure.text or "").splitlines()
    assert head.split()[:5] == ["RW", "BLKSIZE", "IODEPTH", "OLD", "NEW"]
    assert row.split()[:5] == ["randread", "4k", "1", "1001", "801"]
    assert "NEW against OLD: IOPS" in (suite.findtext("system-out") or "")
    properties = {p.attrib["name"]: p.attrib["value"] for p in suite.iter("property")}
    assert properties["build.NEW"] == "QEMU of NEW"
    assert properties["host"] == "here"


def test_an_unclear_cell_is_skipped_or_on_request_a_failure(tmp_path: Path, capsys: Captured) -> None:
    run = str(a_run(tmp_path / "r", new=1000.0, blocks=2))
    suite = suite_of(exported(capsys, run, "--format", "junit"))
    assert set(verdicts(suite).values()) == {"passed", "skipped"}
    assert "too few blocks" in suite.findall("testcase")[1][0].attrib["message"]
    strict = exported(capsys, run, "--format", "junit", "--fail-on", "unclear", code=4)
    assert set(verdicts(suite_of(strict)).values()) == {"passed", "failure"}


def test_the_exit_code_is_that_of_compare(slower: Path, capsys: Captured) -> None:
    exported(capsys, str(slower), "--format", "json", "--fail-on", "slower", code=3)


def test_a_crash_of_the_contender_is_an_error(tmp_path: Path, capsys: Captured) -> None:
    run = new_run(tmp_path / "r", blocks=8)
    fine = speeds({"OLD": 1000.0, "NEW": 1000.0})

    def dies(session: PlannedSession, cell: Cell, count: int) -> Execution:
        if session.variant == "NEW" and session.block == 3 and cell.iodepth == 8:
            raise qemu_died()
        return fine(session, cell, count)

    measure(run, dies)
    suite = suite_of(exported(capsys, str(run.path), "--format", "junit"))
    assert verdicts(suite)["randread 4k qd8: iops"] == "error"
    assert verdicts(suite)["randread 4k qd1: iops"] == "passed"
    assert "NEW crashed in 1 session" in suite.findall("testcase")[2][0].attrib["message"]


def test_a_contender_that_always_crashed_is_an_error_although_it_has_no_cell(
    tmp_path: Path, capsys: Captured
) -> None:
    run = new_run(tmp_path / "r", blocks=8, variants=("OLD", "MID", "NEW"))
    fine = speeds({"OLD": 1000.0, "MID": 1000.0})

    def dies(session: PlannedSession, cell: Cell, count: int) -> Execution:
        if session.variant == "NEW":
            raise qemu_died()
        return fine(session, cell, count)

    campaign(run, FakeLab(dies), protocol=Protocol(give_up_after=100))
    suite = suite_of(exported(capsys, str(run.path), "--format", "junit"))
    (case,) = (case for case in suite.iter("testcase") if case.attrib["classname"].endswith(".NEW"))
    assert case[0].tag == "error"
    assert "NEW gave no numbers at all: QEMU died " in case[0].attrib["message"]
    metrics = exported(capsys, str(run.path), "--format", "openmetrics")
    (count,) = re.findall(
        r'^qemu_ab_crashed_sessions\{[^}]*contender="NEW"[^}]*\} (\S+)$', metrics, re.MULTILINE
    )
    assert float(count) >= 8
    # As nothing can be said of it, nothing is clear.
    for verb in ("compare", "export"):
        for word, code in (("slower", 0), ("unclear", 4)):
            assert run_cli([verb, str(run.path), "--format", "json", "--fail-on", word]) == code


def test_a_run_that_failed_before_any_number_is_an_error_of_its_own(tmp_path: Path, capsys: Captured) -> None:
    run = new_run(tmp_path / "r", state=RunState.FAILED, stopped="the disk is full")
    suite = suite_of(exported(capsys, str(run.path), "--format", "junit"))
    assert verdicts(suite) == {WHOLE_PLAN: "error"}
    assert suite[1][0].attrib["message"] == "failed: the disk is full"
    both = ("--format", "csv", "--format", "junit", "-o", str(tmp_path / "out"))
    for options in (("--format", "csv"), both):
        assert run_cli(["export", str(run.path), *options]) == 2
        assert "holds no accepted iteration yet" in capsys.readouterr().err
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["junit.xml"]


def test_counts_and_pools_have_cases_too(
    counted: Path, grown: Path, tmp_path: Path, capsys: Captured
) -> None:
    suite = suite_of(exported(capsys, str(counted), "--format", "junit"))
    assert verdicts(suite)["randread 4k qd64: instructions_per_request"] == "failure"
    assert suite.findall("testcase")[1][0].attrib["type"] == "costlier"
    assert verdicts(suite_of(exported(capsys, str(grown), "--format", "junit"))) == {
        WHOLE_PLAN: "passed", "coroutine pool": "passed",
    }  # fmt: skip
    worse = str(pool_run(tmp_path / "worse", {"OLD": 0, "NEW": 8000}))
    assert verdicts(suite_of(exported(capsys, worse, "--format", "junit")))["coroutine pool"] == "failure"


@given(text=st.text(), fails=st.booleans())
def test_no_text_breaks_the_xml(text: str, *, fails: bool) -> None:
    head = replace(HEAD, name=text or "x", host=text, stopped=text, builds={text: {"version": text}})
    finding = Finding(text, {"rw": text}, text, Outcome.UNCLEAR, text, text, text)
    written = junit(head, [finding], table=text, warnings=[text], problem=text, unclear_fails=fails)
    # To the byte, as a file has it.
    suite_of(written.encode().decode())


# benchstat

CONFIGURATION = re.compile(r"(?P<key>[a-z][^\sA-Z:]*): (?P<value>.*)")


def parsed_benchmarks(text: str) -> list[tuple[dict[str, str], str, int, dict[str, float]]]:
    """Read the format as benchfmt does: configuration, name, iterations, values by unit."""
    configuration: dict[str, str] = {}
    found = []
    for line in text.splitlines():
        if line.startswith("Benchmark"):
            name, iterations, *rest = line.removeprefix("Benchmark").split()
            values = {unit: float(value) for value, unit in zip(rest[::2], rest[1::2], strict=True)}
            found.append((dict(configuration), name, int(iterations), values))
        elif line and not line.startswith("Unit "):
            match = CONFIGURATION.fullmatch(line)
            assert match, line
            configuration[match["key"]] = match["value"]
    return found


def test_benchstat_gets_a_line_a_session_with_the_numbers_of_its_iterations(
    slower: Path, capsys: Captured
) -> None:
    text = exported(capsys, str(slower), "--format", "benchstat", "--metric", "iops,bw")
    assert "Unit iops better=higher\nUnit B/s better=higher\n" in text
    found = parsed_benchmarks(text)
    assert len(found) == 2 * 8 * 2
    variants = [configuration.pop("variant") for configuration, *_rest in found]
    assert variants == ["OLD"] * 16 + ["NEW"] * 16
    # Whatever else is configured is the same on all lines: benchstat makes a table of each combination.
    assert all(configuration == found[0][0] for configuration, *_rest in found)
    assert [name for _c, name, *_rest in found[:9]] == ["Fio/rw=randread/bs=4k/iodepth=1"] * 8 + [
        "Fio/rw=randread/bs=4k/iodepth=8"
    ]
    sessions = RunDirectory.open(slower).plan.sessions
    first = next(session for session in sessions if session.variant == "OLD")
    assert found[0][3]["iops"] == pytest.approx(1000 * (1 + first.number / 10_000))
    assert found[0][3]["B/s"] == pytest.approx(4096 * found[0][3]["iops"], rel=1e-3)


def test_benchstat_of_counts_has_a_line_a_repeat(counted: Path, capsys: Captured) -> None:
    found = parsed_benchmarks(exported(capsys, str(counted), "--format", "benchstat"))
    assert len(found) == 2 * 2 * 3
    assert found[0][3] == {"instructions-per-request": 5000.0}
    assert found[-1][3] == {"instructions-per-request": 6000.0}


def test_benchstat_of_a_pool_has_a_line_a_round(grown: Path, capsys: Captured) -> None:
    found = parsed_benchmarks(exported(capsys, str(grown), "--format", "benchstat"))
    assert [(c["variant"], name, v["vmas"]) for c, name, _n, v in found][:2] == [
        ("OLD", "Pool/round=01", 8000.0), ("OLD", "Pool/round=02", 16000.0),
    ]  # fmt: skip


def test_what_looks_like_a_number_of_processors_is_not_taken_for_one() -> None:
    bench = Bench("OLD", "Fio", {"cpus": "0-3"}, 1, (Value(1.0, "iops", higher_is_better=True),))
    assert "\nBenchmarkFio/cpus=0-3-1 1 1.0 iops\n" in benchstat(HEAD, [bench])


@given(st.text(), st.floats(allow_nan=False, allow_infinity=False))
def test_no_text_breaks_a_benchmark_line(text: str, number: float) -> None:
    head = replace(HEAD, run_id=text, builds={text: {"version": text}}, host=text)
    bench = Bench(text, "Fio", {"rw": text, text: 1}, 1, (Value(number, "iops", higher_is_better=True),))
    ((_configuration, name, count, values),) = parsed_benchmarks(benchstat(head, [bench]))
    assert (count, values) == (1, {"iops": number})
    assert name.startswith("Fio/rw=")


# OpenMetrics

openmetrics_families: Callable[[str], Iterator[Metric]] = openmetrics_parser.text_string_to_metric_families


def families(text: str) -> dict[str, Metric]:
    """Read the text as OpenMetrics, and as what node_exporter's collector reads; both see the same."""
    found = {family.name: family for family in openmetrics_families(text)}
    classic = {family.name: family for family in classic_families(text)}
    assert {name: family.samples for name, family in found.items()} == {
        name: family.samples for name, family in classic.items()
    }
    assert text.endswith("# EOF\n")
    for name, family in found.items():
        assert name.startswith("qemu_ab_")
        assert family.type == "gauge"
        assert not name.endswith(("_count", "_sum", "_bucket", "_total"))
    return found


def value_of(family: Metric, **labels: str) -> float:
    (sample,) = [s for s in family.samples if labels.items() <= s.labels.items()]
    value: float = sample.value
    return value


def samples_of(family: Metric) -> list[Sample]:
    return family.samples


def test_openmetrics_has_changes_bounds_verdicts_and_medians_in_base_units(
    slower: Path, capsys: Captured
) -> None:
    found = families(exported(capsys, str(slower), "--format", "openmetrics", "--metric", "iops,bw"))
    cell = {"rw": "randread", "bs": "4k", "iodepth": "8", "contender": "NEW", "metric": "iops"}
    assert value_of(found["qemu_ab_change_ratio"], **cell) == pytest.approx(-0.2)
    assert found["qemu_ab_change_ratio"].unit == "ratio"
    low, high = (value_of(found["qemu_ab_change_bound_ratio"], **cell, bound=b) for b in ("low", "high"))
    assert low <= -0.2 + 1e-9
    assert high >= -0.2 - 1e-9
    verdict = found["qemu_ab_verdict"]
    of_cell = [s for s in samples_of(verdict) if cell.items() <= s.labels.items()]
    assert {s.labels["verdict"]: s.value for s in of_cell} == {
        "faster": 0.0, "slower": 1.0, "same": 0.0, "unclear": 0.0,
    }  # fmt: skip
    old = {"variant": "OLD", "iodepth": "8"}
    assert value_of(found["qemu_ab_iops"], **old) == pytest.approx(1000.75, abs=0.5)
    bandwidth = found["qemu_ab_bandwidth_bytes_per_second"]
    assert value_of(bandwidth, **old) == pytest.approx(4096 * 1000.75, rel=1e-3)
    assert len(samples_of(bandwidth)) == 4
    assert value_of(found["qemu_ab_build_info"], variant="NEW", version="QEMU of NEW") == 1.0


def test_openmetrics_leaves_out_what_is_not_known(tmp_path: Path, capsys: Captured) -> None:
    found = families(exported(capsys, str(a_run(tmp_path / "r", blocks=1)), "--format", "openmetrics"))
    assert "qemu_ab_change_ratio" in found
    assert "qemu_ab_change_bound_ratio" not in found


def test_openmetrics_of_counts_and_pools(counted: Path, grown: Path, capsys: Captured) -> None:
    costs = families(exported(capsys, str(counted), "--format", "openmetrics"))
    assert value_of(costs["qemu_ab_change_ratio"], iodepth="64") == pytest.approx(0.2)
    assert value_of(costs["qemu_ab_verdict"], iodepth="64", verdict="costlier") == 1.0
    pool = families(exported(capsys, str(grown), "--format", "openmetrics"))
    assert value_of(pool["qemu_ab_pool_vmas_per_round"], variant="OLD") == pytest.approx(8000)
    assert value_of(pool["qemu_ab_growth"], variant="OLD", growth="unbounded") == 1.0
    assert value_of(pool["qemu_ab_mapping_limit"]) == 65530


@given(st.text())
def test_no_text_breaks_a_label(text: str) -> None:
    head = replace(HEAD, name=text or "x", host=text, builds={text: {"version": text}})
    found = families(openmetrics(head, ()))
    (build,) = samples_of(found["qemu_ab_build_info"])
    shown = "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
    assert build.labels["version"] == shown


# The verb


def test_several_formats_go_into_a_directory(slower: Path, tmp_path: Path, capsys: Captured) -> None:
    place = tmp_path / "out"
    chosen = [option for form in FILE_NAMES for option in ("--format", form.value)]
    assert exported(capsys, str(slower), *chosen, "-o", str(place)) == ""
    assert {file.name for file in place.iterdir()} == set(FILE_NAMES.values())
    one = tmp_path / "one.json"
    exported(capsys, str(slower), "--format", "json", "-o", str(one))
    assert one.read_text() == (place / "result.json").read_text()
    assert run_cli(["compare", str(slower), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(one.read_text())


@pytest.mark.parametrize(
    ("run", "options", "words"),
    [
        ("slower", [], "name a --format"),
        ("slower", ["--format", "csv", "--format", "json"], "several formats go into a directory: -o DIR"),
        ("slower", ["--format", "csv", "--anonymous"], "--anonymous: goes with --bundle"),
        ("slower", ["--bundle", "x.tar.zst", "--format", "csv"], "--format: a bundle holds the whole run"),
        (
            "counted",
            ["--format", "junit", "--metric", "bw"],
            "--metric: a run of counts is compared by itself",
        ),
        (
            "grown",
            ["--format", "junit", "--margin", "1%"],
            "--margin: a run of pool-growth is judged by itself",
        ),
        ("slower", ["--format", "junit", "--metric", "vmas"], "has no vmas"),
    ],
)
def test_what_makes_no_sense_is_refused(
    run: str, options: list[str], words: str, request: pytest.FixtureRequest, capsys: Captured
) -> None:
    path: Path = request.getfixturevalue(run)
    assert run_cli(["export", str(path), *options]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert words in " ".join(captured.err.split())


def test_formats_for_programs_lose_no_warning(tmp_path: Path, capsys: Captured) -> None:
    run = new_run(tmp_path / "r", blocks=8)
    fine: Callable[..., Execution] = speeds({"OLD": 1000.0, "NEW": 1000.0})

    def once_wrong(session: PlannedSession, cell: Cell, count: int) -> Execution:
        if count == 3:
            return Execution(1, fio_json(cell, 0.0, error=5), "", MOMENT, 1.0)
        return fine(session, cell, count)

    measure(run, once_wrong)
    assert run_cli(["export", str(run.path), "--format", "openmetrics"]) == 0
    captured = capsys.readouterr()
    assert "harness: warning: left out for a missing session" in captured.err
    families(captured.out)
    suite = suite_of(exported(capsys, str(run.path), "--format", "junit"))
    assert "left out for a missing session" in (suite.findtext("system-err") or "")


def test_a_run_that_was_interrupted_is_an_error_beside_its_cells(tmp_path: Path, capsys: Captured) -> None:
    run = RunDirectory.open(a_run(tmp_path / "r", new=1000.0))
    record = run.record
    record.state, record.stopped = RunState.INTERRUPTED, "Ctrl-C"
    rewrite(run.path, "run.json", asdict(record))
    found = verdicts(suite_of(exported(capsys, str(run.path), "--format", "junit")))
    assert found[WHOLE_PLAN] == "error"
    assert found["randread 4k qd1: iops"] == "passed"
