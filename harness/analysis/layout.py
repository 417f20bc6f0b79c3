"""Tables as lines of text, and as Markdown: what all reports share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table in text.

    Attributes:
        head: its heading.
        cells: a string a row.
        left: whether it is left-aligned.
    """

    head: str
    cells: list[str]
    left: bool = False


def layout(columns: Sequence[Column]) -> list[str]:
    """Return the lines of a table: one space between columns, no trailing blanks."""
    widths = [max(map(len, [column.head, *column.cells])) for column in columns]
    rows = [[column.head for column in columns], *zip(*(column.cells for column in columns), strict=True)]
    return [
        " ".join(
            text.ljust(width) if column.left else text.rjust(width)
            for text, width, column in zip(row, widths, columns, strict=True)
        ).rstrip()
        for row in rows
    ]


def clean(value: object) -> str:
    """Return text from outside without anything a terminal would act on."""
    return "".join(character if character.isprintable() else "?" for character in str(value))


def markdown_table(title: str, columns: Sequence[Column]) -> list[str]:
    """Return a titled table's lines in Markdown; the title may hold emphasis (``*``)."""
    return [
        markdown_safe(title, keep="*"),
        "",
        _markdown_row(column.head for column in columns),
        "|" + "|".join(":---" if column.left else "---:" for column in columns) + "|",
        *(_markdown_row(row) for row in zip(*(column.cells for column in columns), strict=True)),
        "",
    ]


def markdown_remarks(warnings: Iterable[str], lines: Iterable[str]) -> list[str]:
    """Return warnings and remarks as a Markdown list."""
    return [
        *(f"- **warning**: {markdown_safe(warning)}" for warning in warnings),
        *(f"- {markdown_safe(line)}" for line in lines),
    ]


def markdown_safe(text: str, *, keep: str = "") -> str:
    """Return text that Markdown shows as it is, but for the characters to keep."""
    return "".join(
        f"\\{character}" if character in "|*_`<>[]\\" and character not in keep else character
        for character in clean(text)
    )


def _markdown_row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(markdown_safe(cell) for cell in cells) + " |"
