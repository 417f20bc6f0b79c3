"""--wait: with a time or without, wherever it stands; a busy host is named before anything is touched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import pytest

from harness.adapters.host.locks import host_alone
from harness.core.errors import InputError
from harness.shell.cli.main import run_cli
from harness.shell.cli.options import Waits, wait_option

if TYPE_CHECKING:
    from pathlib import Path

EXPERIMENT = """\
name: x
builds: {OLD: {path: /bin/true}, NEW: {path: /bin/false}}
baseline: OLD
matrix: {rw: randread, bs: 4k, iodepth: 1}
"""


@click.command(cls=Waits)
@click.argument("experiment", required=False)
@click.option("--seed", type=int)
@wait_option
def verb(**given: Any) -> dict[str, Any]:
    return given


@pytest.mark.parametrize(
    ("arguments", "wait"),
    [
        (["x.yml"], None),
        (["x.yml", "--wait"], 86400),
        (["--wait", "x.yml"], 86400),
        (["--wait", "--seed", "3", "x.yml"], 86400),
        (["--wait", "2h", "x.yml"], 7200),
        (["--wait=90s", "x.yml"], 90),
        (["x.yml", "--wait", "5"], 5),
    ],
)
def test_the_time_may_be_left_out_wherever_it_stands(arguments: list[str], wait: float | None) -> None:
    given = verb.main(arguments, standalone_mode=False)
    assert (given["experiment"], given["wait"]) == ("x.yml", wait)


def test_what_is_no_time_is_refused_with_an_example() -> None:
    with pytest.raises(InputError, match="'soon' is not a duration") as caught:
        verb.main(["--wait=soon", "x.yml"], standalone_mode=False)
    assert "--wait 2h" in str(caught.value.problems[0].remedy)


@pytest.mark.usefixtures("host_lock")
@pytest.mark.parametrize("workload", ["fio-matrix", "instructions"])
@pytest.mark.parametrize("options", [[], ["--wait", "1s"]])
def test_a_busy_host_is_named_before_anything_is_provisioned(
    workload: str,
    options: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    experiment, run = tmp_path / "x.yml", tmp_path / "run"
    experiment.write_text(f"{EXPERIMENT}workload: {workload}\n")
    state = tmp_path / "state"
    with host_alone():
        code = run_cli(["run", str(experiment), "--run-dir", str(run), "--state-dir", str(state), *options])
    said = capsys.readouterr().err
    assert code == 1
    assert "error: this host is in use by process " in said
    assert "with --wait" in said
    assert ("harness: waiting for process " in said) == bool(options)
    assert not run.exists()
    assert not (state / "experiments").exists()
