"""The limit: read every file of some trees and parse it, with a process a core, and do nothing with it."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from collections.abc import Sequence

_AT_ONCE = 1000


def parse(paths: Sequence[str]) -> None:
    """Read and parse files."""
    for path in paths:
        with open(path, "rb") as stream:  # noqa: PTH123 - the limit
            orjson.loads(stream.read())


def main() -> None:
    """Read the trees that the command line names."""
    paths = [
        f"{directory}/{name}"
        for root in sys.argv[1:]
        for directory, _names, names in os.walk(root)
        for name in names
        if name.endswith(".json")
    ]
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(parse, [paths[first : first + _AT_ONCE] for first in range(0, len(paths), _AT_ONCE)]))


if __name__ == "__main__":
    main()
