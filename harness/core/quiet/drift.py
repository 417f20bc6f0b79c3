"""Settings that changed during a run: found in what was read before and after each session."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping  # noqa: TC003 - pydantic reads these annotations
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

from harness.core.quiet.settings import chosen, spans

if TYPE_CHECKING:
    from collections.abc import Iterable

Values: TypeAlias = "Mapping[str, Mapping[str, str | None]]"
"""A setting's name -> place (``cpu0``; empty where there is one only) -> its value."""

_SHOWN = 8


class Moment(StrEnum):
    """When the settings were read; never while fio measures."""

    BEGAN = "began"
    BEFORE = "before"
    AFTER = "after"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Look:
    """One reading that is kept.

    Attributes:
        at: when, ISO 8601 in UTC.
        moment: when, within the run.
        session: the session's directory; empty at the run's begin and end.
        values: all settings at the run's begin; later only what changed since the look before.
    """

    at: str
    moment: Moment
    session: str
    values: Values


def changed(before: Values, after: Values) -> dict[str, dict[str, str | None]]:
    """Return of the second reading what is not as in the first."""
    found: dict[str, dict[str, str | None]] = {}
    for name in {**before, **after}:
        old, new = before.get(name, {}), after.get(name, {})
        own = {place: new.get(place) for place in {**old, **new} if old.get(place) != new.get(place)}
        if own:
            found[name] = own
    return found


def drift_sentences(looks: Iterable[Look]) -> list[str]:
    """Return a sentence for each change of a setting, in the order in which they were seen.

    ``governor of cpu0-3 changed from performance to powersave during session 012-OLD``
    """
    found: list[str] = []
    now: dict[str, dict[str, str | None]] = {}
    last = ""
    for look in looks:
        if now:
            # A run that goes on begins with a whole reading: what it lacks is what is no more.
            news = changed(now, look.values) if look.moment is Moment.BEGAN else look.values
            found += _told(now, news, _when(look, last))
        for name, places in look.values.items():
            now.setdefault(name, {}).update(places)
        last = look.session or last
    more = len(found) - _SHOWN
    return [*found[:_SHOWN], f"and {more} more changes of settings"] if more > 0 else found


def _when(look: Look, last: str) -> str:
    match look.moment:
        case Moment.BEGAN:
            return "while the run was interrupted"
        case Moment.AFTER:
            return f"during session {look.session}"
        case Moment.ENDED:
            return f"after session {last}" if last else "before the first session"
        case Moment.BEFORE:
            return f"before session {look.session}"


def _told(now: Mapping[str, Mapping[str, str | None]], news: Values, when: str) -> list[str]:
    sentences = []
    for name, places in news.items():
        ways: dict[tuple[str, str], list[str]] = defaultdict(list)
        for place, value in places.items():
            ways[_word(now.get(name, {}).get(place)), _word(value)].append(place)
        for (old, new), where in ways.items():
            of = f" of {spans(where)}" if any(where) else ""
            sentences.append(f"{name}{of} changed from {old} to {new} {when}")
    return sentences


def _word(value: str | None) -> str:
    return "unreadable" if value is None else chosen(value)
