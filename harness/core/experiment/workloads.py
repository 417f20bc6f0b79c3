"""What is done and what is varied: the matrix, the pool's rounds, the counting of instructions.

No ``from __future__ import annotations`` here: pydantic reads these annotations when the module is loaded.
"""

from pydantic import Field

from harness.core.experiment import quantities as q
from harness.core.experiment import values as v
from harness.core.experiment.choices import (
    AioName,
    BackendName,
    CacheName,
    CoroutineTestName,
    CountLoadName,
    FormatName,
    IOEngineName,
    MachineName,
    PoolDriverName,
    ReadWriteName,
    RingFormatName,
)
from harness.core.experiment.section import Section
from harness.core.model import (
    GUEST_FACTORS,
    CountLoad,
    FactorValue,
    IOEngine,
    PoolDriver,
    ReadWrite,
    RingFormat,
)
from harness.core.units import format_size


class Matrix(Section):
    """What is varied: every combination is a cell. A single value needs no list."""

    rw: v.Values[ReadWriteName] = Field(default=(ReadWrite.RANDREAD,), description="fio's I/O pattern.")
    bs: v.Values[q.BlockSize] = Field(default=("4k",), description="Block size, a multiple of 512.")
    iodepth: v.Values[q.Count] = Field(default=(1,), description="Requests in flight a job.")
    numjobs: v.Values[q.Count] | None = Field(default=None, description="fio jobs; default 1.")
    ioengine: v.Values[IOEngineName] | None = Field(default=None, description="fio's engine; default libaio.")
    backend: v.Values[BackendName] | None = Field(default=None, description="Varies disk.backend.")
    format: v.Values[FormatName] | None = Field(default=None, description="Varies disk.format.")
    cache: v.Values[CacheName] | None = Field(default=None, description="Varies disk.cache.")
    aio: v.Values[AioName] | None = Field(default=None, description="Varies disk.aio.")
    iothreads: v.Values[q.IOThreadCount] | None = Field(default=None, description="Varies disk.iothreads.")
    queues: v.Values[q.QueueCount] | None = Field(default=None, description="Varies disk.queues.")
    queue_size: v.Values[q.QueueSize] | None = Field(default=None, description="Varies disk.queue_size.")
    iothread_mapping: v.Values[v.Switch] | None = Field(
        default=None, description="Varies disk.iothread_mapping."
    )
    poll_max_ns: v.Values[q.Natural] | None = Field(default=None, description="Varies disk.poll.max_ns.")
    vcpus: v.Values[q.VcpuCount] | None = Field(default=None, description="Varies guest.vcpus.")
    memory: v.Values[q.MemorySize] | None = Field(default=None, description="Varies guest.memory.")
    machine: v.Values[MachineName] | None = Field(default=None, description="Varies guest.machine.")
    hoarder: v.Values[v.Switch] | None = Field(default=None, description="Varies instructions.hoarder.")
    test: v.Values[CoroutineTestName] | None = Field(
        default=None, description="Benchmarks of QEMU's test-coroutine (instructions.load: test-coroutine)."
    )

    def given(self, factor: str) -> bool:
        """Return whether the file names the factor."""
        return getattr(self, factor) is not None

    def values(self, factor: str) -> tuple[FactorValue, ...]:
        """Return a factor's values as cells hold them; none if it is a guest factor that does not vary."""
        values = getattr(self, factor)
        if values is None:
            default: dict[str, tuple[FactorValue, ...]] = {
                "numjobs": (1,),
                "ioengine": (IOEngine.LIBAIO.value,),
            }
            return default.get(factor, ())
        return tuple(factor_value(factor, value) for value in values)


GUEST_FACTOR_PATHS = {
    factor: ("guest", factor) if factor in {"vcpus", "memory", "machine"} else ("disk", factor)
    for factor in GUEST_FACTORS
} | {
    "poll_max_ns": ("disk", "poll", "max_ns"),
    "hoarder": ("instructions", "hoarder"),
    "test": ("matrix", "test"),
}
"""The key that each guest factor of the matrix overrides."""


