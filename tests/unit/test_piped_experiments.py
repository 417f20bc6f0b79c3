"""Experiments from a pipe: `harness run <(sed ... x.yml)` does what it does with the file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import stand_in
from harness.adapters.bisect_store import BisectDirectory
from harness.adapters.host import locks
from harness.core.bisecting import Asked
from harness.core.errors import ProvisionError
from harness.shell import provisioning
from harness.shell.bisect_begin import begin
from harness.shell.cli.main import run_cli

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FIO = Path(__file__).resolve().parents[2] / "fio"
PATCHED = """\
name: patched
builds:
  OLD: {git: "https://git.example/qemu.git", ref: v10.0.2}
  NEW: {git: "https://git.example/qemu.git", ref: v10.0.2, patches: [my.patch]}
baseline: OLD
"""

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def piped() -> Iterator[Callable[[str], str]]:
    """Return what gives the name of a new pipe in which a text is, as the shell's ``<(...)`` does."""
    readers = []

    def pipe(text: str) -> str:
        reader, writer = os.pipe()
        readers.append(reader)
        assert os.write(writer, text.encode()) == len(text.encode())
        os.close(writer)
        return f"/dev/fd/{reader}"

    yield pipe
    for reader in readers:
        os.close(reader)


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "HOST_LOCK", tmp_path / "host.lock")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("quick.yml", []),
        ("quick.yml", ["--blocks", "4"]),
        ("quick.yml", ["--budget", "40m"]),
        ("pool-growth.yml", []),
        ("instructions.yml", []),
    ],
)
def test_a_piped_experiment_has_the_plan_of_its_file(
    name: str, options: list[str], piped: Callable[[str], str], capsys: Captured
) -> None:
    shown = []
    for experiment in (str(FIO / name), piped((FIO / name).read_text())):
        assert run_cli(["plan", experiment, *options, "--state-dir", "s"]) == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("quick.yml", ["--aa"]),
        ("quick.yml", ["--budget", "40m"]),
        ("pool-growth.yml", []),
        ("instructions.yml", []),
    ],
)
def test_a_piped_experiment_is_run_as_its_file_is(
    name: str,
    options: list[str],
    piped: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
) -> None:
    """Up to the playbooks, which are handed the same."""
    given: list[tuple[str, Path]] = []

    def provision(*, experiment_file: Path, manifest: Path, **_more: Any) -> None:
        given.append((experiment_file.read_text(), manifest))
        raise ProvisionError("so far")

    monkeypatch.setattr(provisioning, "provision", provision)
    for experiment in (str(FIO / name), piped((FIO / name).read_text())):
        assert run_cli(["run", experiment, *options, "--state-dir", "s", "--run-dir", "r"]) == 1
        assert "error: so far" in capsys.readouterr().err
    assert given[0] == given[1]
    assert not Path("r").exists()


@pytest.mark.parametrize("verb", ["run", "provision"])
def test_what_a_piped_experiment_names_is_looked_for_where_the_user_is(
    verb: str,
    piped: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
) -> None:
    where: list[Path] = []

    def provision(*, experiment_dir: Path, **_more: Any) -> None:
        where.append(experiment_dir)
        raise ProvisionError("so far")

    monkeypatch.setattr(provisioning, "provision", provision)
    state = ["--state-dir", str(tmp_path / "s")]
    for arguments in (["check"], [verb, *state]):
        experiment = piped(PATCHED)
        assert run_cli([arguments[0], experiment, *arguments[1:]]) == 2
        error = f"error: {experiment}: builds.NEW.patches[0]: {tmp_path}/my.patch does not exist\n"
        assert error in capsys.readouterr().err
    assert not (tmp_path / "s").exists()
    (tmp_path / "my.patch").write_text("--- a\n+++ b\n")
    assert run_cli(["check", piped(PATCHED)]) == 0
    assert run_cli([verb, piped(PATCHED), *state]) == 1
    assert where == [tmp_path]


def test_a_search_finds_the_patches_of_a_piped_experiment_when_it_goes_on_elsewhere(
    piped: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "qemu").mkdir()
    commits = []
    for number in range(2):
        (tmp_path / "qemu" / "file").write_text(str(number))
        commits.append(stand_in.commit(tmp_path / "qemu", f"commit {number}"))
    text = PATCHED.replace("https://git.example/qemu.git", str(tmp_path / "qemu"))
    asked = Asked(good="", bad="", good_ref=commits[0], bad_ref=commits[1], git="", location="")
    begin(tmp_path / "d", Path(piped(text)), asked, git=None, build="NEW")
    monkeypatch.chdir("/")
    _text, source = BisectDirectory.open(tmp_path / "d").experiment
    assert source.parent == tmp_path


@pytest.mark.parametrize("verb", ["check", "plan", "run"])
def test_an_empty_pipe_is_an_empty_file(verb: str, piped: Callable[[str], str], capsys: Captured) -> None:
    experiment = piped("")
    assert run_cli([verb, experiment]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"error: {experiment}: the file is empty")
