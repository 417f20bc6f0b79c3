"""Kill anything at any moment, for real: nothing that was reported as done is lost, nothing is left behind.

A short campaign by default; `--faults N` makes it longer, `--faults-seed` another one, `--faults-only 7`
repeats one trial. `make faults N=200` writes the figures of docs/reliability.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fault_course import Course, find_pace
from fault_figures import Finding
from fault_plan import Trial, plan_trials
from fault_world import World, disk, world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest_plugins = ["tiny_fixtures"]
pytestmark = pytest.mark.system


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "trial" in metafunc.fixturenames:
        option = metafunc.config.getoption
        trials = plan_trials(option("--faults"), option("--faults-seed"))
        only = option("--faults-only")
        shard, shards = map(int, option("--faults-shard").split("/"))
        chosen = [trial for trial in trials[shard - 1 :: shards] if only in {None, trial.number}]
        metafunc.parametrize("trial", chosen, ids=lambda trial: trial.name)


@pytest.fixture(scope="module")
def faulty_world(provisioned: Path) -> Iterator[World]:
    with world(provisioned) as made:
        find_pace(made)
        yield made


def test_faults(trial: Trial, faulty_world: World, request: pytest.FixtureRequest) -> None:
    place = faulty_world.place / f"t{trial.number}"
    with disk(place.with_suffix(".disk")) as made:
        course = Course(trial, faulty_world, made, place)
        try:
            course.go()
        finally:
            log = request.config.getoption("--faults-log")
            if log is not None:
                Finding.of(course).append_to(log)
    assert course.complaints == [], course.told()
