"""The outputs of a run's iterations by thousands: held against their checksums, their numbers as columns.

What is wrong with one is not said here: `samples` then reads them one by one, and names the first.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from harness.adapters.files import read_bytes
from harness.adapters.results import table_cache
from harness.adapters.results.listing import listing_of
from harness.adapters.results.record_files import RESTORE, check_digest
from harness.adapters.results.workers import WORTH_IT, pool
from harness.core.errors import HarnessError
from harness.core.fio_output import PERCENTILES, metrics, parse_fio
from harness.core.fio_plain import PlainReports
from harness.core.fio_table import FioTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from harness.adapters.results.workers import Workers

    FloatArray = npt.NDArray[np.float64]

_AT_ONCE = 1000
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


def read_outputs(run: Path, outputs: Sequence[Output], *, keep: bool) -> Numbers | None:
    """Return what outputs measured; None where one of them is damaged, or says nothing.

    Args:
        run: the run directory.
        outputs: of its iterations.
        keep: whether no more will come, so that the cache is worth while.
    """
    if not (keep and table_cache.is_on(len(outputs))):
        return _read(outputs)
    listing = listing_of([output.file for output in outputs])
    checksums = [output.sha256 for output in outputs]
    kept = table_cache.load(run, listing, *checksums)
    if kept is not None and len(kept) == len(outputs):
        return Numbers(kept.numbers)
    found = _read(outputs)
    if found is not None:
        rows = np.arange(len(outputs), dtype=np.int64)
        none = np.zeros(len(outputs), dtype=np.int64)
        table = FioTable((), none, rows, none.view(np.uint64), found.columns, ())
        table_cache.store(run, listing, table, *checksums)
    return found


def _read(outputs: Sequence[Output]) -> Numbers | None:
    if len(outputs) < WORTH_IT:
        return _read_some(outputs)
    parts = [outputs[first : first + _AT_ONCE] for first in range(0, len(outputs), _AT_ONCE)]
    with pool() as workers:
        return _joined(workers, parts)


def _joined(workers: Workers, parts: Sequence[Sequence[Output]]) -> Numbers | None:
    found: list[Numbers] = []
    for one in workers.map(_read_some, parts):
        if one is None:
            return None
        found.append(one)
    names = _in_order(name for one in found for name in one.columns)
    gaps = [np.full(len(part), np.nan) for part in parts]
    return Numbers(
        {
            name: np.concatenate([one.columns.get(name, gap) for one, gap in zip(found, gaps, strict=True)])
            for name in names
        }
    )


def _read_some(outputs: Sequence[Output]) -> Numbers | None:
    reports = PlainReports()
    others: dict[int, dict[str, float]] = {}
    with contextlib.suppress(HarnessError, UnicodeDecodeError):
        for row, output in enumerate(outputs):
            data = _checked(output)
            if not reports.take(row, data):
                others[row] = metrics(parse_fio(data.decode()))
        table, refused = reports.finish()
        for row in refused:
            others[row] = metrics(parse_fio(_checked(outputs[row]).decode()))
        numbers = _columns(len(outputs), table, others)
        if bool((numbers.columns.get("iops", np.zeros(1)) > 0).all()):
            return numbers
    return None


def _checked(output: Output) -> bytes:
    data = read_bytes(output.file)
    check_digest(data, output.sha256, output.file, "fio printed", RESTORE)
    return data


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
