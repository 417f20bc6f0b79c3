"""What a night measures, and which nights are kept."""

from __future__ import annotations

import re
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.core.documents import document_of
from harness.core.errors import InputError
from harness.core.experiment.yaml_text import write_yaml
from harness.core.model import Workload

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta
    from pathlib import PurePath

    from harness.core.experiment import Experiment

LAST_NIGHT = "LAST"
"""The variant that is the commit of the night before."""

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_WORST_FIRST = (130, 2, 1, 3, 4)
"""Exit codes by how much they matter to whoever reads a night's: see the contracts."""


@dataclass(frozen=True, slots=True)
class Followed:
    """The branch that is measured night after night.

    Attributes:
        variant: the build's name in the experiment.
        repository: URL or path.
        ref: the branch, or what else moves.
    """

    variant: str
    repository: str
    ref: str


@dataclass(frozen=True, slots=True)
class Night:
    """One night's directory.

    Attributes:
        name: of the directory.
        began: when.
        size_bytes: what it takes on disk.
    """

    name: str
    began: datetime
    size_bytes: int


def is_commit(ref: str) -> bool:
    """Tell whether a ref is a commit's whole hash."""
    return _COMMIT.fullmatch(ref) is not None


def followed(experiment: Experiment, variant: str, source: str) -> Followed:
    """Return what a build of an experiment follows.

    Args:
        experiment: the user's.
        variant: the build's name.
        source: the experiment's file, for messages.

    Raises:
        InputError: there is no such build, its source does not move, or nights have nothing to file.
    """
    if experiment.workload is Workload.POOL_GROWTH:
        raise InputError.single(
            f"{source}: workload",
            "pool-growth is judged by its rounds: there is no number to follow from night to night",
            "have your timer call: harness run FILE, and harness export RUN_DIR --format junit",
        )
    build = document_of(experiment)["builds"].get(variant)
    where = f"{source}: builds.{variant}"
    if build is None:
        names = ", ".join(experiment.variants)
        raise InputError.single(where, "is not there", f"--follow one of {names}")
    if "git" not in build:
        raise InputError.single(
            where,
            "does not come from git, so that there is nothing to follow",
            "write {git: URL, ref: BRANCH}",
        )
    ref = str(build.get("ref") or "HEAD")
    if is_commit(ref):
        raise InputError.single(f"{where}.ref", "is a commit, which does not move", "name a branch")
    if variant == experiment.baseline:
        raise InputError.single(where, "is the baseline, which has to stay", "--follow another build")
    if LAST_NIGHT in experiment.builds:
        raise InputError.single(
            f"{source}: builds.{LAST_NIGHT}", "is the name of last night's build", "call it otherwise"
        )
    return Followed(variant, str(build["git"]), ref)


def experiment_of_tonight(
    experiment: Experiment, follow: Followed, *, directory: PurePath, commit: str, last: str | None
) -> str:
    """Return, as YAML, the experiment with the branch at a commit, beside the commit of the night before.

    Args:
        experiment: the user's.
        follow: the build that moves.
        directory: where the experiment's file is: what it names relative to that, the night's names whole.
        commit: where its branch stands tonight.
        last: what the night before measured; None where there was none, or it is the same commit.
    """
    document = document_of(experiment, directory)
    build = document["builds"][follow.variant]
    build["ref"] = commit
    if last is not None and last != commit:
        document["builds"][LAST_NIGHT] = {**deepcopy(build), "ref": last}
    return write_yaml(document)


def expired(
    nights: Sequence[Night], *, now: datetime, keep: timedelta | None, keep_bytes: int | None
) -> list[Night]:
    """Return the nights to remove: those too old, then the oldest until the rest fits.

    Args:
        nights: all there are, in any order.
        now: the time.
        keep: how old a night may become; None for ever.
        keep_bytes: what all of them may take together; None for no limit.

    Returns:
        Oldest first. The newest night is never among them.
    """
    oldest_first = sorted(nights, key=lambda night: (night.began, night.name))
    total = sum(night.size_bytes for night in oldest_first)
    out = []
    for night in oldest_first[:-1]:
        too_old = keep is not None and now - night.began > keep
        if not too_old and (keep_bytes is None or total <= keep_bytes):
            break
        out.append(night)
        total -= night.size_bytes
    return out


def worst(codes: Sequence[int]) -> int:
    """Return the exit code that says most about a night: a failure before ``slower`` before ``unclear``."""
    found = [code for code in codes if code]
    return next((code for code in _WORST_FIRST if code in found), found[0] if found else 0)
