"""The outputs of a run's iterations by thousands: held against their checksums, their numbers as columns.

What is wrong with one is not said here: `samples` then reads them one by one, and names the first.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from harness.adapters.files import read_with_status
from harness.adapters.results import table_cache
from harness.adapters.results.file_state import state_of, states_array
from harness.adapters.results.listing import listing_of
from harness.adapters.results.record_files import RESTORE, check_digest
from harness.adapters.results.workers import part_size, pool
from harness.core.errors import HarnessError
from harness.core.fio_output import PERCENTILES, metrics, parse_fio
from harness.core.fio_plain import PlainReports
from harness.core.fio_table import FioTable

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    import numpy.typing as npt

    from harness.adapters.results.file_state import IntArray, State

    FloatArray = npt.NDArray[np.float64]
    _Read = tuple["Numbers", IntArray]

_LATENCIES = [f"{kind}_{name}_ns" for kind in ("clat", "lat") for name in ("mean", *PERCENTILES)]
_ORDER = ("iops", "bw_bytes", *_LATENCIES, "guest_cpu_ns_per_io")


class Output(NamedTuple):
    """What fio printed in an iteration that counts.

    Attributes:
        file: its path.
        sha256: as recorded.
    """

    file: str
    sha256: str


@dataclass(frozen=True)
class Numbers:
    """What outputs measured, in their order.

    Attributes:
        columns: metric -> values, NaN where fio did not measure it; in the order of `fio_output.metrics`.
    """

    columns: Mapping[str, FloatArray] = field(default_factory=dict)


class OutputReading:
    """The outputs of a run, which begin to be read as soon as they are named.

    Make one in a ``with pool()`` block, and use it there.

    Args:
        run: the run directory.
        expected: how many outputs there may be.
        keep: whether no more will come, so that the cache is worth while.
    """

    def __init__(self, run: Path, expected: int, *, keep: bool) -> None:
        self._run = run
        self._keep = keep
        self._outputs: list[Output] = []
        # Who opens the files looks at them anyway.
        self._look = keep and table_cache.has_entry(run)
        with pool() as workers:
            self._shared = workers.are_worth(expected) and not self._look
        self._size = part_size(expected)
        self._given = 0
        self._begun: list[Future[_Read | None]] = []

    def add(self, outputs: Sequence[Output]) -> None:
        """Take the outputs of some iterations."""
        self._outputs += outputs
        while self._shared and len(self._outputs) - self._given >= self._size:
            self._begin()

    def _begin(self) -> None:
        part = self._outputs[self._given : self._given + self._size]
        self._given += len(part)
        with pool() as workers:
            self._begun.append(workers.submit(read_and_look, part))

    def numbers(self) -> Numbers | None:
        """Return what all of them measured; None where one of them is damaged, or says nothing."""
        keep = self._keep and table_cache.is_on(len(self._outputs))
        files = [output.file for output in self._outputs]
        checksums = [output.sha256 for output in self._outputs]
        if self._look and keep:
            entry = table_cache.read(self._run)
            kept = table_cache.load(entry, self._run, listing_of(files), *checksums)
            if kept is not None and len(kept) == len(files):
                return Numbers(kept.numbers)
        read = self._read()
        if read is None:
            return None
        found, states = read
        if keep:
            listing = listing_of(files, look=False).seen(states)
            table_cache.store(self._run, listing, _table_of(found, len(files)), *checksums)
        return found

    def _read(self) -> _Read | None:
        with pool() as workers:
            if not self._begun and not workers.are_worth(len(self._outputs)):
                return read_and_look(self._outputs)
        while self._given < len(self._outputs):
            self._begin()
        found: list[_Read] = []
        for part in self._begun:
            if (read := part.result()) is None:
                for rest in self._begun:
                    rest.cancel()
                return None
            found.append(read)
        return _joined(found)


def _table_of(numbers: Numbers, rows: int) -> FioTable:
    none = np.zeros(rows, dtype=np.int64)
    return FioTable((), none, np.arange(rows, dtype=np.int64), none.view(np.uint64), numbers.columns, ())


def _joined(parts: Sequence[_Read]) -> _Read:
    names = _in_order(name for numbers, _states in parts for name in numbers.columns)
    columns = {
        name: np.concatenate([n.columns.get(name, np.full(len(states), np.nan)) for n, states in parts])
        for name in names
    }
    return Numbers(columns), np.concatenate([states for _numbers, states in parts])


def read_and_look(outputs: Sequence[Output]) -> _Read | None:
    """Return what outputs measured, and the state in which each was; None as `OutputReading.numbers`."""
    reports = PlainReports()
    others: dict[int, dict[str, float]] = {}
    states: list[State] = []
    with contextlib.suppress(HarnessError, UnicodeDecodeError):
        for row, output in enumerate(outputs):
            data, status = _checked(output)
            states.append(state_of(status))
            if not reports.take(row, data):
                others[row] = metrics(parse_fio(data.decode()))
        table, refused = reports.finish()
        for row in refused:
            others[row] = metrics(parse_fio(_checked(outputs[row])[0].decode()))
        numbers = _columns(len(outputs), table, others)
        if bool((numbers.columns.get("iops", np.zeros(1)) > 0).all()):
            return numbers, states_array(states)
    return None


def _checked(output: Output) -> tuple[bytes, os.stat_result]:
    data, status = read_with_status(output.file)
    check_digest(data, output.sha256, output.file, "fio printed", RESTORE)
    return data, status


def _in_order(names: Iterable[str]) -> list[str]:
    return sorted(set(names), key=_ORDER.index)


def numbers_of(found: Sequence[Mapping[str, float]]) -> Numbers:
    """Return measurements that were read one by one, as columns."""
    return _columns(len(found), PlainReports().finish()[0], dict(enumerate(found)))


def _columns(rows: int, table: FioTable, others: Mapping[int, Mapping[str, float]]) -> Numbers:
    names = _in_order([*table.numbers, *(name for found in others.values() for name in found)])
    columns = {name: np.full(rows, np.nan) for name in names}
    for name, values in table.numbers.items():
        columns[name][table.file] = values
    for row, found in others.items():
        for name, value in found.items():
            columns[name][row] = value
    return Numbers(columns)
