"""The pages of docs/ as tests see them: blocks of code with their marks, links, and commands named anywhere.

A mark is an HTML comment right above a block:

    <!-- not run: REASON -->            a shell block that the tests do not execute
    <!-- file: NAME -->                 the block is the content of a file that the page's commands use
    <!-- not an experiment: WHAT -->    YAML that does not load as one
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"

_FENCE = re.compile(
    r"^(?P<indent> *)(?:<!-- (?P<mark>[^\n]*?) -->\n+ *)?```(?P<language>[\w-]*)\n(?P<text>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)
_CODE_SPAN = re.compile(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_COMMAND = re.compile(r"(?<![\w./-])harness +((?:[a-z]+ +)*[a-z]+)(?=[\s`]|$)([^\n|;&>#]*)")
_OPTION = re.compile(r"(?<!\S)(--?[a-z][\w-]*)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block of code.

    Attributes:
        page: the page's name below the checkout.
        line: where its text begins, from 1.
        language: what stands behind the fence; empty for output.
        text: what is in it.
        mark: the HTML comment above it, or None.
    """

    page: str
    line: int
    language: str
    text: str
    mark: str | None

    @property
    def where(self) -> str:
        """The block's place, for messages."""
        return f"{self.page}:{self.line}"

    @property
    def file_name(self) -> str | None:
        """The file it is the content of."""
        return self.mark.removeprefix("file: ") if self.mark and self.mark.startswith("file: ") else None

    @property
    def reason_not_to_run(self) -> str | None:
        """Why it is not executed."""
        return (
            self.mark.removeprefix("not run: ") if self.mark and self.mark.startswith("not run: ") else None
        )


def pages() -> list[str]:
    """Return the names of all pages below the checkout, README.md first."""
    return ["README.md", *(str(path.relative_to(ROOT)) for path in sorted(DOCS.rglob("*.md")))]


def text_of(page: str) -> str:
    """Return a page's text."""
    return (ROOT / page).read_text()


def blocks(page: str, text: str | None = None) -> list[Block]:
    """Return the fenced blocks of a page in order."""
    text = text_of(page) if text is None else text
    return [
        Block(
            page=page,
            line=text.count("\n", 0, found.start("text")) + 1,
            language=found["language"],
            text=re.sub(rf"^{found['indent']}", "", found["text"], flags=re.MULTILINE),
            mark=found["mark"],
        )
        for found in _FENCE.finditer(text)
    ]


def without_blocks(text: str) -> str:
    """Return a page's prose."""
    return _FENCE.sub("", text)


def links(page: str) -> list[str]:
    """Return the targets of a page's links but for those into the web."""
    prose = re.sub(r"(?<!`)`[^`\n]+`(?!`)(?!\])", "", without_blocks(text_of(page)))
    return [target for target in _LINK.findall(prose) if not re.match(r"[a-z]+:", target)]


def anchors(page: str) -> set[str]:
    """Return what a link may name behind `#`, by the rules of GitHub and GitLab."""
    return {_anchor(heading) for heading in _HEADING.findall(without_blocks(text_of(page)))}


def _anchor(heading: str) -> str:
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
    return re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")


@dataclass(frozen=True)
class Named:
    """A command of ours that a page names.

    Attributes:
        words: the words behind `harness`: the verb, and what follows it in lower case.
        options: its options, without values.
        text: as the page has it.
    """

    words: tuple[str, ...]
    options: tuple[str, ...]
    text: str


def commands_named(page: str, text: str | None = None) -> Iterator[Named]:
    """Yield every `harness VERB ...` in a page's code."""
    text = text_of(page) if text is None else text
    code = [block.text for block in blocks(page, text)]
    code += [span.replace("\n", " ") for span in _CODE_SPAN.findall(without_blocks(text))]
    for part in code:
        for found in _COMMAND.finditer(part.replace("\\\n", " ")):
            options = tuple(option.rstrip("-") for option in _OPTION.findall(found[2]))
            yield Named(tuple(found[1].split()), options, found[0])


# -- running them --------------------------------------------------------------------------------------------


def make_checkout(directory: Path) -> Path:
    """Copy what git knows of this checkout, with a `harness` in `bin/` that runs the copy."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        source, target = ROOT / name, directory / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
            target.chmod(source.stat().st_mode & 0o777)
    command = directory / "bin" / "harness"
    command.parent.mkdir()
    command.write_text(
        f'#!/bin/sh\nPYTHONPATH={directory} exec {sys.executable} -m harness "$@"\n', encoding="utf-8"
    )
    command.chmod(0o755)
    return directory


def execute(
    block: Block, checkout: Path, timeout_seconds: float, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a shell block in a checkout, as a reader would who is there."""
    path = f"{checkout / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["sh", "-eu", "-c", block.text],
        cwd=checkout,
        env=os.environ | {"PATH": path} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_seconds,
    )


def to_do(page: str, checkout: Path) -> Iterator[Block]:
    """Write the files that a page holds, each in its turn, and yield the shell blocks to be executed."""
    for block in blocks(page):
        if block.file_name:
            (checkout / block.file_name).write_text(block.text)
        elif block.language == "sh" and not block.reason_not_to_run:
            yield block
