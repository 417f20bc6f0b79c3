"""The cache of builds: what a build was made of, how two differ, which of them may go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.core.model import SourceRecord  # noqa: TC001 - pydantic reads these annotations

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PART_NAMES = {
    "source": "source",
    "patches": "patches",
    "configure": "arguments of configure",
    "targets": "targets",
    "compiler": "compiler",
    "tools": "tools of configure",
    "recipe": "recipe of the role qemu_source",
}
"""What the hash of a build from source is over, as messages call it."""


@dataclass(frozen=True, slots=True)
class CachedBuild:
    """A directory of the cache.

    Attributes:
        name: of the directory.
        kind: ``package``, ``git`` or ``tarball``; None of what never became a build.
        version: QEMU's own version line; None until it was started once.
        package_version: the distribution's version, of a package.
        source: what it was built from; None of a package.
        key: the hash over everything that went into it; of a package, what its name ends with.
        parts: what the hash is over: by name, of a package its packages and their versions.
        complete: whether it is whole.
        size_bytes: what it takes on disk.
        used: when it was provisioned last, in seconds since the epoch.
    """

    name: str
    kind: str | None
    version: str | None
    package_version: str | None
    source: SourceRecord | None
    key: str
    parts: dict[str, Any]
    complete: bool
    size_bytes: int
    used: float


@dataclass(frozen=True, slots=True)
class Difference:
    """A part in which a wanted build differs from a cached one.

    Attributes:
        part: which, in words.
        wanted: what it is in the wanted build.
        cached: what it is in the cached one.
    """

    part: str
    wanted: str
    cached: str


def differences(wanted: Mapping[str, Any], cached: Mapping[str, Any]) -> list[Difference]:
    """Return in which parts of the hash two builds from source differ; of lists, only what differs."""
    found = []
    for part, words in PART_NAMES.items():
        ours, theirs = wanted.get(part), cached.get(part)
        if ours == theirs:
            continue
        if isinstance(ours, list) and isinstance(theirs, list):
            mine = [item for item in ours if item not in theirs]
            others = [item for item in theirs if item not in ours]
            # The same ones in another order.
            ours, theirs = (mine, others) if mine or others else (ours, theirs)
        found.append(Difference(words, _text(ours), _text(theirs)))
    return found


def nearest(
    wanted: Mapping[str, Any], cached: Sequence[CachedBuild]
) -> tuple[CachedBuild, list[Difference]] | None:
    """Return the build from source that differs in the fewest parts, the last used of several."""
    candidates = [
        (build, differences(wanted, build.parts)) for build in cached if build.complete and build.source
    ]
    if not candidates:
        return None
    return min(candidates, key=lambda candidate: (len(candidate[1]), -candidate[0].used))


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a directory of the cache.

    Attributes:
        removed: whether it may go.
        why: the reason.
    """

    build: CachedBuild
    removed: bool
    why: str


def prune_plan(
    builds: Sequence[CachedBuild],
    protected: Mapping[str, str],
    *,
    keep: int | None,
    older_than_seconds: float | None,
    now: float,
) -> list[Verdict]:
    """Return what becomes of each directory; the last used come first.

    Args:
        builds: everything in the cache.
        protected: by the directory's name, why it must stay.
        keep: how many of the complete ones to keep beside the protected; None sets no number.
        older_than_seconds: complete ones that were used since stay; None sets no age.
        now: seconds since the epoch.
    """
    found, kept = [], 0
    for build in sorted(builds, key=lambda one: (-one.used, one.name)):
        days = max(0.0, now - build.used) / 86400
        if why := protected.get(build.name):
            found.append(Verdict(build, removed=False, why=why))
        elif not build.complete:
            found.append(Verdict(build, removed=True, why="left behind by a build that did not end"))
        elif keep is None and older_than_seconds is None:
            found.append(Verdict(build, removed=False, why="complete; --keep or --older-than removes such"))
        elif keep is not None and kept < keep:
            kept += 1
            found.append(Verdict(build, removed=False, why=f"one of the {keep} used last"))
        elif older_than_seconds is not None and now - build.used < older_than_seconds:
            found.append(Verdict(build, removed=False, why=f"used {days:.1f} days ago"))
        else:
            found.append(Verdict(build, removed=True, why=f"used {days:.1f} days ago"))
    return found
