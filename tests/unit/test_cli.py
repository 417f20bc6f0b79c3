"""The command line as people and scripts meet it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fakes import FakeLab, campaign, new_run, raise_at
from harness import __version__
from harness.adapters.workspace import Workspace
from harness.core.errors import GuestError
from harness.core.experiment.protocol import Protocol
from harness.core.records import RunState
from harness.shell.campaign import Outcome
from harness.shell.cli.main import _VERBS, run_cli
from harness.shell.cli.run_result import guest_result, report
from harness.shell.console import Console

if TYPE_CHECKING:
    from harness.adapters.results.store import RunDirectory

ROOT = Path(__file__).resolve().parents[2]
QUICK = str(ROOT / "fio" / "quick.yml")
SEED = ROOT / "tests" / "data" / "seed"
CSVS = (str(SEED / "old.csv"), str(SEED / "new.csv"))
BUILDS = "builds:\n  OLD: {package: qemu, suite: a}\n  NEW: {package: qemu, suite: b}\n"
WHOLE = f"name: x\n{BUILDS}baseline: OLD\n"

Captured = pytest.CaptureFixture[str]


def harness(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the real command."""
    return subprocess.run(
        [sys.executable, "-m", "harness", *arguments],
        capture_output="stdout" not in options,
        text=True,
        check=False,
        timeout=60,
        cwd=ROOT,
        **options,
    )


