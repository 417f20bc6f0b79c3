"""Pages of docs/ with a place, between two marks, for what a command found."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def write_between(page: Path, begin: str, end: str, text: str) -> None:
    """Replace what stands between two marks in a page.

    Args:
        page: the file.
        begin: the mark before the place.
        end: the mark after it.
        text: what is put there; paragraphs of Markdown.

    Raises:
        SystemExit: the page has no such place.
    """
    before, _begin, rest = page.read_text().partition(begin)
    _old, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"{page} has no place for the table: {begin} ... {end}")
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")
