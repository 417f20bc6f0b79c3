"""What earlier runs on this host cost and how much they differed, for the expectation of the next one."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING

from harness.adapters.files import read_json, write_json
from harness.core.budget import Noise
from harness.core.errors import InputError
from harness.core.model import Accel
from harness.core.planning import (
    DISK_IMAGE_KVM_COSTS,
    DISK_IMAGE_TCG_COSTS,
    KVM_COSTS,
    TCG_COSTS,
    Costs,
)
from harness.core.records import IterationState

if TYPE_CHECKING:
    from pathlib import Path

    from harness.adapters.results.store import RunDirectory

_GUESSED_NOISE = {Accel.KVM: Noise(session=0.01, sample=0.006), Accel.TCG: Noise(session=0.15, sample=0.05)}
_SHUTDOWN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Experience:
    """What to reckon with on this host.

    Attributes:
        measured: whether a run here said so; otherwise it is a guess.
    """

    costs: Costs
    noise: Noise
    measured: bool


def recall(path: Path, accel: Accel, *, disk_image: bool = False) -> Experience:
    """Return what an earlier run under an accelerator, of the same kind of guest, measured, or a guess."""
    try:
        entry = read_json(path)[_key(accel, disk_image=disk_image)]
        return Experience(Costs(**entry["costs"]), Noise(**entry["noise"]), measured=True)
    except (InputError, KeyError, TypeError):
        kvm, tcg = (DISK_IMAGE_KVM_COSTS, DISK_IMAGE_TCG_COSTS) if disk_image else (KVM_COSTS, TCG_COSTS)
        guess = kvm if accel is Accel.KVM else tcg
        return Experience(guess, _GUESSED_NOISE[accel], measured=False)


def _key(accel: Accel, *, disk_image: bool) -> str:
    return f"{accel.value}-disk" if disk_image else accel.value


def remember(path: Path, accel: Accel, experience: Experience, *, disk_image: bool = False) -> None:
    """Keep what a run measured, under its accelerator and kind of guest."""
    try:
        known = dict(read_json(path))
    except (InputError, TypeError, ValueError):
        known = {}
    known[_key(accel, disk_image=disk_image)] = {
        "costs": asdict(experience.costs),
        "noise": asdict(experience.noise),
    }
    write_json(path, known, private=True)


def costs_of(run: RunDirectory) -> Costs | None:
    """Return what a run's sessions and iterations cost beside fio; None when it has too few."""
    plan = run.plan
    boots: list[float] = []
    iterations: list[float] = []
    for planned in plan.sessions:
        record = run.load_session(planned)
        boots += [boot.ready_seconds for boot in record.boots if boot.ready_seconds is not None]
        iterations += [
            entry.seconds - plan.runtime - plan.ramp
            for entry in record.iterations
            if entry.state is IterationState.OK
        ]
    if not boots or not iterations:
        return None
    return Costs(session=median(boots) + _SHUTDOWN_SECONDS, iteration=max(0.0, median(iterations)))
