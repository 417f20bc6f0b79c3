"""The plain report, read fast: one job, one direction, as fio prints it since 3.2 when nothing went wrong.

`fio_cells.read_measurements` reads what anybody's fio may have printed, with care, and takes ten times
as long as decoding does. Nearly every report of a hundred thousand is plain. Such a one is decoded into a
fixed shape, and what `fio_checks` holds against an entry is computed for many at once. Whatever has another
shape, or fails any of it, is left to the careful way: it decides, and says why.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
import orjson
from msgspec import UNSET

from harness.core.fio_asked import asked_by
from harness.core.fio_cells import Setup, identity_of, named
from harness.core.fio_checks import edges
from harness.core.fio_columns import Values, agree, between, measured, metrics_of
from harness.core.fio_document import COUNTED, LARGEST
from harness.core.fio_output import PERCENTILES
from harness.core.fio_predicates import LEAST_SHARE, LEAST_WHOLE, is_mean_of
from harness.core.fio_shapes import Keys, Report, Shape, active, decode, decoder_of, numbers, shape_of
from harness.core.fio_snapshots import UNKNOWN_ETA
from harness.core.fio_table import FioTable

if TYPE_CHECKING:
    import numpy.typing as npt

    from harness.core.fio_asked import Limits, Options
    from harness.core.fio_columns import BoolArray, FloatArray
    from harness.core.fio_shapes import Direction, Job


_KEYS = tuple(f'"{key}"'.encode() for key in COUNTED)
_SHORT = (b'"iops"', b'_bytes"')
_MOST_TRIED = 4
_MOST_SHAPES = 50
_LARGEST_SHAPE = 200
"""Keys; fio has 32 shares and twice 20 percentiles. A decoder is made in the time of forty reports."""


class _Asked(NamedTuple):
    """What the options of a report say: computed once for all reports that have the same.

    Attributes:
        number: of the set-up.
        limits: smallest and largest block, requests in flight, jobs, milliseconds asked for; NaN for none.
    """

    number: int
    limits: Limits


class _Rows:
    """Rows of values under the same keys.

    Args:
        width: how many these are.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._rows: list[int] = []
        self._values = array("d")

    def add(self, row: int, *parts: object) -> None:
        """Take the values of a row, as the decoder of a shape left them."""
        self._rows.append(row)
        for part in parts:
            # A list is taken in half the time of anything else.
            self._values.fromlist([*numbers(part)])

    def matrix(self) -> tuple[npt.NDArray[np.int64], FloatArray]:
        """Return which rows, and their values: shape (rows, keys)."""
        return _index(self._rows), np.frombuffer(self._values).reshape(len(self._rows), self._width)


