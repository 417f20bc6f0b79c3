"""The project's nouns as types: cells, builds, guest images, samples' factors."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

FactorValue = str | int

GuestConfig = tuple[tuple[str, FactorValue], ...]
"""One combination of the varied guest factors, as (name, value)."""

FIO_FACTORS = ("rw", "bs", "iodepth", "numjobs", "ioengine")
"""Factors that fio takes: they vary within one session."""

GUEST_FACTORS = (
    "backend", "format", "cache", "aio", "iothreads", "queues", "queue_size", "iothread_mapping",
    "poll_max_ns", "vcpus", "memory", "machine", "hoarder",
)  # fmt: skip
"""Factors of the guest: each combination needs sessions of its own."""

TABLE_FACTORS = ("rw", "bs", "iodepth")
"""Factors that every table shows, varied or not."""

MOST_RISK = 0.5
"""Of a false verdict: `same` rests on an interval at level 1 - 2 alpha, and there is none from here on."""

FIRST_LOOK = 20
"""Blocks before a stopping rule looks: intervals of few blocks may be narrow by luck, and stop too early."""


class Workload(StrEnum):
    """What an experiment does in each session."""

    FIO_MATRIX = "fio-matrix"
    POOL_GROWTH = "pool-growth"
    INSTRUCTIONS = "instructions"


class PoolDriver(StrEnum):
    """Who asks for the I/O of pool-growth."""

    GUEST = "guest"
    """fio, in a real guest."""
    QTEST = "qtest"
    """A driver in the harness, by way of the qtest socket: there is no guest."""


class CountLoad(StrEnum):
    """What the counted process does."""

    VIRTIO_BLK = "virtio-blk"
    QEMU_IMG = "qemu-img"
    COROUTINE_POOL = "coroutine-pool"


class Counter(StrEnum):
    """What counts."""

    CALLGRIND = "callgrind"
    """Instructions."""
    STRACE = "strace"
    """System calls."""


class RingFormat(StrEnum):
    """The format of virtqueues."""

    SPLIT = "split"
    PACKED = "packed"


class Accel(StrEnum):
    """Who executes the guest's instructions."""

    AUTO = "auto"
    KVM = "kvm"
    TCG = "tcg"


class Backend(StrEnum):
    """What stands behind the guest's disk."""

    NULL_CO = "null-co"
    FILE = "file"
    BLOCK = "block"
    NVME = "nvme"


class DiskFormat(StrEnum):
    """The image format of a ``file`` backend."""

    RAW = "raw"
    QCOW2 = "qcow2"


class Aio(StrEnum):
    """How QEMU submits I/O to the host kernel."""

    NATIVE = "native"
    THREADS = "threads"
    IO_URING = "io_uring"


class Cache(StrEnum):
    """QEMU's cache mode of the disk."""

    NONE = "none"
    DIRECTSYNC = "directsync"
    WRITEBACK = "writeback"
    WRITETHROUGH = "writethrough"
    UNSAFE = "unsafe"


class Connection(StrEnum):
    """How the harness reaches into the guest."""

    AGENT = "agent"
    SSH = "ssh"


class Machine(StrEnum):
    """QEMU's machine type."""

    Q35 = "q35"
    PC = "pc"


class NumaMode(StrEnum):
    """How firmly guest memory is kept to host NUMA nodes."""

    STRICT = "strict"
    PREFERRED = "preferred"
    INTERLEAVE = "interleave"


class Tuning(StrEnum):
    """What of the host a run may change while it lasts."""

    NONE = "none"
    ALL = "all"
    GOVERNOR = "governor"
    TURBO = "turbo"
    CSTATES = "cstates"
    NUMA_BALANCING = "numa_balancing"
    KSM = "ksm"
    THP = "thp"
    IRQBALANCE = "irqbalance"
    HALT_POLL = "halt_poll"


class ReadWrite(StrEnum):
    """fio's I/O pattern."""

    READ = "read"
    WRITE = "write"
    RANDREAD = "randread"
    RANDWRITE = "randwrite"
    RW = "rw"
    RANDRW = "randrw"

    @property
    def writes(self) -> bool:
        """Whether the pattern changes what is stored."""
        return self not in {ReadWrite.READ, ReadWrite.RANDREAD}


