"""Settings that change during a run are named in its result."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import FakeLab, campaign, new_run
from harness.adapters.host.settings import HostSettings
from harness.adapters.host.tuning import hold, plan
from harness.adapters.results.host_log import HOST_LOG, HostLog, drift_of, read_looks
from harness.adapters.results.store import RunDirectory
from harness.core.model import Tuning
from harness.core.quiet.drift import Look, Moment, changed, drift_sentences
from harness.shell.comparing import drift_warnings
from harness.shell.quieting import WatchedLab
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
    assert drift_of(tmp_path) == []
    assert len(read_looks(tmp_path)[0]) == 1, "what did not change is not written again"


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
    assert drift_of(tmp_path) == [
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
    assert drift_of(tmp_path) == ["ksm changed from 1 to 0 while the run was interrupted"]


def test_a_line_that_a_crash_tore_spoils_no_other(root: Path, tmp_path: Path) -> None:
    log(root, tmp_path)
    with (tmp_path / HOST_LOG).open("a") as file:
        file.write('\n{"at": "2026')
    put(root, PATHS["ksm"], "0")
    log(root, tmp_path)
    assert drift_of(tmp_path) == ["ksm changed from 1 to 0 while the run was interrupted"]


def test_an_older_run_knows_nothing_of_it(tmp_path: Path) -> None:
    assert drift_of(tmp_path) == []


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


def test_what_a_run_changed_itself_is_kept_and_is_no_drift(root: Path, tmp_path: Path) -> None:
    host = HostSettings(root)
    wanted = plan((Tuning.KSM,), host=host)
    hold(wanted, tmp_path / "state", host=host)
    HostLog(tmp_path, host).begin(wanted.changes)
    looks, tuned = read_looks(tmp_path)
    assert [(change.setting, change.before, change.during) for change in tuned] == [("ksm", "1", "0")]
    assert looks[0].values["ksm"] == {"": "0"}
    assert drift_of(tmp_path) == []