class _Known:
    """A shape that was met: how reports of it are decoded, and what is kept of them."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.decoder = decoder_of(shape)
        self.clat, self.lat = _Rows(len(shape.clat)), _Rows(len(shape.lat))
        self.shares = _Rows(sum(map(len, shape.shares)))


class PlainReports:
    """Takes reports one by one and gives those that are plain, as a table."""

    def __init__(self) -> None:
        self._shapes: dict[Shape, _Known] = {}
        self._latest: list[_Known] = []
        self._setups: list[Setup] = []
        self._asked: dict[Options, _Asked | None] = {}
        self._named: dict[tuple[int, str, int], int] = {}
        self._values = array("d")
        self._codes: list[int] = []
        self._files: list[int] = []
        self._identities: list[int] = []

    def take(self, file: int, data: bytes) -> bool:
        """Read what a file holds; False where it is not plain."""
        if not data.startswith(b"{") or not data.isascii() or not _stand_once(data):
            return False
        try:
            report, known = self._decoded(data)
        except (msgspec.DecodeError, RecursionError):
            return False
        if known is None or report.client_stats is not UNSET or not report.timestamp_ms > 0:
            return False
        job = report.jobs[0]
        if (
            job.error
            or job.eta not in {0, UNKNOWN_ETA}
            or job.total_err
            or job.mixed is not UNSET
            or job.hostname is not UNSET
        ):
            return False
        return self._add(file, data, report, known)

    def _decoded(self, data: bytes) -> tuple[Report, _Known | None]:
        """Decode a report, and say what shape it has; None where it has none of a plain one.

        Raises:
            msgspec.DecodeError, RecursionError: it is no report.
        """
        for latest in self._latest:
            try:
                report = latest.decoder.decode(data)
            except msgspec.DecodeError:
                continue
            if len(report.jobs) == 1 and active(report.jobs[0]) == latest.shape.direction:
                return report, latest
        report = decode(data)
        direction = active(report.jobs[0]) if len(report.jobs) == 1 else None
        if direction is None:
            return report, None
        shape = shape_of(report.jobs[0], direction)
        if (known := self._shapes.get(shape)) is None:
            if shape.size > _LARGEST_SHAPE or len(self._shapes) >= _MOST_SHAPES:
                return report, None
            known = self._shapes[shape] = _Known(shape)
        self._latest = [known, *self._latest][:_MOST_TRIED]
        return known.decoder.decode(data), known

    def _add(self, file: int, data: bytes, report: Report, known: _Known) -> bool:
        job = report.jobs[0]
        section: Direction = getattr(job, known.shape.direction)
        asked = self._asked_of(known.shape.direction, data, report, job)
        if asked is None or section.clat is not UNSET or section.lat is not UNSET:
            return False
        slat, clat, lat = section.slat_ns, section.clat_ns, section.lat_ns
        row = len(self._codes)
        if known.shape.clat:
            known.clat.add(row, clat.percentile)
        if known.shape.lat:
            known.lat.add(row, lat.percentile)
        known.shares.add(row, job.latency_ns, job.latency_us, job.latency_ms)
        self._values.fromlist(
            [  # as `Values`
                section.iops, section.bw, section.bw_bytes, section.io_bytes, section.io_kbytes,
                section.runtime, section.total_ios, job.job_runtime, job.usr_cpu, job.sys_cpu,
                slat.mean, clat.min, clat.max, clat.mean, clat.samples,
                lat.min, lat.max, lat.mean, lat.samples, *asked.limits, float(job.eta > 0),
            ]
        )  # fmt: skip
        self._codes.append(asked.number)
        self._files.append(file)
        total = round(section.total_ios)
        latency_ns = clat.mean * total / total if clat.mean > 0 and clat.samples != 0 and total else None
        who = asked.number, job.jobname, job.groupid
        if (name_code := self._named.get(who)) is None:
            factors = self._setups[asked.number].factors
            name_code = self._named[who] = named(factors, job.jobname, job.groupid, (None,))
        self._identities.append(
            identity_of(report.timestamp_ms, name_code, (total, section.runtime), latency_ns)
        )
        return True

    def _asked_of(self, direction: str, data: bytes, report: Report, job: Job) -> _Asked | None:
        key = (direction, report.version, bytes(report.shared), bytes(job.options))
        if key not in self._asked:
            try:
                found = asked_by(key, data)
            except orjson.JSONDecodeError:
                return None  # a number without end, where nothing plain stands: of this report alone
            if found is None:
                self._asked[key] = None
            else:
                setup, limits = found
                self._asked[key] = _Asked(len(self._setups), limits)
                self._setups.append(setup)
        return self._asked[key]

    def finish(self) -> tuple[FioTable, list[int]]:
        """Return what agrees with itself, and the files of the rest."""
        if not self._codes:
            return FioTable((), _index([]), _index([]), np.empty(0, np.uint64), {}, ()), []
        columns = Values(*np.frombuffer(self._values).reshape(len(self._codes), len(Values._fields)).T.copy())
        spread = {kind: self._spread(kind, len(self._codes)) for kind in ("clat", "lat")}
        good = agree(columns) & self._distributed(columns)
        for kind, (least, most, _found) in spread.items():
            good &= between(columns, kind, least, most)
        numbers = metrics_of(columns, {kind: found for kind, (_least, _most, found) in spread.items()})
        table = FioTable(
            tuple(self._setups),
            _index(self._codes),
            _index(self._files),
            np.array(self._identities, dtype=np.uint64),
            numbers,
            (),
        )
        if good.all():
            return table, []
        return table.take(np.flatnonzero(good)), table.file[~good].tolist()

    def _spread(self, kind: str, rows: int) -> tuple[FloatArray, FloatArray, dict[str, FloatArray]]:
        """Return least and most percentile, but for those that are 0, and the named ones; NaN for none."""
        least, most = np.full(rows, np.nan), np.full(rows, np.nan)
        named: dict[str, FloatArray] = {}
        for known in self._shapes.values():
            keys: Keys = getattr(known.shape, kind)
            if not keys:
                continue
            where, values = getattr(known, kind).matrix()
            seen = np.where(values > 0, values, np.nan)
            # fmin and fmax leave NaN out, and say nothing where there is nothing else.
            least[where] = np.fmin.reduce(seen, axis=1)
            most[where] = np.where(np.fmin.reduce(values, axis=1) < 0, np.inf, np.fmax.reduce(seen, axis=1))
            try:
                percents = [float(key) for key in keys]
            except ValueError:
                most[where] = np.inf
                continue
            if len(set(percents)) < len(percents):
                most[where] = np.inf
            for name, percent in PERCENTILES.items():
                if percent in percents:
                    named.setdefault(name, np.full(rows, np.nan))[where] = values[:, percents.index(percent)]
        return least, most, named

    def _distributed(self, columns: Values) -> BoolArray:
        """Return where the mean completion latency is one that its distribution can have."""
        good = np.ones(len(self._codes), dtype=bool)
        for known in self._shapes.values():
            where, shares = known.shares.matrix()
            buckets = np.array(edges(*known.shape.shares), dtype=np.float64).reshape(-1, 2)
            sane = np.all((shares >= 0) & (shares <= LARGEST), axis=1)
            told = (shares > 0) & (buckets[:, 1] >= 0)
            counted = told & (shares > LEAST_SHARE)
            # Infinity times no share, and what is not sane.
            with np.errstate(all="ignore"):
                low = np.sum(np.where(counted, buckets[:, 0] * shares, 0.0), axis=1) / 100
                high = np.sum(np.where(told, buckets[:, 1] * shares, 0.0), axis=1) / 100
                whole = np.sum(np.where(told, shares, 0.0), axis=1)
            mean = columns.clat_mean[where]
            silent = (whole < LEAST_WHOLE) | ~measured(columns, "clat")[where]
            good[where] = sane & (silent | is_mean_of(mean, low, high))
        return good


def _stand_once(data: bytes) -> bool:
    """Return whether the keys of `COUNTED` stand once in each direction, if they stand there at all.

    As `fio_document`: the last of equal keys wins, and nothing is said.
    """
    # To look for what two keys have in common is faster, and enough where nothing else has it.
    iops, others = map(data.count, _SHORT)
    return iops == 3 and (others == 6 or all(data.count(key) == 3 for key in _KEYS))  # noqa: PLR2004


def _index(values: list[int]) -> npt.NDArray[np.int64]:
    return np.array(values, dtype=np.int64)
