"""Settings that change during a run are named in its result."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import FakeLab, campaign, new_run
from harness.adapters.host.settings import HostSettings
from harness.adapters.host.tuning import hold, plan
from harness.adapters.results.host_log import HostLog, read_looks
from harness.adapters.results.run_layout import HOST_LOG
from harness.adapters.results.store import RunDirectory
from harness.adapters.workspace import Workspace
from harness.core.model import Tuning
from harness.core.quiet.drift import Look, Moment, changed, drift_sentences
from harness.shell.bundles import write_bundle
from harness.shell.cli.main import run_cli
from harness.shell.comparing import drift_warnings
from harness.shell.quieting import WatchedLab, watched
from made_up_host import CPU, PATHS, made_up_host, put

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness.core.planning import PlannedSession


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made_up_host(tmp_path / "root", governor="performance")
    return tmp_path / "root"


def powersave(root: Path, *cpus: int) -> None:
    for cpu in cpus:
        put(root, f"{CPU}/cpu{cpu}/cpufreq/scaling_governor", "powersave")


def log(root: Path, directory: Path) -> HostLog:
    log = HostLog(directory, HostSettings(root))
    log.begin(())
    return log


def test_nothing_changed_is_nothing_said(root: Path, tmp_path: Path) -> None:
    watching = log(root, tmp_path)
    watching.look(Moment.BEFORE, "000-OLD")
    watching.look(Moment.AFTER, "000-OLD")
    watching.look(Moment.ENDED)
    assert read_looks(tmp_path).drift == []
    assert len(read_looks(tmp_path).looks) == 1, "what did not change is not written again"


def test_a_change_is_named_with_its_cpus_its_values_and_when_it_was(root: Path, tmp_path: Path) -> None:
    watching = log(root, tmp_path)
    put(root, PATHS["ksm"], "0")
    watching.look(Moment.BEFORE, "000-OLD")
    powersave(root, 0, 1, 2)
    watching.look(Moment.AFTER, "000-OLD")
    powersave(root, 3)
    put(root, PATHS["thp"], "[always] madvise never")
    (root / PATHS["numa"]).unlink()
    watching.look(Moment.ENDED)
    assert read_looks(tmp_path).drift == [
        "ksm changed from 1 to 0 before session 000-OLD",
        "governor of cpu0-2 changed from performance to powersave during session 000-OLD",
        "governor of cpu3 changed from performance to powersave after session 000-OLD",
        "kernel.numa_balancing changed from 1 to unreadable after session 000-OLD",
        "transparent_hugepage changed from madvise to always after session 000-OLD",
    ]


def test_what_changed_while_a_run_was_interrupted_is_named_too(root: Path, tmp_path: Path) -> None:
    log(root, tmp_path).look(Moment.AFTER, "000-OLD")
    put(root, PATHS["ksm"], "0")
    log(root, tmp_path)
    assert read_looks(tmp_path).drift == ["ksm changed from 1 to 0 while the run was interrupted"]


def test_a_line_that_a_crash_tore_spoils_no_other(root: Path, tmp_path: Path) -> None:
    log(root, tmp_path)
    with (tmp_path / HOST_LOG).open("a") as file:
        file.write('\n{"at": "2026')
    put(root, PATHS["ksm"], "0")
    seal = log(root, tmp_path).seal
    found = read_looks(tmp_path, seal)
    assert found.drift == ["ksm changed from 1 to 0 while the run was interrupted"]
    assert found.remarks == ["line 2 of host.jsonl is torn, as a crash leaves it"]


def sealed(root: Path, tmp_path: Path) -> tuple[Path, str]:
    """Return a log of three lines, and the checksum in its last one."""
    watching = log(root, tmp_path)
    put(root, PATHS["ksm"], "0")
    watching.look(Moment.BEFORE, "000-OLD")
    put(root, PATHS["thp"], "[always] madvise never")
    watching.look(Moment.AFTER, "000-OLD")
    return tmp_path / HOST_LOG, watching.seal


EDITED = "line 2 of host.jsonl, or the one before it, is not what was written"


def test_a_line_that_was_edited_is_named_and_left_out(root: Path, tmp_path: Path) -> None:
    path, seal = sealed(root, tmp_path)
    assert read_looks(tmp_path, seal).remarks == []
    path.write_text(path.read_text().replace('"ksm":{"":"0"}', '"ksm":{"":"1"}'))
    found = read_looks(tmp_path, seal)
    assert found.remarks == [EDITED]
    assert found.drift == ["transparent_hugepage changed from madvise to always during session 000-OLD"]


def test_a_line_without_its_checksum_is_named_behind_one_that_has_it(root: Path, tmp_path: Path) -> None:
    path, seal = sealed(root, tmp_path)
    lines = path.read_text().splitlines()
    value = json.loads(lines[1])
    del value["sha256"]
    path.write_text("\n".join([lines[0], json.dumps(value), lines[2]]))
    assert read_looks(tmp_path, seal).remarks[0] == EDITED


@pytest.mark.parametrize(
    ("kept", "remark"),
    [
        ((0, 2), EDITED),
        ((1, 2), "line 1 of host.jsonl, or the one before it, is not what was written"),
        ((0, 1), "host.jsonl lacks its end"),
        ((), "line 1 of host.jsonl is torn, as a crash leaves it"),
    ],
)
def test_a_line_that_is_gone_is_missed(
    root: Path, tmp_path: Path, kept: tuple[int, ...], remark: str
) -> None:
    path, seal = sealed(root, tmp_path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[number] for number in kept))
    assert read_looks(tmp_path, seal).remarks == [remark]


def test_a_log_that_is_gone_is_missed(root: Path, tmp_path: Path) -> None:
    path, seal = sealed(root, tmp_path)
    path.unlink()
    assert read_looks(tmp_path, seal).remarks == ["host.jsonl is missing"]


def test_a_log_of_an_older_harness_is_read_and_goes_on_with_checksums(root: Path, tmp_path: Path) -> None:
    path, _seal = sealed(root, tmp_path)
    values = [json.loads(line) for line in path.read_text().splitlines()]
    for value in values:
        del value["sha256"]
    path.write_text("\n".join(map(json.dumps, values)))
    put(root, PATHS["ksm"], "1")
    seal = log(root, tmp_path).seal
    found = read_looks(tmp_path, seal)
    assert (len(found.looks), found.remarks) == (4, [])
    assert found.drift[-1] == "ksm changed from 0 to 1 while the run was interrupted"


def test_an_older_run_knows_nothing_of_it(tmp_path: Path) -> None:
    assert read_looks(tmp_path).drift == []


def test_many_changes_are_cut_short() -> None:
    whole = Look("", Moment.BEGAN, "", {f"s{number}": {"": "0"} for number in range(20)})
    later = Look("", Moment.ENDED, "", {f"s{number}": {"": "1"} for number in range(20)})
    assert drift_sentences([whole, later])[-1] == "and 12 more changes of settings"


VALUES = st.dictionaries(
    st.sampled_from("ab"), st.dictionaries(st.sampled_from(["", "cpu0"]), st.none() | st.sampled_from("xyz"))
)


@given(VALUES, VALUES)
def test_what_changed_makes_the_second_reading_of_the_first(before: Any, after: Any) -> None:
    news = changed(before, after)
    for name in {**before, **after}:
        for place in {**before.get(name, {}), **after.get(name, {})}:
            expected = after.get(name, {}).get(place)
            kept = news.get(name, {})
            assert (kept[place] if place in kept else before.get(name, {}).get(place)) == expected


class DriftingLab(FakeLab):
    """Somebody changes a setting of the host while the second session measures."""

    root: Path

    @contextmanager
    def session(self, planned: PlannedSession, directory: Path, *, boot: int = 0) -> Iterator[Any]:
        with super().session(planned, directory, boot=boot) as guest:
            if planned.number == 1:
                powersave(self.root, 2)
            yield guest


def test_a_campaign_is_watched_and_its_result_warns(root: Path, tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", blocks=1)
    lab = DriftingLab()
    lab.root = root
    campaign(run, WatchedLab(lab, log(root, run.path)))
    second = run.plan.sessions[1].directory
    assert drift_warnings(RunDirectory.open(run.path)) == [
        f"the host changed: governor of cpu2 changed from performance to powersave during session {second}"
    ]


def test_readers_of_a_run_say_what_is_damaged_of_its_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = new_run(tmp_path / "run", blocks=2)
    with watched(FakeLab(), run.path, Workspace(tmp_path / "state")) as lab:
        campaign(run, lab)
    assert drift_warnings(RunDirectory.open(run.path)) == []
    assert run.record.host_log
    write_bundle(run.path, tmp_path / "whole.tar.zst", anonymous=True, logs=False)
    path = run.path / HOST_LOG
    path.write_text(path.read_text().replace('"began"', '"ended"'))
    told = "line 1 of host.jsonl, or the one before it, is not what was written"
    for verb in ("compare", "show"):
        assert run_cli([verb, str(run.path)]) == 0
        assert told in " ".join(capsys.readouterr().out.split())
    write_bundle(run.path, tmp_path / "damaged.tar.zst", anonymous=True, logs=False)
    for name, damaged in {"whole": False, "damaged": True}.items():
        assert run_cli(["compare", str(tmp_path / f"{name}.tar.zst")]) == 0
        assert (told in capsys.readouterr().out) is damaged


def test_what_a_run_changed_itself_is_kept_and_is_no_drift(root: Path, tmp_path: Path) -> None:
    host = HostSettings(root)
    wanted = plan((Tuning.KSM,), host=host)
    hold(wanted, tmp_path / "state", host=host)
    HostLog(tmp_path, host).begin(wanted.changes)
    kept = read_looks(tmp_path)
    assert [(change.setting, change.before, change.during) for change in kept.tuned] == [("ksm", "1", "0")]
    assert kept.looks[0].values["ksm"] == {"": "0"}
    assert read_looks(tmp_path).drift == []