@pytest.fixture(scope="module")
def one_died(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run directory in which one session of NEW died; not to be changed."""
    run = new_run(tmp_path_factory.mktemp("runs") / "run", blocks=8)
    lab = FakeLab(raise_at(30, GuestError))
    campaign(run, lab, protocol=Protocol(retries=0))
    return run.path


@pytest.fixture
def finished(one_died: Path, tmp_path: Path) -> Path:
    """Return a run directory in which one session of NEW died."""
    return shutil.copytree(one_died, tmp_path / "run")


# The command itself


@pytest.mark.parametrize("verb", _VERBS)
def test_every_verb_has_help_that_teaches(verb: str, capsys: Captured) -> None:
    assert run_cli([verb, "--help"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith(f"Usage: harness {verb}")
    assert len(captured.out.splitlines()) > 5
    assert captured.err == ""
    # Examples stand on lines of their own, and each is of this verb.
    examples = [line for line in captured.out.splitlines() if line.startswith("  ") and "harness " in line]
    examples = [line for line in examples if line.strip().startswith("harness ")]
    assert all(line.startswith(f"    harness {verb}") for line in examples)
    assert examples or verb == "doctor"


def test_help_names_every_verb_and_exit_code(capsys: Captured) -> None:
    assert run_cli(["--help"]) == 0
    text = capsys.readouterr().out
    for verb, summary in _VERBS.items():
        assert f"  {verb} " in text
        assert summary.split(";")[0][:40] in text
    for words in (
        "0 done",
        "1 the run failed",
        "2 invalid input",
        "3 a `slower`",
        "4 an `unclear`",
        "130 int",
    ):
        assert words in text


def test_the_version_is_the_packages(capsys: Captured) -> None:
    assert run_cli(["--version"]) == 0
    assert capsys.readouterr().out == f"harness, version {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["plan"], "Missing argument 'EXPERIMENT'"),
        (["plan", QUICK, "--blocks", "0"], "not in the range"),
        (["plan", QUICK, "--nonsense"], "No such option"),
        (["run"], "name an experiment, or a run directory with --resume"),
        (["run", QUICK, "--resume", "x"], "name an experiment, or a run directory with --resume"),
        (["run", "--resume", "x", "--blocks", "2"], "--blocks: a run that goes on keeps its plan"),
        (["run", "--resume", "x", "--seed", "0"], "--seed: a run that goes on"),
        (["run", "--resume", "x", "--budget", "40m", "--aa"], "--budget, --aa: a run that goes on"),
        (["run", "--resume", "x", "--accel", "kvm", "--ceiling"], "--accel, --ceiling: a run that goes on"),
        (["run", "--resume", "x", "--noise-floor", "y"], "--noise-floor: a run that goes on"),
        (
            ["run", "--resume", "x", "--margin", "1%", "--alpha", "1%"],
            "--margin, --alpha: a run that goes on",
        ),
        (["compare"], "Missing argument"),
        (["compare", *CSVS, "--format", "pdf"], "'pdf' is not one of"),
        (["compare", *CSVS, "--margin", "much"], "--margin: 'much' is not a percentage"),
        (["compare", *CSVS, "--alpha", "200%"], "--alpha: '200%' is not between 0% and 100%"),
        (["compare", *CSVS, "--ci"], "--ci goes with --format commit"),
        (["compare", *CSVS, "--format", "commit", "--json", "--ci"], "--ci goes with --format commit"),
        (["compare", *CSVS, "--noise-floor", "x"], "--noise-floor: goes with one run directory"),
        (["compare", *CSVS, "--metric", "speed"], "'speed' is unknown"),
    ],
)
def test_wrong_usage_ends_with_exit_code_2_and_nothing_on_stdout(
    arguments: list[str], words: str, capsys: Captured
) -> None:
    assert run_cli(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert words in captured.err


def test_no_verb_at_all_shows_the_help(capsys: Captured) -> None:
    assert run_cli([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Start here:" in captured.err


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys; from harness.shell.cli.main import run_cli; run_cli(['--help']);"
        "heavy = {'pandas', 'numpy', 'pydantic', 'libvirt', 'scipy', 'rich', 'ansible_runner'};"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_the_installed_command_and_the_module_are_the_same() -> None:
    command = Path(sys.executable).with_name("harness")
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == harness("--version").stdout


def test_completion_knows_the_verbs() -> None:
    environment = {
        **os.environ,
        "_HARNESS_COMPLETE": "bash_complete",
        "COMP_WORDS": "harness ",
        "COMP_CWORD": "1",
    }
    command = Path(sys.executable).with_name("harness")
    done = subprocess.run([command], capture_output=True, text=True, check=False, env=environment)
    assert [line.removeprefix("plain,") for line in done.stdout.split()] == list(_VERBS)


def test_a_path_that_cannot_be_looked_at_is_an_error_in_words() -> None:
    done = harness("compare", "a" * 300)
    assert (done.returncode, done.stdout) == (1, "")
    assert "File name too long" in done.stderr
    assert "Traceback" not in done.stderr


# Experiments


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("", "", "the file is empty"),
        ("a: [1,", "line 1", "not valid YAML"),
        ("- a\n", "", "the file holds a list"),
        (f"name: x\n{BUILDS}", "baseline", "missing"),
        (f"{WHOLE}matrx: {{}}\n", "matrx", "did you mean matrix?"),
        (f"{WHOLE}matrix: {{bs: 4q}}\n", "matrix.bs", "4q"),
        (f"{WHOLE}matrix: {{iodepth: 0}}\n", "matrix.iodepth", "0"),
        (f"{WHOLE}disk: {{iothreads: [[x]]}}\n", "disk.iothreads", ""),
        (f"{WHOLE}disk: {{backend: block, path: /dev/null}}\n", "disk.path", "is not a block device"),
    ],
)
@pytest.mark.parametrize("verb", ["check", "plan", "provision", "run"])
def test_a_bad_experiment_is_refused_before_anything_is_touched(
    verb: str, text: str, where: str, words: str, *, tmp_path: Path, capsys: Captured
) -> None:
    path = tmp_path / "x.yml"
    path.write_text(text)
    state = [] if verb == "check" else ["--state-dir", str(tmp_path / "state")]
    assert run_cli([verb, str(path), *state]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"error: {path}: {where}")
    assert words in captured.err
    assert "\n  remedy: " in captured.err
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.yml"]


def test_all_errors_come_at_once(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "x.yml"
    path.write_text(f"name: x\n{BUILDS}matrix: {{bs: 4q, iodepth: 0}}\nextra: 1\n")
    assert run_cli(["check", str(path)]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    for key in ("baseline", "matrix.bs", "matrix.iodepth", "extra"):
        assert len([line for line in errors if line.startswith(f"error: {path}: {key}")]) == 1


def test_a_missing_file_and_a_directory_are_named(tmp_path: Path, capsys: Captured) -> None:
    assert run_cli(["check", str(tmp_path), str(tmp_path / "absent.yml"), QUICK]) == 2
    captured = capsys.readouterr()
    assert captured.out == f"{QUICK}: quick: OLD, NEW; 4 cells\n"
    assert f"error: {tmp_path}: is a directory" in captured.err
    assert f"error: {tmp_path}/absent.yml: does not exist" in captured.err


def test_check_as_json_lists_the_problems(tmp_path: Path, capsys: Captured) -> None:
    assert run_cli(["check", QUICK, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    path = tmp_path / "x.yml"
    path.write_text(f"{WHOLE}matrix: {{bs: 4q}}\n")
    assert run_cli(["check", QUICK, str(path), "--json"]) == 2
    (problem,) = json.loads(capsys.readouterr().out)
    assert set(problem) == {"where", "message", "remedy"}
    assert problem["where"] == f"{path}: matrix.bs"


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "fio").glob("*.yml")))
def test_the_experiments_that_come_along_are_valid(name: str, capsys: Captured) -> None:
    assert run_cli(["check", str(ROOT / "fio" / name)]) == 0
    assert capsys.readouterr().err == ""


def test_schema_is_json_and_describes_experiments(capsys: Captured) -> None:
    assert run_cli(["schema"]) == 0
    assert {"builds", "baseline", "matrix", "protocol"} <= set(
        json.loads(capsys.readouterr().out)["properties"]
    )


# Plans


def test_plan_as_json_has_what_scripts_rely_on(tmp_path: Path, capsys: Captured) -> None:
    assert run_cli(["plan", QUICK, "--json", "--state-dir", str(tmp_path / "state")]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["seed"] == 1
    assert [session["number"] for session in plan["sessions"]] == list(range(16))
    assert [iteration["number"] for iteration in plan["iterations"]] == list(range(64))
    assert {"rw", "bs", "iodepth", "session", "repeat"} <= set(plan["iterations"][0])
    assert plan["expected"]["fio_seconds"] == 64 * 1.5
    assert plan["expected"]["wall_seconds"] > plan["expected"]["fio_seconds"]
    assert 0 < plan["expected"]["mde"] < 1
    assert not (tmp_path / "state").exists()


def test_a_plan_of_too_few_blocks_says_that_it_can_find_nothing(tmp_path: Path, capsys: Captured) -> None:
    arguments = ["plan", QUICK, "--blocks", "2", "--state-dir", str(tmp_path)]
    assert run_cli([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["expected"]["mde"] is None
    assert run_cli(arguments) == 0
    assert "It should find nothing: too few blocks, 8 are needed" in capsys.readouterr().out


def test_a_plan_with_a_stopping_rule_is_the_most_that_may_run(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "x.yml"
    path.write_text(Path(QUICK).read_text() + "  until: 5%\n")
    assert run_cli(["plan", str(path), "--state-dir", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-4].startswith("60 blocks, ")
    assert lines[-1] == "It ends before, from 20 blocks on, once every interval is within +-5.00%."


def test_plan_for_people_shows_the_order_and_the_cost(tmp_path: Path, capsys: Captured) -> None:
    arguments = ["plan", QUICK, "--seed", "5", "--state-dir", str(tmp_path)]
    assert run_cli(arguments) == 0
    short = capsys.readouterr().out
    assert run_cli([*arguments, "--all"]) == 0
    whole = capsys.readouterr().out
    assert "... 8 more sessions (--all)" in short
    assert len([line for line in short.splitlines() if line.startswith("block ")]) == 8
    assert len([line for line in whole.splitlines() if line.startswith("block ")]) == 16
    assert "8 blocks, 16 sessions, 64 iterations, 1 s each after 0.5 s of ramp, seed 5" in whole


def test_a_smaller_accepted_risk_finds_larger_changes_only(tmp_path: Path, capsys: Captured) -> None:
    found = []
    for alpha in ("5%", "4.9%", "0.01"):
        arguments = [
            "plan",
            QUICK,
            "--blocks",
            "30",
            "--alpha",
            alpha,
            "--state-dir",
            str(tmp_path),
            "--json",
        ]
        assert run_cli(arguments) == 0
        found.append(json.loads(capsys.readouterr().out)["expected"]["mde"])
    assert found == sorted(found)
    assert len(set(found)) == 3


def test_a_budget_chooses_the_protocol_and_a_short_one_is_refused(tmp_path: Path, capsys: Captured) -> None:
    state = ["--state-dir", str(tmp_path)]
    assert run_cli(["plan", QUICK, "--budget", "40m", "--json", *state]) == 0
    assert 30 * 60 < json.loads(capsys.readouterr().out)["expected"]["wall_seconds"] <= 40 * 60
    for budget, words in [("1m", "1 min 00 s is too short"), ("soon", "'soon' is not a duration")]:
        assert run_cli(["plan", QUICK, "--budget", budget, *state]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert f"error: --budget: {words}" in captured.err


@pytest.mark.parametrize("verb", ["plan", "run"])
def test_a_budget_and_a_number_of_blocks_contradict_each_other(
    verb: str, tmp_path: Path, capsys: Captured
) -> None:
    asked = ["--budget", "40m", "--blocks", "3", "--state-dir", str(tmp_path / "state")]
    assert run_cli([verb, QUICK, *asked]) == 2
    assert "error: --budget: chooses the number of blocks itself" in capsys.readouterr().err


# Runs


def test_resume_of_something_else_is_refused(tmp_path: Path, capsys: Captured) -> None:
    state = ["--state-dir", str(tmp_path / "s")]
    for path in (tmp_path, Path("/etc/passwd")):
        assert run_cli(["run", "--resume", str(path), *state]) == 2
        assert f"error: {path}: is not a run directory (no run.json in it)" in capsys.readouterr().err


@pytest.mark.parametrize("verb", [["show"], ["compare"], ["report"], ["run", "--resume"]])
def test_a_run_that_is_not_there_is_not_called_something_else(
    verb: list[str], tmp_path: Path, capsys: Captured
) -> None:
    absent = tmp_path / "absent"
    assert run_cli([*verb, str(absent)]) == 2
    assert capsys.readouterr().err == f"error: {absent}: does not exist\n  remedy: check the path\n"


def test_builds_that_are_not_there_are_all_named_before_anything_is_touched(
    tmp_path: Path, capsys: Captured
) -> None:
    path = tmp_path / "x.yml"
    path.write_text(
        "name: x\nbuilds: {OLD: {path: /nonexistent/q}, NEW: {path: /etc/passwd}}\nbaseline: OLD\n"
        "guest: {kernel: /nonexistent/vmlinuz, initrd: /etc}\n"
    )
    for verb in ("run", "provision"):
        assert run_cli([verb, str(path), "--state-dir", str(tmp_path / "state")]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        for words in (
            "builds.OLD.path: /nonexistent/q does not exist",
            "builds.NEW.path: /etc/passwd is not executable",
            "guest.kernel: /nonexistent/vmlinuz does not exist",
            "guest.initrd: /etc is not a file",
        ):
            assert f"error: {path}: {words}" in captured.err
        assert not (tmp_path / "state").exists()


def test_a_run_directory_that_cannot_be_used_is_refused_before_anything_is_touched(
    tmp_path: Path, capsys: Captured
) -> None:
    (tmp_path / "file").touch()
    for path, words in [
        (tmp_path, "is not empty"),
        (tmp_path / "file", "file is not a directory"),
        (tmp_path / "file" / "below", "file is not a directory"),
    ]:
        state = ["--state-dir", str(tmp_path / "state")]
        assert run_cli(["run", QUICK, "--run-dir", str(path), *state]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith(f"error: {path}: ")
        assert words in captured.err
        assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_run_without_provisioning_needs_one_before(tmp_path: Path, capsys: Captured) -> None:
    assert run_cli(["run", QUICK, "--no-provision", "--state-dir", str(tmp_path)]) != 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "harness provision" in captured.err


def end_of_run(run: RunDirectory, outcome: Outcome, workspace: Workspace) -> int:
    """Do what ends `harness run`, without the guests before it."""
    console = Console(quiet=True)

    def result() -> int:
        return guest_result(run, workspace, console, ())

    return report(run.path, outcome, console, result)


@pytest.mark.parametrize(
    ("state", "failures", "code"),
    [
        (RunState.FINISHED, [], 0),
        (RunState.FAILED, ["session 000-OLD: died"], 1),
        (RunState.INTERRUPTED, [], 130),
    ],
)
def test_the_exit_code_of_a_run_is_how_it_ended(
    state: RunState, failures: list[str], code: int, *, finished: Path, tmp_path: Path, capsys: Captured
) -> None:
    run, workspace = new_run(tmp_path / "empty"), Workspace.at(tmp_path / "state")
    workspace.state.mkdir()
    run.path = finished
    outcome = Outcome(state, "whatever", failures)
    assert end_of_run(run, outcome, workspace) == code
    captured = capsys.readouterr()
    assert ("CHANGE" in captured.out) == (state is not RunState.INTERRUPTED)
    # What went wrong is said also when quiet.
    assert captured.err == "".join(f"harness: failed: {failure}\n" for failure in failures)


def test_a_finished_run_whose_table_cannot_be_made_does_not_end_well(
    tmp_path: Path, capsys: Captured
) -> None:
    run, workspace = new_run(tmp_path / "empty"), Workspace.at(tmp_path)
    outcome = Outcome(RunState.FINISHED, "the plan is done")
    assert end_of_run(run, outcome, workspace) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "holds no accepted iteration" in captured.err


# Reading results


def test_show_tells_what_became_of_every_session(finished: Path, capsys: Captured) -> None:
    assert run_cli(["show", str(finished)]) == 0
    text = capsys.readouterr().out
    assert "r: failed (the plan is done)" in text
    assert "done      31 of 32 iterations" in text
    assert "QEMU of OLD [OLDOLDOLDOLD]" in text
    assert "sessions  15 of 16 as they should be" in text
    assert len([line for line in text.splitlines() if line.startswith("  session ")]) == 1
    assert "\n      now\n" in text
    assert run_cli(["show", str(finished), "--full"]) == 0
    every = capsys.readouterr().out.splitlines()
    assert len([line for line in every if line.startswith("  session ")]) == 16
    assert run_cli(["show", str(finished), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["planned"], data["accepted"], len(data["sessions"])) == (32, 31, 16)
    assert data["run"]["state"] == "failed"


@pytest.mark.parametrize(
    "file", ["run.json", "plan.json", "environment.json", "sessions/003-OLD/session.json"]
)
@pytest.mark.parametrize("verb", ["show", "compare"])
def test_a_damaged_run_directory_is_named_by_its_file(
    verb: str, file: str, finished: Path, capsys: Captured
) -> None:
    path = finished / file
    path.write_text(path.read_text()[:-30])
    assert run_cli([verb, str(finished)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    sealed = file in {"plan.json", "environment.json"}
    words = "is not what was written: its SHA-256 differs" if sealed else "is not whole JSON"
    assert f"error: {path}: {words}" in captured.err


def test_a_truncated_result_is_named_by_its_file(finished: Path, capsys: Captured) -> None:
    path = min(finished.glob("sessions/*/0000*.json"))
    path.write_text(path.read_text()[:-30])
    assert run_cli(["compare", str(finished)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"error: {path}: is not what fio printed" in captured.err


def test_compare_as_json_has_what_scripts_rely_on(finished: Path, capsys: Captured) -> None:
    assert run_cli(["compare", str(finished), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert {"cells", "pooled", "warnings", "environment", "format_version"} <= set(data)
    assert {"rw", "bs", "iodepth", "baseline", "contender", "change", "verdict", "mde", "stray"} <= set(
        data["cells"][0]
    )
    assert data["environment"]["accel"] == "tcg"


@pytest.mark.parametrize("form", ["text", "commit", "markdown", "csv", "json"])
def test_numbers_made_under_tcg_say_so_in_every_format(form: str, finished: Path, capsys: Captured) -> None:
    assert run_cli(["compare", str(finished), "--format", form]) == 0
    captured = capsys.readouterr()
    assert "tcg" in (captured.out + captured.err).lower()


def test_the_seeds_table_is_reproduced_to_the_byte() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "harness", "compare", *CSVS, "--format", "commit"],
        capture_output=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0
    assert done.stdout == (SEED / "table.txt").read_bytes()
    assert b"no verdict" in done.stderr


def test_fail_on_unclear_fails_where_no_verdict_is_possible(capsys: Captured) -> None:
    assert run_cli(["compare", *CSVS, "--fail-on", "unclear"]) == 4
    assert run_cli(["compare", *CSVS, "--fail-on", "slower"]) == 0
    assert capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "the column rw is missing"),
        ("rw,bs,iodepth\nread,4k,1\n", "iops"),
        ("rw,bs,iodepth,iops\nread,4k,1,fast\n", "line 2"),
    ],
)
def test_a_damaged_csv_is_refused(content: str, words: str, tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "new.csv"
    path.write_text(content)
    assert run_cli(["compare", CSVS[0], str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"error: {path}: ")
    assert words in captured.err


STOPPED = """
import os, signal, sys
from harness.shell.cli.options import stopping_on_signals
if sys.argv[1] == "ignored":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
with stopping_on_signals() as stop:
    os.kill(os.getpid(), signal.SIGHUP)
    print(stop.is_set())
print(signal.getsignal(signal.SIGHUP).name)
"""


@pytest.mark.parametrize(
    ("before", "stopped", "after"), [("default", "True", "SIG_DFL"), ("ignored", "False", "SIG_IGN")]
)
def test_a_terminal_that_is_gone_stops_a_run_unless_it_was_started_by_nohup(
    before: str, stopped: str, after: str
) -> None:
    with Path("/dev/full").open("w") as gone:
        done = subprocess.run(
            [sys.executable, "-c", STOPPED, before],
            stdout=subprocess.PIPE,
            stderr=gone,
            text=True,
            check=False,
        )
    assert done.stdout.split() == [stopped, after]
