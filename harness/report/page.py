"""The page that every report is: a head with the answer, sections of text, tables and charts.

One file: styles, scripts and data stand in it, and its own policy (CSP) forbids any request. Everything that
comes from outside (names, versions, what fio printed) is escaped by the templates in templates/report/, or
stands as JSON that no script tag can be closed from; even where that failed, the policy lets only the two
scripts run whose hashes it names.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from harness import __version__
from harness.report.icicle import ROW_PX, Icicle
from harness.report.vega import CONFIG, Chart, library
from harness.resources import resource_dir

if TYPE_CHECKING:
    from collections.abc import Sequence

GENERATOR = "qemu-ab-harness"
"""What the page's generator tag says: a file with it may be overwritten by a newer report."""


class Tone(StrEnum):
    """What a colour stands for; never by itself: words say the same."""

    NEUTRAL = "neutral"
    BETTER = "better"
    WORSE = "worse"
    SAME = "same"
    UNCLEAR = "unclear"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: as people read it.
        value: the number behind it, in full; None where there is none.
        bounds: the numbers behind an interval; None likewise.
        tone: of a verdict.
        note: more, as a tooltip.
        href: what the text leads to: another file beside the page, or a place in it.

    Raises:
        ValueError: the link leads elsewhere: pages link to files only.
    """

    text: str
    value: float | None = None
    bounds: tuple[float, float] | None = None
    tone: Tone | None = None
    note: str | None = None
    href: str | None = None

    def __post_init__(self) -> None:
        if self.href is not None and not re.match(r"file:///|\.{1,2}/|#", self.href):
            raise ValueError(f"{self.href!r} is neither ./, ../, file:/// nor #")


@dataclass(frozen=True, slots=True)
class Heading:
    """A table's column.

    Attributes:
        text: its heading.
        name: what programs call it (``ci_low``).
        note: what it means, as a tooltip.
        left: whether its text is left-aligned.
        names_row: whether its cells say what the row is of.
        wraps: whether its text may take several lines.
    """

    text: str
    name: str
    note: str | None = None
    left: bool = False
    names_row: bool = False
    wraps: bool = False

    @property
    def classes(self) -> str:
        """Its style classes."""
        return " ".join(name for name in ("left", "wraps") if getattr(self, name))


@dataclass(frozen=True, slots=True)
class Table:
    """A table; a wide one scrolls by itself.

    Attributes:
        caption: what it shows.
        headings: its columns.
        rows: a cell a column each.
        name: what programs call it.
        total: whether the last row sums up the others.
    """

    kind: ClassVar[str] = "table"
    caption: str
    headings: Sequence[Heading]
    rows: Sequence[Sequence[Cell]]
    name: str = ""
    total: bool = False


@dataclass(frozen=True, slots=True)
class Charts:
    """Charts side by side where there is room.

    Attributes:
        charts: in order.
        wide: whether each takes the whole width.
    """

    kind: ClassVar[str] = "charts"
    charts: Sequence[Chart]
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    kind: ClassVar[str] = "text"
    text: str
    tone: Tone | None = None


@dataclass(frozen=True, slots=True)
class Points:
    """A list of sentences."""

    kind: ClassVar[str] = "points"
    items: Sequence[str]


@dataclass(frozen=True, slots=True)
class Code:
    """Text for a terminal or a file, to the letter."""

    kind: ClassVar[str] = "code"
    text: str


@dataclass(frozen=True, slots=True)
class Folded:
    """Blocks behind a line that unfolds them."""

    kind: ClassVar[str] = "folded"
    summary: str
    blocks: Sequence[Block]


Block: TypeAlias = Table | Charts | Icicle | Text | Points | Code | Folded


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page with a heading.

    Attributes:
        name: its anchor: letters and dashes.
        title: its heading.
        blocks: what it holds.
    """

    name: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True, slots=True)
class Page:
    """A whole page.

    Attributes:
        title: of the window.
        place: what, where and when, in a line above the answer.
        answer: one sentence.
        tone: of the answer.
        notices: what must be known before any number is read, worst first.
        sections: in order; each is linked from the top.
    """

    title: str
    place: str
    answer: str
    sections: Sequence[Section]
    tone: Tone = Tone.NEUTRAL
    notices: Sequence[str] = ()


def render_page(page: Page) -> str:
    """Return the page's HTML."""
    environment = _environment()
    script = _source("report.js")
    charts = any(_charts_in(section.blocks) for section in page.sections)
    scripts = [library(), script] if charts else []
    return environment.get_template("page.html.j2").render(
        page=page,
        generator=GENERATOR,
        version=__version__,
        policy=_policy(scripts),
        scripts=[Markup(text) for text in scripts],  # noqa: S704 - the project's own and the library's
        style=Markup(_source("report.css")),  # noqa: S704 - the project's own
        config=CONFIG,
    )


def _charts_in(blocks: Sequence[Block]) -> bool:
    return any(
        block.kind == "charts" or (isinstance(block, Folded) and _charts_in(block.blocks)) for block in blocks
    )


def _policy(scripts: Sequence[str]) -> str:
    """Return the page's Content-Security-Policy: these scripts, its own styles, no request to anywhere."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in scripts
    )
    allowed = hashes or "'none'"
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        "base-uri 'none'; form-action 'none'"
    )


@lru_cache(maxsize=1)
def _loader() -> FileSystemLoader:
    return FileSystemLoader(resource_dir("templates") / "report")


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=_loader(),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_visible,
    )
    environment.globals["row_px"] = ROW_PX
    environment.globals["pairs"] = lambda first, second: zip(first, second, strict=True)
    environment.filters["sentence"] = lambda text: text[:1].upper() + text[1:]
    # A number that is none would be no JSON: it has to be taken out before.
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return environment


def _source(name: str) -> str:
    return _loader().get_source(_environment(), name)[0]


def colours() -> dict[str, str]:
    """Return the colours of the style sheet's variables, as in daylight."""
    daylight = _source("report.css").partition("@media")[0]
    return dict(re.findall(r"(--[\w-]+): ([^;]+);", daylight))


def _visible(value: object) -> object:
    """Return text from outside without characters that hide, or turn the order of others around."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in value)
    return value
