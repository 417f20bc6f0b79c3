"""The experiments of a search: the user's, with the commits that are to be measured."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

from harness.core.documents import document_of
from harness.core.errors import InputError, Problem
from harness.core.experiment import GitBuild
from harness.core.experiment.yaml_text import write_yaml
from harness.core.model import FIRST_LOOK, Workload

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import PurePath

    from harness.core.experiment import Experiment
    from harness.core.model import FactorValue

_LONGEST_NAME = 20
_LEAST_REPEATS = 2
_LARGEST_MARGIN = 0.5
"""Of an experiment file: what is larger is judged all the same, by whoever reads the run."""


def build_to_vary(
    experiment: Experiment, source: str, *, git: str | None, name: str | None
) -> dict[str, Any]:
    """Return the build of which the commit is varied, as an experiment has it, without a commit.

    Args:
        experiment: the user's.
        source: its file, for messages.
        git: the repository the user named instead; None takes the build's.
        name: the build the user named; None: the baseline, or the first that comes from git.

    Raises:
        InputError: there is no such build, or the workload gives no verdict; every problem.
    """
    problems = []
    if experiment.workload is Workload.POOL_GROWTH:
        message = "is pool-growth, which is judged by its rounds and gives no verdict on a commit"
        remedy = "use the workload instructions or fio-matrix"
        problems.append(Problem(f"{source}: workload", message, remedy))
    if name is not None and name not in experiment.builds:
        problems.append(
            Problem("--build", f"{name} is no build of {source}", f"one of {', '.join(experiment.builds)}")
        )
        raise InputError(problems)
    names = [name] if name is not None else list(experiment.variants)
    found = next((n for n in names if isinstance(experiment.builds[n], GitBuild)), None)
    if found is None and (git is None or name is not None):
        which = f"builds.{name}" if name else "builds"
        message = "does not come from git" if name else "none of them comes from git"
        problems.append(Problem(f"{source}: {which}", message, "name the repository: --git PATH|URL"))
    if problems:
        raise InputError(problems)
    build = dict(document_of(experiment)["builds"][found]) if found else {}
    build.pop("ref", None)
    return {**build, "git": git} if git else build


def experiment_of(
    experiment: Experiment,
    builds: Mapping[str, Mapping[str, Any]],
    *,
    directory: PurePath,
    mark: str,
    margin: float | None,
    cell: Mapping[str, FactorValue] | None = None,
    more_repeats: int = 1,
) -> str:
    """Return, as YAML, the user's experiment with other builds; the first of them is the baseline.

    Args:
        experiment: the user's.
        builds: by variant.
        directory: where the user's file is: what it names relative to that is named whole.
        mark: tells this search from others in names.
        margin: what counts as equal, a fraction; None leaves it.
        cell: the only one to measure; None: all.
        more_repeats: how many times as often counts are repeated.
    """
    document = {**document_of(experiment), "builds": deepcopy(dict(builds)), "baseline": next(iter(builds))}
    document = document_of(document, directory)
    document["name"] = f"{experiment.name[:_LONGEST_NAME]}-{mark}"
    counts = experiment.workload is Workload.INSTRUCTIONS
    judged = document["instructions" if counts else "protocol"]
    if margin is not None:
        judged["margin"] = min(margin, _LARGEST_MARGIN)
    if counts:
        judged["repeats"] = max(judged["repeats"], _LEAST_REPEATS) * more_repeats
    elif margin is not None and "until" not in judged:
        # Until the interval is so narrow that it cannot lie on both sides of the threshold for long.
        judged["until"] = min(margin, _LARGEST_MARGIN) / 2
        judged["max_blocks"] = max(judged["max_blocks"], FIRST_LOOK)
    if cell is not None:
        document["matrix"] |= cell
    return write_yaml(document)
