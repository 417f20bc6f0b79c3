"""From the run directories of several hosts to one comparison."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.adapters.files import read_json
from harness.adapters.results.store import RunDirectory, is_run_directory
from harness.analysis.fleet import FleetComparison, compare_hosts
from harness.core.errors import HarnessError, InputError, Problem
from harness.core.experiment import Experiment, load_experiment
from harness.core.records import RunState
from harness.shell.comparing import compare_run
from harness.shell.judging import Judgement, NotMeasuredError
from harness.shell.noise_floor import place_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from harness.core.records import RunRecord

FLEET_FILE = "fleet.json"
"""What benchmark.yml keeps beside the hosts' run directories."""
_FEWEST = 2


@dataclass(frozen=True)
class HostRun:
    """One host's run.

    Attributes:
        path: its run directory.
        record: the run's head.
        experiment: as it was run there.
        environment: what was recorded of the host.
    """

    path: Path
    record: RunRecord
    experiment: Experiment
    environment: Mapping[str, Any]


def compare_fleet(paths: Sequence[Path], judgement: Judgement) -> FleetComparison:
    """Compare the variants on every host, and on all of them together.

    Args:
        paths: the directory that benchmark.yml made, or run directories, one a host.
        judgement: how to judge; ``accept_differences`` also accepts runs that differ between hosts.

    Raises:
        InputError: there are fewer than two runs, two of one host, or runs that do not measure the same; with
            every problem.
    """
    runs, absent = _found(paths)
    warnings = _alike(runs, judgement)
    hosts = {}
    for name, run in runs.items():
        try:
            hosts[name] = compare_run(run.path, judgement)
        except NotMeasuredError:
            raise
        except InputError as error:
            # One host's damaged or empty run does not take the others down.
            absent[name] = "; ".join(f"{p.where}: {p.message}" for p in error.problems)
    if not hosts:
        raise InputError([Problem(name, why) for name, why in absent.items()])
    return compare_hosts(
        hosts,
        warnings=[*warnings, *_unfinished(runs)],
        absent=absent,
        facts={name: _facts(runs[name]) for name in hosts},
    )


def _found(paths: Sequence[Path]) -> tuple[dict[str, HostRun], dict[str, str]]:
    """Return the runs by host, and the hosts that have none, with the reason."""
    absent: dict[str, str] = {}
    if len(paths) == 1 and not is_run_directory(paths[0]):
        directory = paths[0]
        # Its directories are called as the inventory calls the hosts.
        named = [(p.name, p) for p in _children(directory) if is_run_directory(p)]
        absent = _not_done(directory, {name for name, _path in named})
        remedy = "name what benchmark.yml made (runs/fleet-...), or run directories of several hosts"
    else:
        named = [(_host_name(path), path) for path in paths]
        remedy = "name run directories of other hosts too"
    problems = [
        Problem(str(path), f"is a second run of {name}", "a fleet is one run a host: leave one of them out")
        for number, (name, path) in enumerate(named)
        if name in {other for other, _path in named[:number]}
    ]
    if len(named) < _FEWEST:
        where = ", ".join(map(str, paths))
        problems.append(Problem(where, f"holds {len(named)} runs; a fleet is two or more", remedy))
    if problems:
        raise InputError(problems)
    return {name: _host_run(path) for name, path in named}, absent


def _children(directory: Path) -> Iterator[Path]:
    if not directory.is_dir():
        raise InputError.single(str(directory), "is no directory", "check the path")
    return (path for path in sorted(directory.iterdir()) if not path.name.startswith("."))


def _not_done(directory: Path, have: set[str]) -> dict[str, str]:
    """Return the hosts that benchmark.yml could not bring home, as it says."""
    with contextlib.suppress(HarnessError, KeyError, AttributeError, TypeError):
        hosts = read_json(directory / FLEET_FILE)["hosts"]
        missing = {str(name): entry["state"] for name, entry in hosts.items() if name not in have}
        return {name: f"{state}, its run is not here" for name, state in missing.items()}
    return {}


def _host_name(path: Path) -> str:
    name = RunDirectory.open(path).environment.get("host", {}).get("name")
    if not name:
        raise InputError.single(
            f"{path}/environment.json", "does not tell the host's name", "restore the file"
        )
    return str(name)


def _host_run(path: Path) -> HostRun:
    run = RunDirectory.open(path)
    experiment = load_experiment(run.experiment, f"{path}/experiment.yml")
    return HostRun(path, run.present, experiment, run.environment)


def _alike(runs: Mapping[str, HostRun], judgement: Judgement) -> list[str]:
    """Refuse runs that measure different things; return what was accepted, and what harms nothing.

    Raises:
        InputError: with every difference.
    """
    (first_name, first), *others = runs.items()
    hard: list[Problem] = []
    soft: list[Problem] = []
    for name, run in others:
        where = f"{name} against {first_name}"
        if _matrix(run.experiment) != _matrix(first.experiment):
            remedy = "compare runs of one experiment"
            hard.append(Problem(where, "the runs have different variants or cells", remedy))
            continue
        differing = dict(_differences(first, run))
        remedy = "measure the same on every host, or --accept-differences"
        soft += [Problem(where, f"{what} differs: {values}", remedy) for what, values in differing.items()]
    if hard or (soft and not judgement.accept_differences):
        raise InputError([*hard, *soft])
    accepted = [f"accepted: {problem.where}: {problem.message}" for problem in soft]
    versions = sorted({run.record.harness_version for run in runs.values()})
    told = f"the hosts ran different versions of the harness: {', '.join(versions)}"
    return [*accepted, *([told] if len(versions) > 1 else [])]


def _matrix(experiment: Experiment) -> tuple[object, ...]:
    return experiment.baseline, tuple(experiment.variants), experiment.cells(), experiment.varied_factors()


def _differences(first: HostRun, other: HostRun) -> Iterator[tuple[str, str]]:
    """Yield what must be the same on all hosts and is not: all but the hosts themselves."""
    for name in Experiment.model_fields:
        # The seed orders the sessions; each host may have its own.
        here, there = (_unseeded(name, getattr(run.experiment, name)) for run in (first, other))
        if here != there:
            yield f"the experiment's {name}", f"{here}, {there}"
    for variant in first.experiment.variants:
        here, there = (run.record.builds[variant] for run in (first, other))
        if here["sha256"] != there["sha256"]:
            yield (
                f"the build {variant}",
                f"{here['sha256'][:12]} ({here['version']}), {there['sha256'][:12]} ({there['version']})",
            )
    if first.record.accel != other.record.accel:
        yield "the accelerator", f"{first.record.accel}, {other.record.accel}"
    for key in ("sha256", "kernel_version", "fio_version"):
        here, there = (run.record.guest_image.get(key) for run in (first, other))
        if here != there:
            yield f"the guest image's {key}", f"{here}, {there}"


def _unseeded(name: str, value: Any) -> Any:
    return value.model_copy(update={"seed": 0}) if name == "protocol" else value


def _unfinished(runs: Mapping[str, HostRun]) -> list[str]:
    return [
        f"{name}: its run is {run.record.state}: what it measured so far counts"
        for name, run in runs.items()
        if run.record.state is not RunState.FINISHED
    ]


def _facts(run: HostRun) -> dict[str, Any]:
    place = place_of(run.environment, run.record.accel)
    microcode = run.environment.get("host", {}).get("cpu", {}).get("microcode")
    return {**place, "microcode": microcode, "run_id": run.record.run_id, "run_dir": str(run.path)}
