"""A short fuzz of every reader, and what once broke one; `make fuzz` is the long one."""

from __future__ import annotations

import os
import sys
import time
from functools import cache
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz import page
from fuzz.__main__ import NAMES
from fuzz.driver import Result, load, run_random
from fuzz.edits import edits_of, lay_out
from fuzz.run_target import sound
from fuzz.target import Target, Violation, outcome_of
from fuzz.targets import TARGETS
from fuzz.trial import CORPUS, Trial, corpus_of
from fuzz.watch import Hang, watched
from harness.core.errors import HarnessError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = {"run": 30, "counts": 40, "experiment": 30, "fio": 30, "bundle": 50}
USUAL = 100
ANY_BYTES = 20


@pytest.fixture(scope="module")
def trials() -> Iterator[dict[str, Trial]]:
    found = {name: Trial(target) for name, target in TARGETS.items()}
    yield found
    for trial in found.values():
        trial.__exit__()


@cache
def seeds_of(name: str) -> list[bytes]:
    return TARGETS[name].seeds()


@pytest.mark.parametrize("name", NAMES)
def test_every_reader_keeps_its_promises(name: str, trials: dict[str, Trial]) -> None:
    target, trial = TARGETS[name], trials[name]

    @settings(max_examples=EXAMPLES.get(name, USUAL), database=None, suppress_health_check=list(HealthCheck))
    @given(seed=st.sampled_from(seeds_of(name)), chance=st.integers(0, 2**32), steps=st.integers(0, 4))
    def fuzz(seed: bytes, chance: int, steps: int) -> None:
        random = Random(chance)  # noqa: S311 - Hypothesis's number
        data = seed
        for _ in range(steps):
            data = target.mutate(data, random)[: target.longest]
        assert trial.run(data) is None

    fuzz()


@pytest.mark.parametrize("name", NAMES)
@given(data=st.binary(max_size=200))
@settings(max_examples=ANY_BYTES, database=None, suppress_health_check=list(HealthCheck))
def test_any_bytes_at_all(name: str, data: bytes, trials: dict[str, Trial]) -> None:
    assert trials[name].run(data) is None


@pytest.mark.parametrize("name", NAMES)
def test_every_seed_is_tried_and_some_are_read(name: str, trials: dict[str, Trial]) -> None:
    trial = trials[name]
    for seed in seeds_of(name):
        assert trial.run(seed) is None
    assert trial.book.outcomes["read"]


@pytest.mark.parametrize(
    ("name", "file"), [(path.parent.name, path.name) for path in sorted(CORPUS.glob("*/*"))]
)
def test_what_once_broke_a_reader_breaks_it_no_more(name: str, file: str, trials: dict[str, Trial]) -> None:
    assert trials[name].run(corpus_of(TARGETS[name])[file]) is None


def test_the_command_line_knows_every_target() -> None:
    assert tuple(TARGETS) == NAMES
    assert {path.name for path in CORPUS.iterdir()} <= set(NAMES)


# -- the harness of the fuzz itself --------------------------------------------------------------------------


def a_target(check: object) -> Target:
    return Target("t", "a reader", check, lambda: [b"{}"], lambda data, _random: data + b"x")  # type: ignore[arg-type]


def test_what_a_reader_must_not_do_is_found_with_its_input(tmp_path: Path) -> None:
    def check(data: bytes, _directory: Path) -> str:
        if b"xxx" in data:
            raise KeyError("boom")
        if b"xx" in data:
            raise Violation("a wrong number")
        return "read"

    run_random(a_target(check), 200, 1, tmp_path)
    result = load(tmp_path / "t.json")
    assert result.inputs == 200
    assert result.outcomes["read"] >= 1
    found = {what.split(":")[0]: Path(file).read_bytes() for what, file in result.violations.items()}
    assert found["KeyError"].count(b"x") >= 3
    assert found["Violation"].count(b"x") == 2


def test_an_endless_loop_is_a_violation_and_so_is_a_wait() -> None:
    def forever() -> None:
        while True:
            sum(range(1000))

    with watched(), pytest.raises(Hang, match="CPU time"):
        forever()
    reader, writer = os.pipe()
    try:
        with pytest.raises(Hang, match="still waiting"), watched(most_seconds=0.2):
            os.read(reader, 1)
    finally:
        os.close(reader)
        os.close(writer)


def test_no_timer_is_left_behind() -> None:
    with watched(most_seconds=0.05):
        pass
    time.sleep(0.1)


def test_a_message_without_end_or_content_is_a_violation() -> None:
    assert outcome_of(InputError.single("a", "is bad")) == "InputError"
    with pytest.raises(Violation, match="characters"):
        outcome_of(HarnessError("x" * 100_000))
    with pytest.raises(Violation, match="without a message"):
        outcome_of(HarnessError(""))


def test_a_run_directory_can_be_anything(tmp_path: Path) -> None:
    edits = edits_of(b'[["fifo", "run.json"], ["flip", "plan.json", 3, 0], ["nonsense", "plan.json"], 5]')
    assert lay_out(sound(), edits, tmp_path) == {"run.json", "plan.json"}
    assert (tmp_path / "run.json").is_fifo()


def test_the_page_gets_its_table(tmp_path: Path) -> None:
    path = tmp_path / "fuzzing.md"
    path.write_text(f"# Fuzz\n\n{page.BEGIN}\nold\n{page.END}\n\nend\n")
    outcomes = {"read": 900, "InputError": 100}
    page.write(path, [Result("fio", "reader", "atheris", 1000, 1.0, 60.0, outcomes, 0.012, {}, 321)])
    text = path.read_text()
    assert "| `fio`: reader | 1,000 | 900 | InputError 100 | 12 ms | 321 | 0 |" in text
    assert "old" not in text
    assert text.endswith("end\n")


def test_without_atheris_it_says_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fuzz import __main__ as command

    monkeypatch.setattr(sys, "argv", ["fuzz", "csv"])
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert command.main() == 2
    assert "--engine random" in capsys.readouterr().err
