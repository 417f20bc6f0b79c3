"""Settings changed for a run are put back, however the run ends. On a made-up host: the kernel's stay."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.adapters.host.settings import HostSettings
from harness.adapters.host.tuning import check_allowed, hold, plan, put_back, sentences, tuned, waiting
from harness.core.errors import HarnessError, InputError
from harness.core.model import Tuning
from harness.core.quiet.settings import SETTINGS, allowed, cpu_numbers, ranges, spans, told
from harness.core.quiet.snapshot import Owner
from harness.shell.cli.main import run_cli
from made_up_host import CPU, PATHS, content, made_up_host, put

ROOT = Path(__file__).resolve().parents[2]
ALL = (Tuning.ALL, Tuning.HALT_POLL)
THP = PATHS["thp"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made_up_host(tmp_path / "root")
    return tmp_path / "root"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def chosen(root: Path) -> dict[str, str]:
    """Return the host's values; an ordinary file forgets what else could be chosen."""
    return {path: value.replace("always [madvise] never", "madvise") for path, value in content(root).items()}


def test_everything_that_is_allowed_is_made_quiet_and_put_back(root: Path, state: Path) -> None:
    host, before = HostSettings(root), chosen(root)
    with tuned(plan(ALL, host=host), state, host=host):
        during = chosen(root)
        assert {during[f"{CPU}/cpu{cpu}/cpufreq/scaling_governor"] for cpu in range(4)} == {"performance"}
        quiet = {"no_turbo": "1", "numa": "0", "ksm": "0", "thp": "never", "halt_poll": "0"}
        assert {name: during[PATHS[name]] for name in quiet} == quiet
        # Idle states that are left within 10 us stay.
        idle = {
            state: during[f"{CPU}/cpu3/cpuidle/{state}/disable"] for state in ("state1", "state2", "state3")
        }
        assert idle == {"state1": "0", "state2": "0", "state3": "1"}
        assert waiting(state, Owner.RUN)
    assert chosen(root) == before
    assert waiting(state, Owner.RUN) is None


def test_only_what_is_named_is_touched(root: Path, state: Path) -> None:
    host, before = HostSettings(root), chosen(root)
    with tuned(plan((Tuning.KSM,), host=host), state, host=host):
        during = chosen(root)
    assert {path for path in before if before[path] != during[path]} == {PATHS["ksm"]}


def test_all_leaves_halt_polling_alone() -> None:
    assert "kvm_halt_poll_ns" not in {setting.name for setting in allowed((Tuning.ALL,))}
    assert {setting.tuning for setting in allowed((Tuning.ALL,))} == set(Tuning) - {
        Tuning.NONE,
        Tuning.ALL,
        Tuning.HALT_POLL,
    }


def test_what_is_quiet_already_needs_no_snapshot(tmp_path: Path, state: Path) -> None:
    host = made_up_host(tmp_path / "quiet", ksm="2", thp="[always] madvise never")
    wanted = plan((Tuning.KSM, Tuning.THP), host=host)
    with tuned(wanted, state, host=host):
        assert wanted.changes == ()
    assert not state.exists()


def test_what_the_host_does_not_have_is_said(tmp_path: Path) -> None:
    put(tmp_path, PATHS["ksm"], "0")
    wanted = plan((Tuning.ALL,), host=HostSettings(tmp_path))
    assert wanted.absent == ("governor", "turbo", "cstates", "numa_balancing", "thp")


VALUES = {
    "governor": st.sampled_from(["powersave", "performance", "schedutil"]),
    "idle": st.sampled_from(["0", "1"]),
    "no_turbo": st.sampled_from(["0", "1"]),
    "numa": st.sampled_from(["0", "1", "2", "3"]),
    "ksm": st.sampled_from(["0", "1", "2"]),
    "thp": st.sampled_from(["always", "madvise", "never"]),
    "halt_poll": st.integers(0, 10**9).map(str),
}


