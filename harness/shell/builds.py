"""What ``harness builds`` does: the cache listed, a build explained, the cache pruned."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.adapters.build_cache import BuildCache
from harness.adapters.manifest import Manifest, read_manifest
from harness.adapters.paths import check_paths
from harness.adapters.provision import Lookup, look_for_builds
from harness.core.builds import CachedBuild, Difference, Verdict, nearest, prune_plan
from harness.core.errors import InputError
from harness.core.experiment import SourceBuild
from harness.resources import resource_dir
from harness.shell.provisioning import file_for_playbooks

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.adapters.playbook_events import TaskEvent
    from harness.adapters.waiting import Stop
    from harness.adapters.workspace import Workspace
    from harness.shell.declare import Declared


@dataclass(frozen=True, slots=True)
class Explained:
    """One build of an experiment, and the cache.

    Attributes:
        variant: the build's name in the experiment.
        kind: how it is made.
        lookup: what a build from source is made of; None of other kinds.
        cached: the build in the cache; None where it is not there.
        near: the cached build from source that is most like it, where it is not there.
        differences: in what that differs.
    """

    variant: str
    kind: str
    lookup: Lookup | None
    cached: CachedBuild | None
    near: CachedBuild | None
    differences: list[Difference]


def find_build(cache: BuildCache, key: str) -> CachedBuild:
    """Return the cached build that a key, or its beginning, or a directory's name means.

    Raises:
        InputError: there is none, or there are several.
    """
    builds = cache.builds()
    found = [build for build in builds if build.name == key or (key and build.key.startswith(key))]
    if len(found) == 1:
        return found[0]
    what = f"{key!r} is neither an experiment file nor the key of a cached build"
    if found:
        what = (
            f"{key!r} is the beginning of {len(found)} keys: {', '.join(build.key[:16] for build in found)}"
        )
    raise InputError.single("KEY_OR_EXPERIMENT", what, "`harness builds list` shows the keys")


def explain_experiment(
    declared: Declared, workspace: Workspace, *, on_task: Callable[[TaskEvent], None], stop: Stop
) -> list[Explained]:
    """Say of each build of an experiment whether it is in the cache, and if not, what is different.

    Raises:
        InputError: a file that the experiment names is not there.
        ProvisionError: a ref or a compiler is not there.
    """
    check_paths(declared.experiment, declared.source, declared.directory)
    experiment, cache = declared.experiment, BuildCache(workspace.state)
    lookups: dict[str, Lookup] = {}
    if any(isinstance(build, SourceBuild) for build in experiment.builds.values()):
        lookups = look_for_builds(
            experiment_file=file_for_playbooks(declared, workspace),
            experiment_dir=declared.directory,
            state_dir=workspace.state,
            playbooks=resource_dir("playbooks"),
            inventory=resource_dir("inventory") / "local.yml",
            on_task=on_task,
            cancelled=stop.is_set,
        )
    builds, known = cache.builds(), _manifest(workspace.manifest(declared.provisioned_as))
    return [
        _explained(name, build.kind, lookups.get(name), builds, known)
        for name, build in experiment.builds.items()
    ]


def _manifest(path: Path) -> Manifest:
    try:
        return read_manifest(path)
    except InputError:
        return Manifest({}, None)


def _explained(
    variant: str, kind: str, lookup: Lookup | None, builds: list[CachedBuild], known: Manifest
) -> Explained:
    by_name = {build.name: build for build in builds if build.complete}
    if lookup is None:
        # Which version of a package that is only its provision can say: it asks the mirror.
        record = known.builds.get(variant)
        inside = Path(record.emulator).parts if record and record.kind == kind else ()
        cached = next((by_name[part] for part in inside if part in by_name), None)
        return Explained(variant, kind, None, cached, None, [])
    if lookup.complete:
        return Explained(variant, kind, lookup, by_name.get(Path(lookup.path).name), None, [])
    near = nearest(lookup.parts, builds) if lookup.key else None
    return Explained(variant, kind, lookup, None, *(near or (None, [])))


def prune(
    workspace: Workspace,
    *,
    keep: int | None,
    older_than_seconds: float | None,
    named_too: bool,
    dry_run: bool,
) -> list[Verdict]:
    """Remove from the cache what may go; return what became of each directory.

    Args:
        workspace: of this host.
        keep: how many complete builds to keep beside those in use.
        older_than_seconds: only complete builds that were not used for so long.
        named_too: also those that an experiment's manifest names.
        dry_run: remove nothing.

    Raises:
        HarnessError: something cannot be removed.
    """
    cache = BuildCache(workspace.state)
    verdicts = prune_plan(
        cache.builds(),
        cache.protected(named_too=named_too),
        keep=keep,
        older_than_seconds=older_than_seconds,
        now=time.time(),
    )
    if not dry_run:
        for verdict in verdicts:
            if verdict.removed:
                cache.remove(verdict.build.name)
        for log in cache.logs_of_failures():
            log.unlink(missing_ok=True)
    return verdicts


def as_record(build: CachedBuild) -> dict[str, object]:
    """Return a cached build as JSON has it."""
    return asdict(build)
