"""A run's host, kept quiet: what the experiment allows is changed and put back; changes are watched."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.adapters.host import tuning
from harness.adapters.host.locks import IMPATIENT, Patience, host_alone
from harness.adapters.host.settings import HostSettings
from harness.adapters.results.host_log import HostLog
from harness.adapters.results.store import RunDirectory
from harness.core.quiet.drift import Moment
from harness.core.quiet.snapshot import Owner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from harness.adapters.workspace import Workspace
    from harness.core.experiment import Experiment
    from harness.core.planning import PlannedSession
    from harness.core.protocols import GuestSession, Lab
    from harness.core.quiet.snapshot import Snapshot


@contextlib.contextmanager
def host_for_run(
    workspace: Workspace,
    experiment: Experiment,
    mappings: int | None,
    say: Callable[[str], None],
    patience: Patience = IMPATIENT,
) -> Iterator[None]:
    """Be alone on this host, with its settings as a run wants them; put back what a killed run left.

    Args:
        workspace: of this host.
        experiment: says what may be changed.
        mappings: what vm.max_map_count is to be meanwhile; None leaves it.
        say: told what was put back, and what this host does not have.
        patience: how long to wait while somebody else measures.

    Raises:
        BusyError: somebody else measures here; names the process.
        InputError: a setting may not be changed here; nothing was touched.
    """
    with host_alone(patience):
        workspace.secure()
        for sentence in left_behind(workspace.state, say):
            say(sentence)
        check_tuning(experiment, "the experiment", mappings)
        wanted = tuning.plan(experiment.tuning, mappings=mappings)
        if wanted.absent:
            say(f"this host has no {', '.join(wanted.absent)}: nothing to tune there")
        with tuning.tuned(wanted, workspace.state, say=say):
            yield


def left_behind(state: Path, say: Callable[[str], None]) -> list[str]:
    """Put back what a run that was killed left changed; return in words what was done.

    Args:
        state: the state directory.
        say: told that a snapshot is waiting, before anything of it is put back.
    """
    snapshot = tuning.waiting(state, Owner.RUN)
    if snapshot is not None:
        say(f"a snapshot is waiting, of a run that was killed: {told(snapshot)}")
    held = tuning.waiting(state, Owner.HAND)
    done = tuning.sentences(tuning.put_back(state, Owner.RUN))
    if held is not None:
        done.append(f"settings are held by hand: {told(held)}; `harness tune --restore` puts them back")
    return done


def told(snapshot: Snapshot) -> str:
    """Return a snapshot in words: when it was made, and what it holds."""
    names = ", ".join(dict.fromkeys(change.setting for change in snapshot.changes))
    return f"{names} (since {snapshot.made})"


def check_tuning(experiment: Experiment, source: str, mappings: int | None = None) -> None:
    """Refuse what this user may not change of this host, before anything is touched.

    Raises:
        InputError: with a problem for each setting.
    """
    asked = tuning.plan(experiment.tuning)
    tuning.check_allowed(asked, where=f"{source}: tuning", remedy="run as root, or leave it out of tuning")
    limit = tuning.plan((), mappings=mappings)
    tuning.check_allowed(limit, where="--max-map-count", remedy="run as root, or leave --max-map-count out")


@dataclass(frozen=True, slots=True)
class WatchedLab:
    """A lab, with the host's settings read before each boot and after each guest's end."""

    lab: Lab
    log: HostLog

    @contextlib.contextmanager
    def session(self, planned: PlannedSession, directory: Path, *, boot: int = 0) -> Iterator[GuestSession]:
        """Boot the session's guest; see `Lab`."""
        self.log.look(Moment.BEFORE, planned.directory)
        try:
            with self.lab.session(planned, directory, boot=boot) as guest:
                yield guest
        finally:
            self.log.look(Moment.AFTER, planned.directory)


@contextlib.contextmanager
def watched(lab: Lab, directory: Path, workspace: Workspace) -> Iterator[WatchedLab]:
    """Watch the host's settings as long as the ``with`` block.

    Args:
        lab: where guests are booted.
        directory: the run directory, which keeps what changed.
        workspace: knows what the run changed itself.
    """
    snapshot = tuning.waiting(workspace.state, Owner.RUN)
    log = HostLog(directory, HostSettings())
    run = RunDirectory.open(directory)
    log.begin(snapshot.changes if snapshot else ())
    run.keep_host_log(log.seal)
    try:
        yield WatchedLab(lab, log)
    finally:
        log.look(Moment.ENDED)
        run.keep_host_log(log.seal)