@settings(max_examples=30, deadline=None)
@given(
    values=st.fixed_dictionaries(VALUES),
    uneven=st.dictionaries(st.integers(0, 3), VALUES["governor"]),
    asked=st.sets(st.sampled_from([name for name in Tuning if name is not Tuning.NONE])),
)
def test_tuning_and_putting_back_is_the_identity(
    values: dict[str, str], uneven: dict[int, str], asked: set[Tuning]
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        root, state = Path(directory) / "root", Path(directory) / "state"
        host = made_up_host(root, **values)
        for cpu, governor in uneven.items():
            put(root, f"{CPU}/cpu{cpu}/cpufreq/scaling_governor", governor)
        before = content(root)
        hold(plan(asked, host=host), state, host=host)
        assert plan(asked, host=host).changes == (), "a second time there is nothing to do"
        # More may be asked for later; what was before the first time comes back.
        hold(plan(ALL, host=host), state, host=host)
        put_back(state, Owner.HAND, host=host)
        assert content(root) == before
        assert waiting(state, Owner.HAND) is None


def test_a_run_that_fails_puts_it_back(root: Path, state: Path) -> None:
    host, before = HostSettings(root), chosen(root)
    with pytest.raises(HarnessError, match="gone wrong"), tuned(plan(ALL, host=host), state, host=host):
        raise HarnessError("gone wrong")
    assert chosen(root) == before


def test_a_change_that_the_system_does_not_take_undoes_the_others(root: Path, state: Path) -> None:
    host, before = HostSettings(root), chosen(root)
    wanted = plan((Tuning.KSM, Tuning.THP), host=host)
    (root / THP).unlink()
    (root / THP).symlink_to("/dev/null")
    with pytest.raises(HarnessError, match="transparent_hugepage"), tuned(wanted, state, host=host):
        pytest.fail("never gets here")
    assert content(root)[PATHS["ksm"]] == before[PATHS["ksm"]] == "1"
    assert waiting(state, Owner.RUN) is None


KILLED = """
import os, signal, sys
from pathlib import Path
from harness.adapters.host.settings import HostSettings
from harness.adapters.host.tuning import plan, tuned
from harness.core.model import Tuning
host, state = HostSettings(Path(sys.argv[1])), Path(sys.argv[2])
with tuned(plan((Tuning.ALL,), mappings=70000, host=host), state, host=host):
    if sys.argv[3] == "both":
        for child in Path("/proc/self/task").glob("*/children"):
            for pid in child.read_text().split():
                os.kill(int(pid), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(root: Path, state: Path, whom: str) -> None:
    argv = [sys.executable, "-c", KILLED, str(root), str(state), whom]
    assert subprocess.run(argv, cwd=ROOT, check=False).returncode == -signal.SIGKILL


def test_a_run_that_is_killed_has_it_put_back_by_its_guard(root: Path, state: Path) -> None:
    before = chosen(root)
    killed(root, state, "run")
    deadline = time.monotonic() + 60
    while waiting(state, Owner.RUN):
        assert time.monotonic() < deadline, chosen(root)
        time.sleep(0.02)
    assert chosen(root) == before


def test_what_nobody_put_back_the_next_start_does(root: Path, state: Path) -> None:
    host, before = HostSettings(root), chosen(root)
    killed(root, state, "both")
    assert chosen(root)[PATHS["mappings"]] == "70000"
    done = put_back(state, Owner.RUN, host=host)
    assert chosen(root) == before
    told_of = sentences(done)
    assert "put vm.max_map_count back to 65530" in told_of
    assert "put governor back to powersave in 4 places" in told_of
    assert sentences(put_back(state, Owner.RUN, host=host)) == []


def test_what_a_killed_run_left_is_put_back_alone_or_with_what_is_held_by_hand(
    root: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = chosen(root)
    hold(plan((Tuning.KSM,), host=HostSettings(root)), state, host=HostSettings(root))
    held = chosen(root)
    killed(root, state, "both")
    during = chosen(root)
    where = ["--root", str(root), "--state-dir", str(state)]
    assert run_cli(["tune", "--restore-run", "--dry-run", *where]) == 0
    assert "would set governor from performance to powersave" in capsys.readouterr().out
    assert chosen(root) == during
    assert run_cli(["tune", "--restore-run", *where]) == 0
    assert chosen(root) == held != before
    assert run_cli(["tune", "--restore-run", *where]) == 0
    assert "nothing to change" in capsys.readouterr().out
    killed(root, state, "both")
    assert run_cli(["tune", "--restore", *where]) == 0
    assert chosen(root) == before


def test_a_guard_that_comes_late_leaves_the_next_run_alone(root: Path, state: Path) -> None:
    host = HostSettings(root)
    with tuned(plan((Tuning.KSM,), host=host), state, host=host):
        put_back(state, Owner.RUN, only="the snapshot of another run", host=host)
        assert chosen(root)[PATHS["ksm"]] == "0"
        assert waiting(state, Owner.RUN)


def test_a_value_that_somebody_else_set_since_is_left_alone_and_named(root: Path, state: Path) -> None:
    host, said = HostSettings(root), list[str]()
    with tuned(plan((Tuning.KSM, Tuning.GOVERNOR), host=host), state, say=said.append, host=host):
        put(root, f"{CPU}/cpu1/cpufreq/scaling_governor", "schedutil")
    after = chosen(root)
    assert [after[f"{CPU}/cpu{cpu}/cpufreq/scaling_governor"] for cpu in range(3)] == [
        "powersave",
        "schedutil",
        "powersave",
    ]
    (sentence,) = said
    assert sentence.startswith(
        f"left governor (/{CPU}/cpu1/cpufreq/scaling_governor) alone: somebody changed it"
    )
    assert sentence.endswith("to another value than performance; it was powersave")
    assert waiting(state, Owner.RUN) is None


def test_a_snapshot_of_an_earlier_boot_is_only_forgotten(root: Path, state: Path) -> None:
    host = HostSettings(root)
    hold(plan((Tuning.KSM,), host=host), state, host=host)
    put(root, "proc/sys/kernel/random/boot_id", "another")
    done = put_back(state, Owner.HAND, host=host)
    assert chosen(root)[PATHS["ksm"]] == "0"
    assert "earlier boot" in sentences(done)[0]
    assert waiting(state, Owner.HAND) is None


def test_a_snapshot_that_cannot_be_read_is_never_dropped(state: Path) -> None:
    path = state / "snapshot" / "run.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    with pytest.raises(HarnessError, match="cannot be read") as caught:
        put_back(state, Owner.RUN)
    assert "by hand" in str(caught.value.remedy)
    assert path.exists()


def test_what_may_not_be_changed_is_refused_with_every_setting_at_once(root: Path) -> None:
    class ReadOnly(HostSettings):
        def writable(self, path: str) -> bool:
            return not path.endswith(("run", "scaling_governor"))

    host, before = ReadOnly(root), chosen(root)
    with pytest.raises(InputError) as caught:
        check_allowed(plan(ALL, host=host), where="my.yml: tuning", remedy="run as root", host=host)
    assert [problem.message for problem in caught.value.problems] == [
        "governor: /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor cannot be changed by this user",
        "ksm: /sys/kernel/mm/ksm/run cannot be changed by this user",
    ]
    assert chosen(root) == before


def test_the_guard_is_gone_when_the_run_is_over(root: Path, state: Path) -> None:
    host = HostSettings(root)
    with tuned(plan(ALL, host=host), state, host=host):
        # Just after exec a process has no command line yet.
        deadline = time.monotonic() + 30
        while not _guards():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert len(_guards()) == 1
    assert _guards() == []


def _guards() -> list[str]:
    return [
        pid
        for task in Path("/proc/self/task").iterdir()
        for pid in (task / "children").read_text().split()
        if b"guard" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def test_the_snapshot_says_what_was_before_and_during(root: Path, state: Path) -> None:
    host = HostSettings(root)
    hold(plan((Tuning.THP,), host=host), state, host=host)
    raw = json.loads((state / "snapshot" / "hand.json").read_text())
    assert raw["changes"] == [
        {"setting": "transparent_hugepage", "path": f"/{THP}", "before": "madvise", "during": "never"}
    ]
    assert (raw["version"], raw["owner"]) == (1, "hand")


# The words


def test_places_are_told_in_short() -> None:
    assert told({"cpu0": "performance", "cpu1": "performance"}) == "performance"
    uneven = {"cpu0": "a", "cpu1": "a", "cpu2": "b", "cpu3": "a", "cpu4": None}
    assert told(uneven) == "a (cpu0-1, cpu3), b (cpu2)"
    assert told({"": None}) is None
    assert spans(["cpu0/state2", "cpu1/state2", "cpu0/state3"]) == "cpu0-1/state2, cpu0/state3"


@given(st.sets(st.integers(0, 300), min_size=1))
def test_cpu_lists_are_read_as_they_are_written(cpus: set[int]) -> None:
    assert cpu_numbers(ranges(cpus)) == cpus


def test_cpu_lists_may_leave_out() -> None:
    assert cpu_numbers("0-7,^4") == {0, 1, 2, 3, 5, 6, 7}
    assert cpu_numbers("") == frozenset()


def test_every_setting_that_a_run_may_change_has_a_value_and_a_command() -> None:
    for setting in SETTINGS:
        assert setting.why
        if setting.quiet:
            assert setting.fix
        assert (setting.target is None) == (setting.tuning is None)
