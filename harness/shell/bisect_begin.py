"""From what the user asks to the directory of a search; every input error at once."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from harness import __version__
from harness.adapters.bisect_repository import BisectRepository, location_of
from harness.adapters.bisect_store import BisectDirectory
from harness.analysis.metrics import find_metric
from harness.core.bisect_experiments import build_to_vary
from harness.core.bisecting import FORMAT_VERSION, Search
from harness.core.errors import InputError
from harness.core.experiment import load_experiment
from harness.core.experiment.source_values import is_remote_repository
from harness.core.redaction import redacted
from harness.shell.bisect_bench import BisectBench
from harness.shell.declare import declare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from harness.adapters.waiting import Stop
    from harness.adapters.workspace import Workspace
    from harness.core.bisecting import Asked
    from harness.core.errors import Problem
    from harness.core.experiment import Experiment
    from harness.shell.declare import Declared

_HASH_DIGITS = 6


@contextmanager
def _gathered(problems: list[Problem]) -> Iterator[None]:
    """Take the problems of what is wrong, and go on to find others."""
    try:
        yield
    except InputError as error:
        problems += error.problems


def begin(
    directory: Path, source: Path, asked: Asked, *, git: str | None, build: str | None
) -> BisectDirectory:
    """Make the directory of a search.

    Args:
        directory: the new one.
        source: the user's experiment.
        asked: what is searched for, the commits by the names the user gave.
        git: the repository that the user named; None: the one of the experiment.
        build: the build that varies, as the user named it.

    Raises:
        InputError: with everything that is wrong; nothing is left behind.
    """
    store = BisectDirectory.create(directory)
    try:
        _begin(store, source, asked, git=git, build=build)
    except BaseException:
        store.remove()
        raise
    return store


def _begin(store: BisectDirectory, source: Path, asked: Asked, *, git: str | None, build: str | None) -> None:
    problems: list[Problem] = []
    declared: Declared | None = None
    varied: dict[str, Any] = {"git": git} if git else {}
    with _gathered(problems):
        # It is what runs are judged by, after hours of builds and guests.
        find_metric(asked.metric)
    with _gathered(problems):
        declared = declare(source)
    if declared is not None:
        with _gathered(problems):
            varied = build_to_vary(declared.experiment, declared.source, git=git, name=build)
        with _gathered(problems):
            check_cell(declared.experiment, asked.cell)
    location, repository = str(varied.get("git", "")), BisectRepository(store.repository)
    if location:
        with _gathered(problems):
            location = location_of(location)
            repository = BisectRepository.make(store.repository, location)
            asked = repository.resolved(asked, location)
    if problems or declared is None:
        raise InputError(problems)
    # A URL may hold a password: builds take the clone.
    where = str(store.repository.absolute()) if is_remote_repository(location) else location
    search = Search(
        format_version=FORMAT_VERSION,
        name=declared.experiment.name,
        asked=replace(asked, git=where, location=redacted(location)),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        harness_version=__version__,
        commits=repository.between(asked),
        build={**varied, "git": where},
    )
    # Later, from elsewhere, it is its directory that counts: patches are named relative to it.
    store.begin(search, declared.text, declared.directory / source.name)


def check_cell(experiment: Experiment, label: str | None) -> None:
    """Refuse the label of a cell that the experiment does not have.

    Raises:
        InputError: it has no such cell.
    """
    labels: Sequence[str] = [cell.label for cell in experiment.cells()]
    if label is not None and label not in labels:
        raise InputError.single("--cell", f"{label} is no cell of it", f"one of {', '.join(labels)}")


def bench_of(
    store: BisectDirectory, workspace: Workspace, stop: Stop, say: Callable[[str], None], **told: object
) -> BisectBench:
    """Return what builds and measures the commits of a search."""
    text, source = store.experiment
    mark = hashlib.sha256(str(store.path.absolute()).encode()).hexdigest()[:_HASH_DIGITS]
    return BisectBench(
        experiment=load_experiment(text, str(source)),
        source=source,
        build=store.search.build,
        mark=mark,
        store=store,
        workspace=workspace,
        stop=stop,
        say=say,
        **told,  # type: ignore[arg-type]
    )
