"""What stands behind a run's report: builds, what variants differ in, host and guest, how to repeat it."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from harness.adapters.guestless.store import CountDirectory
from harness.adapters.results.run_layout import holds_counts
from harness.adapters.results.store import RunDirectory
from harness.core.experiment import load_experiment
from harness.report.background import Background, Difference
from harness.shell.provenance import guest_lines, host_lines, names_text, qemu_lines
from harness.shell.summary import summarise

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_UNKNOWN = "does not know it"
_DEVICES = "qemu.devices."


def background(path: Path) -> Background:
    """Return what stands behind a run, of whatever workload.

    Raises:
        InputError: a file of it is damaged.
    """
    run = CountDirectory.open(path) if holds_counts(path) else RunDirectory.open(path)
    head = run.present
    experiment = load_experiment(run.experiment, f"{path}/experiment.yml")
    environment = run.environment
    details = {"Host": [*host_lines(environment, full=True)]}
    differences: list[Difference] = []
    disagreements: list[str] = []
    if isinstance(run, RunDirectory):
        summary = summarise(run)
        every: list[dict[str, Any]] = [session["facts"] for session in summary["sessions"]]
        facts = next((known for known in every if known), {})
        details["QEMU's own view, and the guest"] = [
            *qemu_lines(facts),
            *guest_lines(facts, run.record.guest_image),
        ]
        differences = difference_rows(summary["agreement"]["differences"], experiment.variants)
        disagreements = summary["agreement"]["disagreements"]
    return Background(
        run_id=head.run_id,
        created=_moment(head.created),
        variants=experiment.variants,
        builds={name: _build(head.builds[name]) for name in experiment.variants},
        experiment=run.experiment,
        differences=differences,
        disagreements=disagreements,
        details={name: textwrap.dedent("\n".join(lines)).splitlines() for name, lines in details.items()},
        commands=_commands(experiment.protocol.seed, getattr(head, "accel", None)),
    )


def _moment(created: str) -> str:
    return f"{created[:16].replace('T', ' ')} UTC"


def _build(build: Mapping[str, Any]) -> dict[str, str]:
    names = ("version", "package_version", "kind", "binary", "sha256")
    return {name.replace("_", " "): str(build[name]) for name in names if build.get(name) is not None}


def _commands(seed: int, accel: str | None) -> str:
    under = f", as here under {accel.upper()}" if accel else ""
    return (
        f"harness run experiment.yml --run-dir again   # seed {seed}: the same order{under}\n"
        "harness compare again                        # the table in the terminal\n"
        "harness report again -o again.html           # this page"
    )


def difference_rows(found: Sequence[Mapping[str, Any]], variants: Sequence[str]) -> list[Difference]:
    """Return a row a fact; what only some variants' devices know, a row a device."""
    rows: list[Difference] = []
    only: dict[tuple[str, str, frozenset[str]], list[str]] = {}
    for entry in found:
        what, values = entry["what"], entry["values"]
        known = frozenset(name for name, value in values.items() if value is not None)
        if what.startswith(_DEVICES) and len(known) < len(variants):
            device, _dot, name = what.removeprefix(_DEVICES).rpartition(".")
            only.setdefault((device, entry["why"], known), []).append(name)
        else:
            rows.append(
                Difference(what, {name: _value(value) for name, value in values.items()}, entry["why"])
            )
    for (device, why, known), names in only.items():
        text = ", ".join(sorted(names))
        values = {name: text if name in known else "does not know them" for name in variants}
        rows.append(
            Difference(
                f"{_DEVICES}{device}: {len(names)} propert{'y' if len(names) == 1 else 'ies'}", values, why
            )
        )
    return rows


def _value(value: Any) -> str:
    return _UNKNOWN if value is None else names_text(value)
