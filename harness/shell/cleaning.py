"""What runs that were killed left behind is found and taken away: by `harness clean`, and by the next run."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.adapters import embedded, scratch
from harness.adapters.build_cache import BuildCache
from harness.adapters.files import remove_tree
from harness.adapters.host import tuning
from harness.adapters.host.locks import host_alone, host_holder
from harness.adapters.hypervisor import Hypervisor
from harness.adapters.lab import DOMAIN_PREFIX
from harness.adapters.left_files import is_closed, left_in_run, left_in_state, runs_in, writer_of
from harness.adapters.leftovers import emulators_left, playbooks_left
from harness.adapters.results.run_layout import holds_run
from harness.core.errors import BusyError, HarnessError, InputError, Problem
from harness.core.leftovers import Cleaned, Leftover, LeftoverFate, LeftoverKind
from harness.core.quiet.snapshot import Owner
from harness.shell.builds import prune
from harness.shell.quieting import told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from harness.adapters.workspace import Workspace

WHOSE = "left behind by a run that was killed"
EMBED = "qemu:///embed"


@dataclass(frozen=True, slots=True)
class Find:
    """One thing that is left, and what takes it away."""

    kind: LeftoverKind
    name: str
    remove: Callable[[], object]


@contextlib.contextmanager
def clean_hypervisor(uri: str, workspace: Workspace, say: Callable[[str], None]) -> Iterator[Hypervisor]:
    """Open libvirt for a run, with what dead runs left on this host taken away.

    Only who is alone on the host may.

    Args:
        uri: of the libvirt.
        workspace: of this host.
        say: told of what was still running.

    Raises:
        HarnessError: a guest cannot be ended, which would disturb the measurement.
    """
    with _opened(uri, workspace) as hypervisor:
        for find in (*_guests(hypervisor), *_emulators(workspace), *_playbooks()):
            say(f"ending {find.name}, {WHOSE}")
            find.remove()
        for find in _state_files(workspace):
            find.remove()
        scratch.sweep()
        yield hypervisor


@dataclass(frozen=True, slots=True)
class Cleaner:
    """What `harness clean` does.

    Attributes:
        runs: run directories to look into.
        libvirt: whose guests to look for.
        dry_run: list, and take nothing away.
    """

    workspace: Workspace
    runs: Sequence[Path]
    libvirt: str = EMBED
    dry_run: bool = False

    def clean(self) -> Cleaned:
        """Find what is left and dead, and take it away; what is alive is left alone, and named."""
        leftovers: list[Leftover] = []
        alive: list[str] = []
        try:
            leftovers += self._host()
        except BusyError as busy:
            alive.append(f"guests, settings and disks of the run that goes on: {busy.message}")
        leftovers += self._met(_scratch())
        leftovers += self._met(_playbooks())
        leftovers += self._builds()
        for run in self.runs:
            if is_closed(run):
                alive.append(f"{run}, which this user may not look into: clean it as its owner, or as root")
            elif writer := writer_of(run):
                alive.append(f"{run}, written by {writer}")
            else:
                leftovers += self._met(_files(left_in_run(run)))
        return Cleaned(tuple(leftovers), tuple(alive))

    def _host(self) -> list[Leftover]:
        """Meet what only who is alone on the host may touch.

        Raises:
            BusyError: a run goes on.
        """
        if self.dry_run:
            # Looking must not keep a run from starting.
            if holder := host_holder():
                raise BusyError(f"this host is in use by {holder}")
            return self._unguarded()
        with host_alone():
            return self._unguarded()

    def _unguarded(self) -> list[Leftover]:
        found = self._met(_settings(self.workspace.state))
        found += self._guests()
        found += self._met(_emulators(self.workspace))
        return found + self._met(_state_files(self.workspace))

    def _guests(self) -> list[Leftover]:
        embedded = self.libvirt == EMBED
        # The embedded driver tidies up as soon as it is opened: what it would find stands in its files.
        known = _known_to_libvirt(self.workspace) if embedded else []
        if embedded and (self.dry_run or not known):
            return [Leftover(LeftoverKind.GUEST, name, LeftoverFate.LISTED) for name in known]
        with _opened(self.libvirt, self.workspace) as hypervisor:
            found = self._met(_guests(hypervisor))
        # Of one whose QEMU had died, libvirt took notice itself.
        noticed = [name for name in known if name not in {one.name for one in found}]
        return found + [Leftover(LeftoverKind.GUEST, name, LeftoverFate.REMOVED) for name in noticed]

    def _builds(self) -> list[Leftover]:
        verdicts = prune(
            self.workspace, keep=None, older_than_seconds=None, named_too=False, dry_run=self.dry_run
        )
        directory = BuildCache(self.workspace.state).directory
        fate = LeftoverFate.LISTED if self.dry_run else LeftoverFate.REMOVED
        return [
            Leftover(LeftoverKind.BUILD, str(directory / verdict.build.name), fate)
            for verdict in verdicts
            if verdict.removed
        ]

    def _met(self, finds: Iterable[Find]) -> list[Leftover]:
        return [self._meet(find) for find in finds]

    def _meet(self, find: Find) -> Leftover:
        if self.dry_run:
            return Leftover(find.kind, find.name, LeftoverFate.LISTED)
        try:
            find.remove()
        except HarnessError as error:
            return Leftover(find.kind, find.name, LeftoverFate.FAILED, error.message)
        return Leftover(find.kind, find.name, LeftoverFate.REMOVED)


def runs_named(paths: Iterable[Path]) -> list[Path]:
    """Return the run directories that are named, and those in directories that are, each once.

    Raises:
        InputError: something else is named, in which nothing is this project's to remove; with each of them.
    """
    runs: list[Path] = []
    problems: list[Problem] = []
    for path in paths:
        found = [path] if is_closed(path) or holds_run(path) else runs_below(path)
        if not found and (wrong := _why_no_run(path)):
            problems.append(
                Problem(str(path), wrong, "name a run directory, the directory of several, or none at all")
            )
        runs += found
    if problems:
        raise InputError(problems)
    return list(dict.fromkeys(runs))


def _why_no_run(path: Path) -> str | None:
    """Return what is wrong with a path that neither is nor holds a run directory."""
    if not path.exists():
        return "does not exist"
    if not path.is_dir():
        return "is not a directory"
    # An empty one: a start may have been killed as soon as it had made it.
    return "is no run directory, and holds none" if any(path.iterdir()) else None


def runs_below(directory: Path) -> list[Path]:
    """Return the run directories in a directory of runs; none where there is no such directory."""
    return runs_in(directory) if directory.is_dir() else []


def _settings(state: Path) -> Iterator[Find]:
    if snapshot := tuning.waiting(state, Owner.RUN):
        put_back = functools.partial(tuning.put_back, state, Owner.RUN, only=snapshot.id)
        yield Find(LeftoverKind.SETTING, told(snapshot), put_back)


def _guests(hypervisor: Hypervisor) -> Iterator[Find]:
    for name in hypervisor.domains(DOMAIN_PREFIX):
        yield Find(LeftoverKind.GUEST, name, functools.partial(hypervisor.destroy, name))


def _known_to_libvirt(workspace: Workspace) -> list[str]:
    """Return the guests that the embedded libvirt would find when it is opened."""
    return [path.stem for path in embedded.statuses(workspace.embed_root, DOMAIN_PREFIX)]


@contextlib.contextmanager
def _opened(uri: str, workspace: Workspace) -> Iterator[Hypervisor]:
    """Open libvirt without the guests which have no QEMU yet: it would wait for it for ever.

    The daemons outlive the run that asked them for a guest, and start it.
    """
    if uri == EMBED:
        for status in embedded.starts_cut_off(workspace.embed_root, DOMAIN_PREFIX):
            status.unlink()
    with Hypervisor(uri, workspace.embed_root) as hypervisor:
        yield hypervisor


def _emulators(workspace: Workspace) -> Iterator[Find]:
    for process in emulators_left(workspace.embed_root, DOMAIN_PREFIX):
        yield Find(LeftoverKind.PROCESS, str(process), process.end)


def _playbooks() -> Iterator[Find]:
    for process in playbooks_left():
        yield Find(LeftoverKind.PROCESS, str(process), process.end)


def _scratch() -> Iterator[Find]:
    for directory in scratch.left():
        yield Find(LeftoverKind.DIRECTORY, str(directory), functools.partial(scratch.remove, directory))


def _state_files(workspace: Workspace) -> Iterator[Find]:
    directories, files = left_in_state(workspace, DOMAIN_PREFIX)
    for path in directories:
        yield Find(LeftoverKind.DIRECTORY, str(path), functools.partial(remove_tree, path))
    yield from _files(files)


def _files(paths: Iterable[Path]) -> Iterator[Find]:
    for path in paths:
        kind = LeftoverKind.DIRECTORY if path.is_dir() else LeftoverKind.FILE
        yield Find(kind, str(path), functools.partial(remove_tree, path))
