"""Trees of fio's output: read by every core if they are large, and from the cache where nothing changed."""

from __future__ import annotations

import contextlib
import functools
import os
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from harness.adapters.results import table_cache
from harness.adapters.results.fio_files import read_and_look
from harness.adapters.results.listing import begin_listing
from harness.adapters.results.run_layout import is_run_directory
from harness.adapters.results.workers import WORTH_A_FORK, part_size, pool
from harness.core.fio_table import join

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from concurrent.futures import Future
    from pathlib import Path

    from harness.adapters.results.file_state import IntArray
    from harness.adapters.results.listing import Listing
    from harness.core.fio_table import FioTable


class TreeReading:
    """A tree of fio's output, which begins to be read.

    Make one in a ``with pool()`` block, and take from it there what other processes read.

    Args:
        path: of the tree.
        large: whether it seems to be; then every core begins at once, and this one need not wait.

    Attributes:
        path: of the tree.
    """

    def __init__(self, path: Path, *, large: bool = False) -> None:
        self.path = path
        # Who opens the files looks at them anyway.
        self._look = table_cache.has_entry(path)
        self._listed = begin_listing(path, look=self._look, large=large)
        self._begun = self._begin() if large and not self._look else []
        # Large ones are looked at by others meanwhile.
        self._entry = table_cache.read(path) if self._look else None

    @functools.cached_property
    def listing(self) -> Listing:
        """Its files."""
        return self._listed()

    @functools.cached_property
    def table(self) -> FioTable:
        """What the files say; those that cannot be used are among its problems."""
        is_kept = table_cache.is_on(len(self.listing.files))
        kept = table_cache.load(self._entry, self.path, self.listing) if is_kept else None
        if kept is not None:
            return kept
        every = self._begun or self._begin()
        parts = [part.result() for part in every] or [read_and_look(list(self.listing.files))]
        begins = accumulate((len(states) for _table, states in parts), initial=0)
        table = join([(begin, table) for begin, (table, _states) in zip(begins, parts, strict=False)])
        if is_kept:
            states = np.concatenate([states for _table, states in parts])
            table_cache.store(self.path, self.listing.seen(states), table)
        return table

    def _begin(self) -> list[Future[tuple[FioTable, IntArray]]]:
        """Have other processes read the files, if they are many."""
        with pool() as workers:
            if not workers.are_worth(len(self.listing.files)):
                return []
            every = list(self.listing.files)
            size = part_size(len(every))
            return [
                workers.submit(read_and_look, every[first : first + size])
                for first in range(0, len(every), size)
            ]


class Ahead:
    """Readings that were begun before they are asked for.

    Args:
        begun: a tree's path -> its reading.
    """

    def __init__(self, begun: Mapping[Path, TreeReading] | None = None) -> None:
        self._begun = begun or {}

    def reading(self, path: Path) -> TreeReading:
        """Return the reading of a tree: the one that was begun, or a new one."""
        return self._begun.get(path) or TreeReading(path)


@contextlib.contextmanager
def reading_ahead(*roots: Path | None) -> Iterator[Ahead]:
    """Begin to read trees that seem to be large, while other modules are imported, say.

    What is no tree, or a small one, is left alone.
    """
    sizes = {root: _seem_to_be(str(root)) for root in roots if root is not None}
    large = {root: size for root, size in sizes.items() if size >= WORTH_A_FORK}
    if not large:
        yield Ahead()
        return
    with pool() as workers:
        workers.fork(sum(large.values()))
        yield Ahead({root: TreeReading(root, large=True) for root in large if not is_run_directory(root)})


def _seem_to_be(root: str) -> int:
    """Return how many files a tree or a run directory seems to have, after a look at the first few."""
    place = next((place for place in (f"{root}/sessions", root) if os.path.isdir(place)), "")  # noqa: PTH112
    _place, names, files = next(os.walk(place), ("", [], []))
    _first, _names, inside = next(os.walk(f"{place}/{names[0]}"), ("", [], [])) if names else ("", [], [])
    return len(files) + len(names) * len(inside)
