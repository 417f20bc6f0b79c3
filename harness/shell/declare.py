"""From the user's file and options to a validated experiment and its plan."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.adapters.disks import check_disks
from harness.adapters.files import read_text
from harness.adapters.guest.image import check_image
from harness.adapters.paths import directory_of
from harness.core.errors import InputError
from harness.core.experiment import Experiment, load_experiment
from harness.core.experiment.yaml_text import write_yaml
from harness.core.model import Workload
from harness.core.planning import Plan, make_plan
from harness.core.units import parse_duration

if TYPE_CHECKING:
    from harness.adapters.workspace import Workspace

_LONGEST_STEM = 26  # with "-again" after it, the longest name of a variant


@dataclass(frozen=True, slots=True)
class ExperimentFile:
    """An experiment file that was read: it may be a pipe, which gives its text once.

    Attributes:
        source: its name, for messages.
        text: what it says.
    """

    source: str
    text: str


@dataclass(frozen=True, slots=True)
class Declared:
    """An experiment as the user declared it.

    Attributes:
        source: the file's name, for messages.
        text: what goes into the run directory.
        aa: whether it is the baseline against itself.
    """

    experiment: Experiment
    source: str
    text: str
    aa: bool = False

    @property
    def directory(self) -> Path:
        """Where the file is: its patches and tarballs are named relative to it."""
        return directory_of(Path(self.source))

    @property
    def provisioned_as(self) -> str:
        """What its manifest is called: an A/A run does not take the place of what the experiment has."""
        return f"{self.experiment.name}-aa" if self.aa else self.experiment.name


@dataclass(frozen=True, slots=True)
class Changes:
    """What the command line changes of an experiment; None leaves it as it is.

    Attributes:
        aa: measure the baseline against itself, for the noise floor.
        iterations: passes over the cells of a session.
        runtime: measured seconds an iteration.
        margin: what does not matter, a fraction.
        alpha: accepted risk of a false verdict, a fraction.
        to_the_limit: let pool-growth go on until QEMU aborts.
    """

    blocks: int | None = None
    iterations: int | None = None
    runtime: float | None = None
    seed: int | None = None
    margin: float | None = None
    alpha: float | None = None
    accel: str | None = None
    aa: bool = False
    to_the_limit: bool = False


def read_experiment(path: Path) -> ExperimentFile:
    """Read an experiment file, or a pipe to its end.

    Raises:
        InputError: it cannot be read, or is no text.
    """
    return ExperimentFile(str(path), read_text(path, pipe=True))


def declare(file: Path | ExperimentFile, changes: Changes | None = None) -> Declared:
    """Read and validate an experiment whole, before anything is touched.

    Args:
        file: the experiment's; already read where it is declared more than once.
        changes: what the command line changes of it.

    Raises:
        InputError: with every problem found.
    """
    read = read_experiment(file) if isinstance(file, Path) else file
    source, text = read.source, read.text
    experiment = load_experiment(text, source)
    if changes and changes.to_the_limit and experiment.workload is not Workload.POOL_GROWTH:
        raise InputError.single(
            f"{source}: workload",
            f"--to-the-limit means nothing to the workload {experiment.workload}",
            "leave it out, or use fio/pool-growth.yml",
        )
    if changes and changes != Changes():
        experiment = load_experiment(_changed(experiment, changes), f"{source}, changed by the command line")
        text = experiment.to_yaml()
    check_disks(experiment, source)
    check_image(experiment, source)
    return Declared(experiment, source, text, aa=changes is not None and changes.aa)


def plan_of(experiment: Experiment) -> Plan:
    """Return the experiment's plan; with a stopping rule, up to its maximum of blocks.

    The rounds of pool-growth are its one cell's repeats.
    """
    protocol, pool = experiment.protocol, experiment.pool
    rounds = experiment.workload is Workload.POOL_GROWTH
    return make_plan(
        variants=experiment.variants,
        cells=experiment.cells(),
        guests=experiment.guest_configs(),
        blocks=protocol.max_blocks if protocol.until is not None else protocol.blocks,
        repeats=pool.planned_rounds if rounds else protocol.iterations,
        runtime=pool.latency if rounds else protocol.runtime,
        ramp=0.0 if rounds else protocol.ramp,
        seed=protocol.seed,
    )


def _changed(experiment: Experiment, changes: Changes) -> str:
    document = experiment.document()
    if changes.blocks is not None:
        # A number of blocks asked for is the number that runs: no stopping rule beside it.
        document["protocol"] |= {"blocks": changes.blocks}
        document["protocol"].pop("until", None)
    for key in ("iterations", "runtime", "seed", "margin", "alpha"):
        if (value := getattr(changes, key)) is not None:
            document["protocol"][key] = value
    if changes.accel is not None:
        document["accel"] = changes.accel
    if changes.to_the_limit:
        document["pool"]["to_the_limit"] = True
    if changes.aa:
        build = document["builds"][experiment.baseline]
        again = f"{experiment.baseline[:_LONGEST_STEM]}-again"
        document["builds"] = {experiment.baseline: build, again: build}
    return write_yaml(document)


def declare_within(file: ExperimentFile, changes: Changes, *, budget: str, workspace: Workspace) -> Declared:
    """Declare an experiment, with the protocol that fits best into a wall time (``40m``).

    Raises:
        InputError: with every problem found; or the time is too short.
    """
    from harness.shell.expectation import within_budget

    if changes.blocks is not None:
        raise InputError.single(
            "--budget", "chooses the number of blocks itself", "leave either --budget or --blocks out"
        )
    try:
        seconds = parse_duration(budget)
    except ValueError as error:
        raise InputError.single("--budget", str(error), "write e.g. --budget 40m") from error
    choice = within_budget(declare(file, changes).experiment, seconds, workspace)
    protocol = replace(changes, blocks=choice.blocks, iterations=choice.repeats, runtime=choice.runtime)
    return declare(file, protocol)
