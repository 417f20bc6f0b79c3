"""Shapes of fio's reports: what keys stand where. A report whose shape is known is decoded faster.

Percentiles and shares of latency are most of a report's numbers, under keys that are the same in all reports
of one fio with the same options. Once they were met they are fields, which cost neither a text nor a dict.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import msgspec
from msgspec import UNSET, Raw, UnsetType
from msgspec.structs import astuple

if TYPE_CHECKING:
    from collections.abc import Callable

Keys: TypeAlias = tuple[str, ...]

numbers: Callable[[Any], tuple[float, ...]] = astuple
"""Returns what stands under the keys of a shape, in their order, of a report that `decoder_of` decoded."""


class Latency(msgspec.Struct, frozen=True, gc=False):
    """A kind of latency. Of a known shape, the percentiles are a struct."""

    min: float = math.nan
    max: float = math.nan
    mean: float = math.nan
    samples: float = msgspec.field(name="N", default=math.nan)
    percentile: dict[str, float] | None = None


class Direction(msgspec.Struct, gc=False):
    """What a job did in one direction."""

    iops: float
    bw: float
    bw_bytes: float
    io_bytes: float
    io_kbytes: float
    runtime: float
    total_ios: float
    slat_ns: Latency = Latency()
    clat_ns: Latency = Latency()
    lat_ns: Latency = Latency()
    clat: Raw | UnsetType = UNSET
    lat: Raw | UnsetType = UNSET


class Job(msgspec.Struct, gc=False):
    """A job. Of a known shape, the shares of latency are structs."""

    jobname: str
    groupid: int
    error: int
    eta: int
    read: Direction
    write: Direction
    trim: Direction
    job_runtime: float
    usr_cpu: float
    sys_cpu: float
    options: Raw = msgspec.field(name="job options")
    latency_ns: dict[str, float] = {}
    latency_us: dict[str, float] = {}
    latency_ms: dict[str, float] = {}
    total_err: float = 0.0
    mixed: Raw | UnsetType = UNSET
    hostname: Raw | UnsetType = UNSET


class Report(msgspec.Struct, gc=False):
    """What fio prints."""

    timestamp_ms: float
    jobs: list[Job]
    version: str = msgspec.field(name="fio version")
    shared: Raw = msgspec.field(name="global options", default=Raw(b"{}"))
    client_stats: Raw | UnsetType = UNSET


class Shape(NamedTuple):
    """What is under which keys in a report of one job that moved data in one direction.

    Attributes:
        direction: read, write or trim.
        clat: of the percentiles of its completion latency; nothing where there are none.
        lat: of those of its latency.
        shares: of latency_ns, latency_us and latency_ms.
    """

    direction: str
    clat: Keys
    lat: Keys
    shares: tuple[Keys, Keys, Keys]

    @property
    def size(self) -> int:
        """How many keys these are."""
        return len(self.clat) + len(self.lat) + sum(map(len, self.shares))


_ANY = msgspec.json.Decoder(Report)


def decode(data: bytes) -> Report:
    """Decode a report of any shape.

    Raises:
        msgspec.DecodeError, RecursionError: it is none.
    """
    return _ANY.decode(data)


def active(job: Job) -> str | None:
    """Return the one direction in which a job moved data; None where there is none, or more of them."""
    found = [
        name
        for name, section in (("read", job.read), ("write", job.write), ("trim", job.trim))
        if section.iops or section.total_ios
    ]
    return found[0] if len(found) == 1 else None


def shape_of(job: Job, direction: str) -> Shape:
    """Return the shape of a report that was decoded as one of any shape."""
    section: Direction = getattr(job, direction)
    return Shape(
        direction,
        tuple(section.clat_ns.percentile or ()),
        tuple(section.lat_ns.percentile or ()),
        (tuple(job.latency_ns), tuple(job.latency_us), tuple(job.latency_ms)),
    )


@functools.lru_cache(maxsize=32)
def decoder_of(shape: Shape) -> msgspec.json.Decoder[Report]:
    """Return a decoder that refuses every other shape, but for what is in the other directions.

    In the reports that it returns `percentile` of this direction, where the shape has any, and `latency_ns`,
    `latency_us` and `latency_ms` are structs: see `numbers`.
    """
    latencies = {"clat_ns": shape.clat, "lat_ns": shape.lat}
    section = msgspec.defstruct(
        "Section",
        [_latency(name, keys) for name, keys in latencies.items()],
        bases=(Direction,),
        gc=False,
        kw_only=True,
    )
    job: Any = msgspec.defstruct(
        "ShapedJob",
        [
            (shape.direction, section),
            *_shares(("latency_ns", "latency_us", "latency_ms"), shape.shares),
        ],
        bases=(Job,),
        gc=False,
        kw_only=True,
    )
    report = msgspec.defstruct("ShapedReport", [("jobs", list[job])], bases=(Report,), gc=False, kw_only=True)
    return msgspec.json.Decoder(report)


def _latency(name: str, keys: Keys) -> tuple[Any, ...]:
    """Return the field of a kind of latency; one with percentiles has to be there."""
    if not keys:
        percentile: tuple[Any, ...] = ("percentile", _numbers("Percentiles", ()) | None, None)
        kind = msgspec.defstruct("ShapedLatency", [percentile], bases=(Latency,), frozen=True, gc=False)
        return (name, kind, kind())
    kind = msgspec.defstruct(
        "ShapedLatency",
        [("percentile", _numbers("Percentiles", keys))],
        bases=(Latency,),
        frozen=True,
        gc=False,
        kw_only=True,
    )
    return (name, kind)


def _shares(names: Keys, shares: tuple[Keys, ...]) -> list[tuple[Any, ...]]:
    kinds = [_numbers("Shares", keys) for keys in shares]
    return [
        (name, kind) if keys else (name, kind, kind())
        for name, keys, kind in zip(names, shares, kinds, strict=True)
    ]


def _numbers(name: str, keys: Keys) -> type[msgspec.Struct]:
    """Return a struct of numbers under these keys, and no others."""
    fields = {f"n{number}": key for number, key in enumerate(keys)}
    return msgspec.defstruct(
        name,
        [(field, float) for field in fields],
        rename=fields,
        forbid_unknown_fields=True,
        frozen=True,
        gc=False,
    )