class IOEngine(StrEnum):
    """fio's engine in the guest."""

    LIBAIO = "libaio"
    IO_URING = "io_uring"
    POSIXAIO = "posixaio"
    PSYNC = "psync"
    SYNC = "sync"
    PVSYNC = "pvsync"
    PVSYNC2 = "pvsync2"

    @property
    def synchronous(self) -> bool:
        """Whether it keeps one request in flight whatever the I/O depth."""
        return self.value.endswith(("sync", "sync2"))


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination of the matrix.

    Attributes:
        rw: fio's I/O pattern (``randread``).
        bs: block size as fio's label (``4k``).
        iodepth: requests in flight a job.
        numjobs: fio jobs.
        ioengine: fio's engine in the guest.
        guest: the guest factors this cell fixes, as (name, value) in the matrix's order.
    """

    rw: str
    bs: str
    iodepth: int
    numjobs: int = 1
    ioengine: str = "libaio"
    guest: GuestConfig = ()

    def factors(self) -> dict[str, FactorValue]:
        """Return every factor with its value: fio's first, then the guest's."""
        fio: dict[str, FactorValue] = {name: getattr(self, name) for name in FIO_FACTORS}
        return fio | dict(self.guest)

    @property
    def label(self) -> str:
        """A short name for messages and file names: ``randread-4k-8``, further factors appended."""
        parts = [self.rw, self.bs, str(self.iodepth)]
        if self.numjobs != 1:
            parts.append(f"jobs{self.numjobs}")
        if self.ioengine != "libaio":
            parts.append(self.ioengine)
        parts += [f"{name}={value}" for name, value in self.guest]
        return "-".join(parts)


@dataclass(frozen=True, slots=True)
class PatchRecord:
    """A patch that a build was made with.

    Attributes:
        name: as the experiment names it.
        sha256: of its content.
    """

    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """What a build from source was made of.

    Attributes:
        location: the repository or tarball, without credentials.
        ref: as the experiment has it; None of a tarball.
        commit: what the ref was; None of a tarball.
        tarball_sha256: of the tarball; None of a commit.
        patches: in the order they were applied.
        configure: the experiment's own arguments.
        compiler: its version and target.
        key: of the build in the cache: a hash over all that goes into it.
    """

    location: str
    ref: str | None
    commit: str | None
    tarball_sha256: str | None
    patches: tuple[PatchRecord, ...]
    configure: tuple[str, ...]
    compiler: str
    key: str

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> SourceRecord:
        """Return the record that JSON holds.

        Raises:
            TypeError: it holds something else.
        """
        lists = {
            "patches": tuple(PatchRecord(**patch) for patch in raw["patches"]),
            "configure": tuple(raw["configure"]),
        }
        return cls(**{**raw, **lists})

    @property
    def summary(self) -> str:
        """What it is, in a line: ``~/qemu v10.0.2 (abcdef012345) + my.patch``."""
        which = f"{self.ref} ({(self.commit or '')[:12]})" if self.ref else (self.tarball_sha256 or "")[:12]
        parts = [f"{self.location} {which}", *(f"+ {patch.name}" for patch in self.patches), *self.configure]
        return " ".join(parts)


@dataclass(frozen=True, slots=True)
class BuildRecord:
    """A provisioned build, pinned.

    Attributes:
        name: the variant's name in the experiment (``OLD``).
        kind: ``path``, ``package``, ``git`` or ``tarball``.
        emulator: what libvirt starts: the binary itself, or a launcher that ends in ``exec`` of it.
        binary: the QEMU executable, as /proc/PID/exe will show it.
        sha256: of the binary.
        version: QEMU's own version line.
        package_version: the distribution's version, if it came from a package.
        source: what it was built from, if the harness built it.
    """

    name: str
    kind: str
    emulator: str
    binary: str
    sha256: str
    version: str
    package_version: str | None = None
    source: SourceRecord | None = None

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> BuildRecord:
        """Return the record that JSON holds, of this version or an older one.

        Raises:
            KeyError: a part of it is missing.
            TypeError: it holds something else.
        """
        source = raw.get("source")
        return cls(**{**raw, "source": SourceRecord.read(source) if source else None})


@dataclass(frozen=True, slots=True)
class GuestImage:
    """A provisioned guest image: kernel and initramfs, or a disk.

    Attributes:
        kernel: path of the kernel on the host; empty where the disk brings its own.
        initrd: path of the initramfs on the host, likewise.
        sha256: over kernel and initramfs; of a disk image, that of the user's file.
        kernel_version: the guest kernel's release.
        fio_version: fio in the guest.
        source: the user's disk image; None of the others here and below without one.
        disk: the harness's own copy of it (qcow2), made ready for fio, which sessions have their overlays on.
        disk_sha256: of that copy.
        distribution: as the guest calls itself.
        fio_script: fio.sh in the guest, where the playbook put it.
    """

    kernel: str
    initrd: str
    sha256: str
    kernel_version: str
    fio_version: str
    source: str | None = None
    disk: str | None = None
    disk_sha256: str | None = None
    distribution: str | None = None
    fio_script: str | None = None
