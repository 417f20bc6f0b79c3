"""What stands behind every report: what was measured, on what, and how to do it again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.report.page import Cell, Code, Folded, Heading, Points, Section, Table, Text, Tone

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.report.page import Block


@dataclass(frozen=True, slots=True)
class Difference:
    """What variants differ in.

    Attributes:
        what: the fact's name.
        values: a variant -> what it has, for people.
        why: what makes it legitimate.
    """

    what: str
    values: Mapping[str, str]
    why: str


@dataclass(frozen=True)
class Background:
    """What a run was.

    Attributes:
        run_id: its name.
        created: when it began.
        variants: their names, the baseline first.
        builds: a variant -> rows of name and value.
        experiment: the experiment's text, as it was run.
        differences: of the variants.
        disagreements: what forbids a verdict, a sentence each.
        details: heading -> lines: host, QEMU, guest.
        commands: what does it again, and shows it again.
    """

    run_id: str
    created: str
    variants: Sequence[str]
    builds: Mapping[str, Mapping[str, str]]
    experiment: str
    differences: Sequence[Difference] = ()
    disagreements: Sequence[str] = ()
    details: Mapping[str, Sequence[str]] = field(default_factory=dict)
    commands: str = ""

    def headline(self, host: str, ruler: str) -> str:
        """Return the line above the answer."""
        return " · ".join(part for part in (self.run_id, self.created, host, ruler) if part)


def provenance_section(background: Background) -> Section:
    """Return what was measured on what: first what the variants differ in."""
    blocks: list[Block] = []
    if background.disagreements:
        blocks += [
            Text("The sessions differ in more than the build:", Tone.WARNING),
            Points(background.disagreements),
        ]
    names = " and ".join(background.variants)
    count = len(background.differences)
    if background.differences:
        blocks.append(Folded(f"What {names} differ in ({count})", [_differences(background)]))
    else:
        blocks.append(Text(f"Nothing is recorded that {names} differ in beside the builds."))
    blocks.append(Folded("Builds", [_builds(background)]))
    blocks += [Folded(name, [Code("\n".join(lines))]) for name, lines in background.details.items() if lines]
    return Section("provenance", "Provenance", blocks)


def _differences(background: Background) -> Table:
    names = list(background.variants)
    headings = [
        Heading("FACT", "what", left=True, names_row=True, wraps=True),
        *(Heading(name, f"variant-{number}", left=True, wraps=True) for number, name in enumerate(names)),
        Heading("WHY IT MAY", "why", left=True, wraps=True),
    ]
    rows = [
        [
            Cell(entry.what),
            *(Cell(entry.values.get(name, "-")) for name in names),
            Cell(entry.why),
        ]
        for entry in background.differences
    ]
    return Table("What the variants differ in, as builds may", headings, rows, name="differences")


def _builds(background: Background) -> Table:
    keys = list(dict.fromkeys(key for build in background.builds.values() for key in build))
    headings = [
        Heading("VARIANT", "variant", left=True, names_row=True),
        *(Heading(key.upper(), f"build-{number}", left=True, wraps=True) for number, key in enumerate(keys)),
    ]
    rows = [
        [Cell(name), *(Cell(build.get(key, "-")) for key in keys)]
        for name, build in background.builds.items()
    ]
    return Table("The builds under test", headings, rows, name="builds")


def repeat_section(background: Background, tables: Mapping[str, str]) -> Section:
    """Return how to do it again.

    Args:
        background: what was done.
        tables: further text to copy: a summary -> the text.
    """
    blocks: list[Block] = [
        Text("Save the experiment below as experiment.yml, and run it on the same kind of host:"),
        Code(background.commands),
        Folded("experiment.yml, as it was run", [Code(background.experiment)]),
        *(Folded(summary, [Code(text)]) for summary, text in tables.items()),
    ]
    return Section("repeat", "How to repeat it", blocks)
