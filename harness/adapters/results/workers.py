"""Processes that read: one for every core that this one may use, started where there is much to read."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future
    from multiprocessing.context import BaseContext, ForkServerContext

_T = TypeVar("_T")
_A = TypeVar("_A")

WORTH_IT = 6000
"""Files to read from which on processes are: starting them takes as long as to read so many."""
WORTH_A_FORK = 1500
"""The same of copies of this process."""

_AT_ONCE, _LEAST, _PARTS = 2000, 250, 16

_PRELOADED = "harness.adapters.results.fio_files"


class Workers:
    """Processes; the first work starts them."""

    def __init__(self) -> None:
        self._executor: ProcessPoolExecutor | None = None

    def are_worth(self, files: int) -> bool:
        """Return whether so many files are read sooner by them."""
        return files >= (WORTH_IT if self._executor is None else WORTH_A_FORK)

    def submit(self, function: Callable[[_A], _T], argument: _A) -> Future[_T]:
        """Have a process call a function of a module."""
        with _nameless_main():
            if self._executor is None:
                self._executor = _executor(_server())
            return self._executor.submit(function, argument)

    def map(self, function: Callable[[_A], _T], arguments: Iterable[_A]) -> Iterator[_T]:
        """Have processes call a function for each of some arguments, from now on; results in their order."""
        begun = [self.submit(function, argument) for argument in arguments]
        return (future.result() for future in begun)

    def fork(self, files: int) -> None:
        """Start as many as so many files are worth, as copies of this process, which takes next to nothing.

        Call it early. A copy has no other thread, but the locks that they hold: where there are any, nothing
        is started. Those of numpy's libraries see to that by themselves.
        """
        if threading.active_count() == 1:
            # Not one for each of a hundred cores, where there is work for three.
            self._executor = _executor(get_context("fork"), most=2 + files // _AT_ONCE)
            self._executor.submit(os.getpid)

    def close(self) -> None:
        """End them; what was not begun is left undone."""
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)


def part_size(files: int) -> int:
    """Return how many of so many files a process is given at a time: so that none has to wait for another."""
    return min(_AT_ONCE, max(_LEAST, files // _PARTS))


_open: list[Workers] = []


@contextlib.contextmanager
def pool() -> Iterator[Workers]:
    """Give processes for the duration of the ``with`` block; within another one, the same."""
    if _open:
        yield _open[0]
        return
    workers = Workers()
    _open.append(workers)
    try:
        yield workers
    finally:
        _open.remove(workers)
        workers.close()


def _executor(context: BaseContext, most: int | None = None) -> ProcessPoolExecutor:
    cores = len(os.sched_getaffinity(0))
    return ProcessPoolExecutor(min(cores, most or cores), mp_context=context, initializer=_get_ready)


def _get_ready() -> None:
    # What readers make has no cycles to find.
    gc.disable()
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    """End this process when the one that gives it work was killed; else it would wait for more, for ever."""
    parent = parent_process()
    assert parent is not None  # noqa: S101 - a worker has one
    parent.join()
    os.kill(os.getpid(), signal.SIGKILL)


def _server() -> ForkServerContext:
    """Return how to start processes: not with fork, as this one may have threads, which do not survive it.

    The server has only numpy's, which are stopped before it forks, and imports what reads once for all.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload([_PRELOADED])
    return context


@contextlib.contextmanager
def _nameless_main() -> Iterator[None]:
    """Keep new processes from running the main program's file again: they need nothing of it.

    It takes time, and one that is a script without ``if __name__ == "__main__"`` would do all its work again.
    """
    main = sys.modules["__main__"].__dict__
    names = [name for name in ("__file__", "__spec__") if name in main]
    hidden: dict[str, object] = {name: main[name] for name in names}
    main.update(dict.fromkeys(hidden))
    try:
        yield
    finally:
        main.update(hidden)
