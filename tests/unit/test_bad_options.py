"""Options with values that cannot be meant: exit code 2, cause and remedy, and nothing touched."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fakes import FakeLab, campaign, new_run
from harness.adapters.ceiling import check_ceiling
from harness.core.errors import InputError
from harness.core.experiment import load_experiment
from harness.shell.cli.main import run_cli

if TYPE_CHECKING:
    from collections.abc import Iterator

QUICK = Path(__file__).resolve().parents[2] / "fio" / "quick.yml"
DISK = "disk: {backend: null-co, size: 1GiB, iothreads: 1}"
PERCENTAGES = [
    ("much", "'much' is not a percentage"),
    ("", "'' is not a percentage"),
    ("0", "0.0 is not between 0% and 100%"),
    ("-1%", "'-1%' is not between 0% and 100%"),
    ("2", "2.0 is not between 0% and 100%"),
    ("100%", "'100%' is not between 0% and 100%"),
    ("nan", "nan is not between 0% and 100%"),
    ("inf", "inf is not between 0% and 100%"),
]


@pytest.fixture
def untouched(tmp_path: Path) -> Iterator[list[str]]:
    """Options that keep a run below a directory, in which there is nothing afterwards."""
    place = tmp_path / "place"
    place.mkdir()
    yield ["--state-dir", str(place / "state"), "--run-dir", str(place / "run")]
    assert list(place.iterdir()) == []


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """Return the error and its remedy."""
    assert run_cli(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    error, remedy = captured.err.splitlines()
    assert remedy.startswith("  remedy: ")
    return error.removeprefix("error: "), remedy


@pytest.mark.parametrize("option", ["--margin", "--alpha"])
@pytest.mark.parametrize(("value", "words"), PERCENTAGES)
def test_percentages(
    option: str, value: str, words: str, *, untouched: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    error, remedy = refused(["run", str(QUICK), option, value, *untouched], capsys)
    assert error == f"{option}: {words}"
    assert f"give a percentage: {option} " in remedy
    assert refused(["compare", "/nonexistent", option, value], capsys) == (error, remedy)


@pytest.mark.parametrize("verb", ["run", "plan", "compare"])
def test_a_risk_that_leaves_no_interval_for_same(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    error, remedy = refused([verb, str(QUICK), "--alpha", "50%"], capsys)
    assert error == "--alpha: '50%' is not below 50%"
    assert "--alpha 5%" in remedy


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ("soon", "'soon' is not a duration"),
        ("-5m", "'-5m' is not a duration"),
        ("nan", "'nan' is not a duration"),
        ("", "'' is not a duration"),
        ("0s", "0 s is too short for the 8 blocks that 4 cells need"),
        ("40", "40 s is too short"),
    ],
)
def test_budgets(
    budget: str, words: str, *, untouched: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    error, _remedy = refused(["run", str(QUICK), "--budget", budget, *untouched], capsys)
    assert error.startswith(f"--budget: {words}")


def test_a_budget_without_end_plans_no_run_without_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(["plan", str(QUICK), "--budget", "100000h", "--state-dir", str(tmp_path)]) == 0
    assert "\n1000 blocks, " in capsys.readouterr().out


def test_a_ceiling_of_a_drive_that_a_guest_owns_cannot_be_measured() -> None:
    """Wherever the tests run: `harness run` looks for the drive first."""
    text = QUICK.read_text().replace(DISK, "disk: {backend: nvme, path: '0000:01:00.0'}")
    with pytest.raises(InputError, match=r"x.yml: disk.backend: nvme cannot be measured"):
        check_ceiling(load_experiment(text, "x.yml"), "x.yml")


@pytest.mark.parametrize(
    ("disk", "rw", "error"),
    [
        ("backend: null-co", "randread", "disk.backend: null-co cannot be measured without a guest"),
        ("backend: file", "randwrite", "matrix.rw: the ceiling is measured by reading only"),
    ],
)
def test_a_ceiling_that_cannot_be_measured(
    disk: str,
    rw: str,
    error: str,
    *,
    tmp_path: Path,
    untouched: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    experiment, text = tmp_path / "x.yml", QUICK.read_text()
    for old, new in ((DISK, f"disk: {{{disk}}}"), ("rw: randread", f"rw: {rw}")):
        assert old in text
        text = text.replace(old, new)
    experiment.write_text(text)
    found, remedy = refused(["run", str(experiment), "--ceiling", *untouched], capsys)
    assert found.startswith(f"{experiment}: {error}")
    assert "leave --ceiling out" in remedy


def test_a_metric_that_is_none_and_one_that_was_not_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = new_run(tmp_path / "r")
    campaign(run, FakeLab())
    error, remedy = refused(["compare", str(run.path), "--metric", "speed"], capsys)
    assert error == "--metric: 'speed' is unknown"
    assert "iops, " in remedy
    error, remedy = refused(["compare", str(run.path), "--metric", "clat_p99"], capsys)
    assert error == f"{run.path}: has no clat_p99_ns: these results do not tell it"
    assert remedy == "  remedy: it has iops, bw_bytes"
