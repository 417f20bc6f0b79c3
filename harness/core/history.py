"""What the history keeps of a run, and what makes two runs comparable."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.core.model import TABLE_FACTORS, Workload

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from harness.core.experiment import Experiment

HISTORY_FORMAT = 1
"""The store's format; readers accept this one and refuse newer ones."""

_HASH_DIGITS = 16
_MEASURED = ("runtime", "ramp")
_COUNTED = ("load", "ring", "indirect", "disks")
_COMMITS = ("commit", "git_commit", "revision")
"""Where a build's record may say which commit it was made from."""


@dataclass(frozen=True, slots=True)
class FiledBuild:
    """A variant's build.

    Attributes:
        package_version: the distribution's version, if it came from a package.
        commit: the commit it was made from, if its record says so.
    """

    variant: str
    sha256: str
    version: str
    package_version: str | None = None
    commit: str | None = None

    @property
    def label(self) -> str:
        """The build in a few words: version, commit and the beginning of its hash."""
        what = self.package_version or self.version.removeprefix("QEMU emulator version ")
        commit = f", commit {self.commit[:12]}" if self.commit else ""
        return f"{what}{commit} [{self.sha256[:12]}]"


@dataclass(frozen=True, slots=True)
class FiledNumber:
    """What one variant gave for one metric of one cell.

    Attributes:
        cell: its label (``randread-4k-8``).
        metric: its name in `METRICS`.
        value: the median of the sessions, in the metric's unit; for instructions, of a request.
        sessions: how many there were; for instructions, repeats of the count.
        spread: the sessions' robust standard deviation as a fraction of the value (1.4826 MAD of the
            logarithms); for instructions, the resolution. None where there is one session.
        change: against the run's baseline as `harness compare` has it, a fraction; None of the baseline.
        ci_low: its interval; None where there is none.
        ci_high: likewise.
        verdict: likewise.
    """

    cell: str
    variant: str
    metric: str
    value: float
    sessions: int
    spread: float | None = None
    change: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    verdict: str | None = None


@dataclass(frozen=True, slots=True)
class FiledRun:
    """One run as the history keeps it. Host and run id name it.

    Attributes:
        content: SHA-256 over what the run recorded.
        path: its run directory or bundle, where it was when it was filed.
        host_id: a hash that tells hosts apart; the name may change, or be another's too.
        comparable: a hash over what numbers depend on beside the builds; see `comparability`.
        accel: ``kvm``, ``tcg``, or ``none`` where no guest was booted.
        started: when the run began, UTC.
        margin: a change smaller than this does not matter, a fraction.
        conditions: what else may change numbers from one run to the next: kernel, guest image ...
    """

    run_id: str
    content: str
    path: str
    host_id: str
    host_name: str
    experiment: str
    comparable: str
    workload: str
    accel: str
    started: datetime
    baseline: str
    margin: float
    harness_version: str
    conditions: Mapping[str, str] = field(default_factory=dict)
    builds: Sequence[FiledBuild] = ()
    numbers: Sequence[FiledNumber] = ()

    def build(self, variant: str) -> FiledBuild | None:
        """Return a variant's build; None when the run had no such variant."""
        return next((build for build in self.builds if build.variant == variant), None)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which runs are asked for; None does not restrict.

    Attributes:
        host: a host's name, or the beginning of its id.
        experiment: an experiment's name, or the beginning of the hash of what makes runs comparable.
        since: the earliest start, UTC.
        build: the beginning of a build's SHA-256 or commit, or a part of its version.
        limit: the most runs, the newest.
    """

    host: str | None = None
    experiment: str | None = None
    since: datetime | None = None
    build: str | None = None
    limit: int | None = None


def filed_build(variant: str, record: Mapping[str, Any]) -> FiledBuild:
    """Return what the history keeps of a build's record, which may be of any kind and version."""
    package = record.get("package_version")
    return FiledBuild(
        variant=variant,
        sha256=str(record.get("sha256", "")),
        version=str(record.get("version", "")),
        package_version=None if package is None else str(package),
        commit=_commit(record),
    )


def _commit(record: Mapping[str, Any]) -> str | None:
    for name in _COMMITS:
        if isinstance(found := record.get(name), str):
            return found
    nested = [value for value in record.values() if isinstance(value, dict)]
    return next((found for value in nested if (found := _commit(value))), None)


def host_identity(host: Mapping[str, Any]) -> str:
    """Return what tells a host from all others: from its machine id; of older records, from name and CPU."""
    if machine := host.get("machine_id_hash"):
        return str(machine)[:_HASH_DIGITS]
    cpu = host.get("cpu") or {}
    return _hash([host.get("name"), cpu.get("model"), cpu.get("count")])


def comparability(experiment: Experiment) -> str:
    """Return a hash over what numbers depend on: workload, guest, disk, placement, measured time.

    Not in it: names and builds; which patterns, block sizes and depths there are, for each cell is followed
    by itself; blocks and iterations, which make a number more exact and not another.
    """
    # Without what has its default, so that a key that a later version adds does not end every series.
    document = experiment.model_dump(mode="json", exclude_defaults=True)
    for section in ("guest", "disk", "placement", "matrix", "protocol", "instructions"):
        document.setdefault(section, {})
    relevant: dict[str, Any] = {
        "workload": experiment.workload.value,
        "libvirt": experiment.libvirt,
        "guest": document["guest"],
        "disk": {name: value for name, value in document["disk"].items() if name != "destroy_data"},
        "placement": document["placement"],
        "matrix": {name: value for name, value in document["matrix"].items() if name not in TABLE_FACTORS},
    }
    if experiment.workload is Workload.INSTRUCTIONS:
        relevant["instructions"] = _only(document["instructions"], _COUNTED)
    else:
        relevant["protocol"] = _only(document["protocol"], _MEASURED)
    return _hash(relevant)


def _only(section: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: section[name] for name in names if name in section}


def _hash(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH_DIGITS]
