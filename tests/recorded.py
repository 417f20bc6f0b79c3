"""What two real sessions recorded: QEMU 7.2 and 10.0 of Debian, the same guest, one after the other."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from harness.core.agreement import SessionFacts

DATA = Path(__file__).resolve().parent / "data" / "provenance"
FACTS: dict[str, dict[str, Any]] = {
    name: json.loads((DATA / f"facts-{name}.json").read_text()) for name in ("OLD", "NEW")
}
DOMAIN = "<domain><name>{label}</name><vcpu>1</vcpu><devices><emulator>/{label}</emulator></devices></domain>"


def session(label: str, changes: dict[str, Any] | None = None, *, domain: str = DOMAIN) -> SessionFacts:
    """Return a session such as 000-OLD, with some of its facts (a dotted path -> value) changed.

    A value of None stands for what could not be read.
    """
    variant = label.partition("-")[2]
    facts = copy.deepcopy(FACTS[variant])
    for path, value in (changes or {}).items():
        *way, last = path.split("/")
        place = facts
        for step in way:
            place = place[step]
        place[last] = value
    return SessionFacts(label, variant, (), facts, domain.format(label=label))
