"""What the doctor finds, and its judgement of settings."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from harness.core.quiet.settings import chosen, told

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.core.quiet.settings import Setting


class Health(StrEnum):
    """What a finding means for a run."""

    OK = "ok"
    NOTE = "note"
    BROKEN = "broken"
    RECORDED = "recorded"
    """Nothing to judge: it has to be known, and every session records it."""
    UNREAD = "unread"
    """It could not be looked at, so nothing is said of it."""


class Section(StrEnum):
    """What a finding answers."""

    ABLE = "can this host measure"
    QUIET = "is it quiet"
    FITS = "does the experiment fit it"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at.

    Attributes:
        what: what was looked at.
        found: what it is.
        remedy: what to do about it, the command where there is one; None where nothing is to be done.
        should: what it should be; empty where it is, or where nothing is to be said.
        why: what it does to a measurement.
        section: the question it answers.
        tuning: what an experiment writes under ``tuning`` to have a run do it.
    """

    what: str
    health: Health
    found: str
    remedy: str | None = None
    should: str = ""
    why: str = ""
    section: Section = Section.ABLE
    tuning: str | None = None


def quiet_finding(
    what: str, health: Health, found: str, remedy: str | None = None, *, should: str = "", why: str = ""
) -> Finding:
    """Return a finding about the host's noise."""
    return Finding(what, health, found, remedy, should, why, Section.QUIET)


def judge(setting: Setting, values: Mapping[str, str | None]) -> Finding:
    """Judge one setting.

    Args:
        setting: of the table.
        values: place -> value; empty when this host does not have it, None where it may not be read.
    """
    known = {label: chosen(value) for label, value in values.items() if value is not None}
    tuning = setting.tuning.value if setting.tuning else None
    if not known:
        why = "it may not be read" if values else "it is not there"
        return quiet_finding(
            setting.name, Health.UNREAD, f"not readable here: {setting.path} ({why})", why=setting.why
        )
    found = told(known) or ""
    if not setting.quiet:
        return Finding(
            setting.name, Health.RECORDED, found, why=setting.why, section=Section.QUIET, tuning=tuning
        )
    if all(setting.is_quiet(value) for value in known.values()):
        return quiet_finding(setting.name, Health.OK, found, why=setting.why)
    return Finding(
        setting.name,
        Health.NOTE,
        found,
        setting.fix,
        should=" or ".join(setting.quiet),
        why=setting.why,
        section=Section.QUIET,
        tuning=tuning,
    )