def factor_value(factor: str, value: object) -> FactorValue:
    """Return a factor's value as cells, tables and file names hold it: plain text or a number."""
    if factor == "memory" and isinstance(value, int):
        return format_size(value)
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return value
    raise TypeError(f"{factor}: {value!r} is no factor's value")


class Pool(Section):
    """What `workload: pool-growth` does: rounds of a burst on some disks, then a request to another one.

    The disks of the burst are null-co with a latency and share one IOThread. A burst fills their queues
    once. Each round's light I/O is one request to a disk with an IOThread of its own, idle until then.
    """

    driver: PoolDriverName = Field(
        default=PoolDriver.GUEST, description="guest: fio in a real guest; qtest: no guest, seconds."
    )
    rounds: q.RoundCount = Field(default=6, description="Rounds: each a burst, then a request elsewhere.")
    burst_disks: q.BurstDiskCount = Field(default=4, description="Disks that take the burst.")
    queue_size: q.QueueSize = Field(default=1024, description="Requests in flight on each of them.")
    latency: q.PositiveDuration = Field(
        default=2.0, description="Time after which they answer; longer than it takes to fill their queues."
    )
    to_the_limit: v.Switch = Field(
        default=False, description="Go on for limit_rounds, or until QEMU aborts: an abort is a result."
    )
    limit_rounds: q.RoundCount = Field(default=10, description="The end of it where QEMU survives.")

    @property
    def planned_rounds(self) -> int:
        """How many rounds a session has at most."""
        return max(self.rounds, self.limit_rounds) if self.to_the_limit else self.rounds

    @property
    def guestless(self) -> bool:
        """Whether a driver outside asks for the I/O, of a QEMU without any guest."""
        return self.driver is PoolDriver.QTEST

    @property
    def in_flight(self) -> int:
        """The most requests in flight at once: the coroutines any pool must allow."""
        return self.burst_disks * self.queue_size


class Instructions(Section):
    """How instructions are counted; only for ``workload: instructions``."""

    load: CountLoadName = Field(
        default=CountLoad.VIRTIO_BLK,
        description="What is counted: virtio-blk (QEMU's device), qemu-img (`qemu-img bench`), "
        "coroutine-pool (bursts of iodepth requests in flight at once: what the pool's misses cost) or "
        "test-coroutine (benchmarks of QEMU's coroutines, of builds from source).",
    )
    ring: RingFormatName = Field(default=RingFormat.SPLIT, description="The virtqueues' format.")
    indirect: v.Switch = Field(
        default=False,
        description="Requests as indirect descriptors: one descriptor of the queue each, instead of three.",
    )
    disks: q.CountedDisks = Field(
        default=1,
        description="Disks that take turns, or share each burst of coroutine-pool; all of the same kind.",
    )
    hoarder: v.Switch = Field(
        default=False,
        description="After each burst of coroutine-pool, a request to an IOThread that was idle until then.",
    )
    requests: q.Count = Field(
        default=800, description="Requests between the two counts of which the difference is taken."
    )
    repeats: q.Count = Field(
        default=3, description="How often both are counted: what repeats differ by is the resolution."
    )
    margin: q.Fraction = Field(
        default=0.005, description="A change of instructions a request smaller than this does not matter."
    )
    cycles: v.Switch = Field(
        default=False,
        description="Simulate caches and branches too, and estimate the cycles of a request; takes longer.",
    )
    timeout: q.PositiveDuration | None = Field(
        default=None, description="The end of one count; default 120s and 4ms a request."
    )

    @property
    def count_seconds(self) -> float:
        """How long one count may take; it serves up to twice the requests."""
        return self.timeout if self.timeout is not None else 120 + 0.004 * self.requests
