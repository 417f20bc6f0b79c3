"""What the command line changes of an experiment, and that the run directory gets it so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.core.errors import InputError
from harness.core.experiment import load_experiment
from harness.shell.declare import Changes, declare, plan_of

QUICK = Path(__file__).resolve().parents[2] / "fio" / "quick.yml"


def test_without_changes_the_users_own_text_is_kept() -> None:
    assert declare(QUICK).text == declare(QUICK, Changes()).text == QUICK.read_text()


def test_how_to_judge_is_recorded_with_the_experiment() -> None:
    declared = declare(QUICK, Changes(margin=0.01, alpha=0.1))
    recorded = load_experiment(declared.text, "experiment.yml")
    assert recorded == declared.experiment
    assert (recorded.protocol.margin, recorded.protocol.alpha) == (0.01, 0.1)
    assert "  margin: 1%\n  alpha: 10%\n" in declared.text, "as people write it"
    assert recorded.protocol.blocks == declare(QUICK).experiment.protocol.blocks


def test_a_number_of_blocks_takes_the_place_of_a_stopping_rule(tmp_path: Path) -> None:
    path = tmp_path / "x.yml"
    path.write_text(QUICK.read_text() + "  until: 1%\n")
    assert plan_of(declare(path).experiment).blocks == 60
    declared = declare(path, Changes(blocks=4))
    assert declared.experiment.protocol.until is None
    assert plan_of(declared.experiment).blocks == 4


def test_a_stopping_rule_that_never_looks_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.yml"
    path.write_text(QUICK.read_text() + "  until: 1%\n  max_blocks: 18\n")
    with pytest.raises(InputError, match="18 is less than the 20 blocks before which until is not looked at"):
        declare(path)


@pytest.mark.parametrize("text", ["1e3", "1234e56", "NO", "0123", "=", "1_000"])
def test_a_text_that_looks_like_a_number_stays_text(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yml"
    builds = f"OLD: {{path: /old}}, NEW: {{git: /q, ref: {json.dumps(text)}}}"
    path.write_text(
        f"name: x\ndescription: {json.dumps(text)}\nbuilds: {{{builds}}}\nbaseline: OLD\nmatrix: {{bs: 4k}}\n"
    )
    changed = declare(path, Changes(seed=2)).experiment
    assert changed.protocol.seed == 2
    assert (changed.description, changed.builds) == (text, declare(path).experiment.builds)


def test_the_baseline_against_itself_has_one_build_twice() -> None:
    experiment = declare(QUICK, Changes(aa=True)).experiment
    assert experiment.variants == ("OLD", "OLD-again")
    assert experiment.builds["OLD"] == experiment.builds["OLD-again"]


def test_a_long_name_of_the_baseline_leaves_room_for_its_second_role(tmp_path: Path) -> None:
    path, name = tmp_path / "x.yml", "A" * 32
    path.write_text(QUICK.read_text().replace("OLD", name))
    assert declare(path, Changes(aa=True)).experiment.variants == (name, "A" * 26 + "-again")
