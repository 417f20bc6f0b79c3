"""compare --fleet on run directories: which runs make a fleet, and what they must have in common."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from test_comparing import speeds

from fakes import EXPERIMENT, FakeLab, campaign, new_run
from harness.adapters.files import write_json
from harness.core.errors import InputError
from harness.shell.cli.main import run_cli
from harness.shell.fleet import FLEET_FILE, compare_fleet
from harness.shell.judging import Judgement
from resealed import rewrite

if TYPE_CHECKING:
    from pathlib import Path

SHA = {name: {"version": f"QEMU of {name}", "sha256": name * 20} for name in ("OLD", "NEW")}


def a_run(path: Path, host: str, *, new: float = 900.0, blocks: int = 8, **head: Any) -> Path:
    run = new_run(path, blocks=blocks, **head)
    environment = run.environment
    environment["host"]["name"] = host
    rewrite(path, "environment.json", environment)
    campaign(run, FakeLab(speeds({"OLD": 1000.0, "NEW": new})))
    return path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """What benchmark.yml brings home of three hosts."""
    for name in ("kvm1", "kvm2", "kvm3"):
        a_run(tmp_path / "fleet-x" / name, name)
    return tmp_path / "fleet-x"


def fails(paths: list[Path], judgement: Judgement | None = None) -> str:
    with pytest.raises(InputError) as caught:
        compare_fleet(paths, judgement or Judgement())
    return "\n".join(f"{p.where}: {p.message} | {p.remedy}" for p in caught.value.problems)


def test_the_directory_of_a_fleet_and_its_runs_one_by_one_give_the_same(home: Path) -> None:
    together = compare_fleet([home], Judgement())
    one_by_one = compare_fleet(sorted(home.iterdir()), Judgement())
    assert list(together.hosts) == list(one_by_one.hosts) == ["kvm1", "kvm2", "kvm3"]
    rows = [found.pooled.frames["NEW"] for found in (together, one_by_one)]
    assert list(rows[0]["change"].round(3)) == list(rows[1]["change"].round(3)) == [-0.1, -0.1]
    assert set(rows[0]["verdict"]) == {"slower"}
    assert together.facts["kvm2"]["kernel"] == "6.1"


def test_a_host_that_did_not_come_home_is_named(home: Path) -> None:
    shutil.rmtree(home / "kvm2")
    write_json(home / FLEET_FILE, {"hosts": {"kvm1": {"state": "done"}, "kvm2": {"state": "unreachable"}}})
    found = compare_fleet([home], Judgement())
    assert found.names == ("kvm1", "kvm3")
    assert "kvm2 is not in the pooled answer: unreachable, its run is not here" in found.pooled.warnings


def test_a_damaged_run_does_not_take_the_others_down(home: Path) -> None:
    next((home / "kvm2").rglob("*-randread-*.json")).write_text("{}")
    found = compare_fleet([home], Judgement())
    assert found.names == ("kvm1", "kvm3")
    assert "SHA-256" in found.left_out["kvm2"]


def test_two_runs_of_one_host_and_a_single_run_are_no_fleet(home: Path, tmp_path: Path) -> None:
    again = a_run(tmp_path / "again", "kvm1")
    assert "is a second run of kvm1" in fails([home / "kvm1", home / "kvm2", again])
    assert "holds 1 runs" in fails([again])
    assert "holds 0 runs" in fails([home / "kvm1" / "sessions"])
    assert "is no directory" in fails([tmp_path / "none"])


def test_every_difference_between_hosts_is_named_with_a_remedy(home: Path) -> None:
    other = {"OLD": {**SHA["OLD"], "sha256": "5" * 64}, "NEW": SHA["NEW"]}
    shutil.rmtree(home / "kvm2")
    shutil.rmtree(home / "kvm3")
    a_run(home / "kvm2", "kvm2", builds=other, accel="kvm")
    a_run(home / "kvm3", "kvm3", guest_image={"kernel_version": "6.12", "fio_version": "fio-3.33"})
    said = fails([home])
    assert "kvm2 against kvm1: the build OLD differs: OLDOLDOLDOLD (QEMU of OLD), 555555555555" in said
    assert "kvm2 against kvm1: the accelerator differs: tcg, kvm" in said
    assert "kvm3 against kvm1: the guest image's kernel_version differs: 6.1, 6.12" in said
    assert "--accept-differences" in said
    accepted = compare_fleet([home], Judgement(accept_differences=True))
    assert sum(warning.startswith("accepted: ") for warning in accepted.pooled.warnings) == 3


def test_hosts_may_order_their_sessions_differently(home: Path) -> None:
    text = EXPERIMENT.replace("BLOCKS", "8").replace("REPEATS", "1").replace("seed: 1", "seed: 7")
    rewrite(home / "kvm2", "experiment.yml", text)
    assert compare_fleet([home], Judgement()).names == ("kvm1", "kvm2", "kvm3")


def test_another_matrix_is_refused_whatever_is_accepted(home: Path) -> None:
    text = EXPERIMENT.replace("BLOCKS", "8").replace("REPEATS", "1").replace("[1, 8]", "[1, 16]")
    rewrite(home / "kvm2", "experiment.yml", text)
    said = fails([home], Judgement(accept_differences=True))
    assert "kvm2 against kvm1: the runs have different variants or cells" in said


@pytest.mark.parametrize("form", ["text", "commit", "markdown", "csv", "json"])
def test_every_format_works_and_a_slower_fleet_fails_on_slower(
    home: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(["compare", "--fleet", str(home), "--format", form, "--fail-on", "slower"]) == 3
    out, err = capsys.readouterr()
    assert "-10.0%" in out or "-0.0999" in out or "-0.1" in out
    if form == "json":
        assert list(json.loads(out)["hosts"]) == ["kvm1", "kvm2", "kvm3"]
    if form in {"commit", "csv"}:
        assert "geometric means over 3 hosts" in err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [(["--ci"], "--ci"), (["--explain"], "--explain"), (["--noise-floor", "x"], "--noise-floor")],
)
def test_what_goes_with_one_run_is_refused(
    home: Path, arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(["compare", "--fleet", str(home), *arguments]) == 2
    assert word in capsys.readouterr().err


def test_three_results_are_a_fleet_only_if_that_is_said(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [str(path) for path in sorted(home.iterdir())]
    assert run_cli(["compare", *runs]) == 2
    assert "--fleet" in capsys.readouterr().err
    assert run_cli(["compare", "--fleet", *runs]) == 0


def test_without_the_metric_that_was_asked_for_nothing_is_compared(home: Path) -> None:
    assert "has no clat_p99" in fails([home], Judgement(metric="clat_p99"))
