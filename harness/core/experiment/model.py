"""The experiment as types: what an experiment file may say, and the combinations it asks for.

No ``from __future__ import annotations`` here: pydantic reads these annotations when the module is loaded.
"""

from itertools import product
from typing import Annotated, Any, TypeVar

from pydantic import Field, model_validator

from harness.core.errors import InputError, Problem
from harness.core.experiment import values as v
from harness.core.experiment.builds import BuildChoice
from harness.core.experiment.section import Section
from harness.core.experiment.yaml_text import write_yaml
from harness.core.model import (
    FIO_FACTORS,
    GUEST_FACTORS,
    TABLE_FACTORS,
    Accel,
    Aio,
    Backend,
    Cache,
    Cell,
    Connection,
    CountLoad,
    DiskFormat,
    FactorValue,
    GuestConfig,
    IOEngine,
    Machine,
    NumaMode,
    PoolDriver,
    ReadWrite,
    RingFormat,
    Tuning,
    Workload,
)
from harness.core.units import format_size

RW_ALIASES = {"readwrite": "rw"}

MICRO = "micro"
"""The guest image that the harness builds."""

WorkloadName = Annotated[Workload, v.choice_reader(Workload), v.choice_schema(Workload)]
AccelName = Annotated[Accel, v.choice_reader(Accel), v.choice_schema(Accel)]
BackendName = Annotated[Backend, v.choice_reader(Backend), v.choice_schema(Backend)]
FormatName = Annotated[DiskFormat, v.choice_reader(DiskFormat), v.choice_schema(DiskFormat)]
CacheName = Annotated[Cache, v.choice_reader(Cache), v.choice_schema(Cache)]
AioName = Annotated[Aio, v.choice_reader(Aio), v.choice_schema(Aio)]
ConnectionName = Annotated[Connection, v.choice_reader(Connection), v.choice_schema(Connection)]
MachineName = Annotated[Machine, v.choice_reader(Machine), v.choice_schema(Machine)]
PoolDriverName = Annotated[PoolDriver, v.choice_reader(PoolDriver), v.choice_schema(PoolDriver)]
NumaModeName = Annotated[NumaMode, v.choice_reader(NumaMode), v.choice_schema(NumaMode)]
ReadWriteName = Annotated[
    ReadWrite, v.choice_reader(ReadWrite, RW_ALIASES), v.choice_schema(ReadWrite, RW_ALIASES)
]
IOEngineName = Annotated[IOEngine, v.choice_reader(IOEngine), v.choice_schema(IOEngine)]
CountLoadName = Annotated[CountLoad, v.choice_reader(CountLoad), v.choice_schema(CountLoad)]
TuningName = Annotated[Tuning, v.choice_reader(Tuning), v.choice_schema(Tuning)]
RingFormatName = Annotated[RingFormat, v.choice_reader(RingFormat), v.choice_schema(RingFormat)]

_T = TypeVar("_T")
Values = Annotated[tuple[_T, ...], v.OneOrMore()]


# -- the guest and its disk ----------------------------------------------------------------------------------


class Ssh(Section):
    """How to log in to an image of the user's that has no cloud-init; by a key, never by a password."""

    key: v.AbsolutePath = Field(description="Your private key, as this host's ssh reads it; no passphrase.")
    host_key: v.PublicKey = Field(
        description="The guest's public host key (ssh-ed25519 AAAA...): no other host is spoken to."
    )
    user: v.LoginName = Field(
        default="root", description="Who logs in: root, or somebody who may sudo without a password."
    )
    port: v.Port = Field(default=22, description="The port of the guest's sshd.")


class Guest(Section):
    """The virtual machine that fio runs in."""

    memory: v.MemorySize = Field(default=2**30, description="Memory of the guest.")
    vcpus: v.VcpuCount = Field(default=2, description="Virtual CPUs.")
    image: v.Line = Field(
        default=MICRO,
        description="The guest's system: micro (built by the harness), or the path of a disk image.",
    )
    prepare: v.Switch = Field(
        default=True,
        description="Have a playbook put fio into a copy of the image, once; false: it is there already.",
    )
    ssh: Ssh | None = Field(
        default=None,
        description="How to log in to an image without cloud-init, whose seed does it otherwise.",
    )
    kernel: v.AbsolutePath | None = Field(
        default=None, description="A kernel of your own instead of the image's; together with initrd."
    )
    initrd: v.AbsolutePath | None = Field(
        default=None, description="An initramfs of your own instead of the image's; together with kernel."
    )
    cmdline: v.Line = Field(default="", description="Appended to the guest kernel's command line.")
    machine: MachineName = Field(default=Machine.Q35, description="QEMU's machine type.")
    cpu: v.CpuModel = Field(
        default="auto",
        description="The CPU model: auto (host-passthrough under KVM, maximum under TCG) or a name.",
    )
    connection: ConnectionName = Field(
        default=Connection.AGENT, description="How the harness reaches into the guest: agent or ssh."
    )

    @property
    def disk_image(self) -> str | None:
        """The user's disk image; None where the guest is the micro one."""
        return None if self.image == MICRO else self.image

    @property
    def prepares(self) -> bool:
        """Whether a playbook puts fio into a copy of the image."""
        return self.disk_image is not None and self.prepare

    @property
    def reached_by_ssh(self) -> bool:
        """Whether SSH is ever needed: to measure, or to prepare the image."""
        return self.disk_image is not None and (self.connection is Connection.SSH or self.prepare)


class Poll(Section):
    """How IOThreads poll before they sleep; unset is QEMU's default (max_ns 32768)."""

    max_ns: v.Natural | None = Field(
        default=None, description="Longest polling time in ns; 0 switches polling off."
    )
    grow: v.Natural | None = Field(default=None, description="Factor by which the polling time grows.")
    shrink: v.Natural | None = Field(default=None, description="Divisor by which the polling time shrinks.")

    def __bool__(self) -> bool:
        """Whether anything is set."""
        return (self.max_ns, self.grow, self.shrink) != (None, None, None)


class Disk(Section):
    """The virtio-blk disk that fio measures."""

    backend: BackendName = Field(default=Backend.NULL_CO, description="What stands behind the disk.")
    path: v.Line | None = Field(
        default=None,
        description="The image file, block device or NVMe PCI address (0000:01:00.0); a file may be left to "
        "the harness.",
    )
    size: v.DiskSize = Field(
        default=2**30, description="Size of the disk, for null-co and files the harness makes."
    )
    format: FormatName = Field(default=DiskFormat.RAW, description="The image format of a file.")
    cache: CacheName = Field(default=Cache.NONE, description="QEMU's cache mode.")
    aio: AioName = Field(default=Aio.NATIVE, description="How QEMU submits I/O to the host kernel.")
    iothreads: v.IOThreadCount = Field(
        default=1, description="IOThreads; 0 serves the disk in QEMU's main loop."
    )
    queues: v.QueueCount = Field(default=1, description="virtio queues of the disk.")
    queue_size: v.QueueSize = Field(default=128, description="Requests a virtio queue holds, a power of two.")
    iothread_mapping: v.Switch = Field(
        default=False, description="Spread the virtio queues over all IOThreads."
    )
    poll: Poll = Field(default=Poll(), description="Polling of the IOThreads.")
    latency: v.PositiveDuration | None = Field(
        default=None, description="Time after which null-co answers a request; default: at once."
    )
    destroy_data: v.Line | None = Field(
        default=None,
        description="Lets write workloads destroy what is stored there: path once more. A device has to be "
        "named by its id, /dev/disk/by-id/...; for nvme, the id of the device at that address.",
    )


# -- placement -----------------------------------------------------------------------------------------------


class Numa(Section):
    """Where the guest's memory comes from."""

    nodeset: v.CpuSet = Field(description="Host NUMA nodes, e.g. 0 or 0-1.")
    mode: NumaModeName = Field(default=NumaMode.STRICT, description="How firmly memory is kept to them.")


class Placement(Section):
    """Which host CPUs and memory the guest uses; unset leaves it to the host's scheduler."""

    vcpupin: dict[v.Index, v.CpuSet] = Field(default={}, description="vCPU number (from 0): host CPUs.")
    iothreadpin: dict[v.Index, v.CpuSet] = Field(
        default={}, description="IOThread number (from 1): host CPUs."
    )
    emulatorpin: v.CpuSet | None = Field(default=None, description="Host CPUs of QEMU's other threads.")
    numa: Numa | None = Field(default=None, description="Host NUMA nodes of the guest's memory.")
    hugepages: v.HugePages = Field(
        default=False, description="Guest memory from huge pages: true or their size."
    )
    locked: v.Switch = Field(default=False, description="Lock the guest's memory in RAM.")


# -- the matrix ----------------------------------------------------------------------------------------------


class Matrix(Section):
    """What is varied: every combination is a cell. A single value needs no list."""

    rw: Values[ReadWriteName] = Field(default=(ReadWrite.RANDREAD,), description="fio's I/O pattern.")
    bs: Values[v.BlockSize] = Field(default=("4k",), description="Block size, a multiple of 512.")
    iodepth: Values[v.Count] = Field(default=(1,), description="Requests in flight a job.")
    numjobs: Values[v.Count] | None = Field(default=None, description="fio jobs; default 1.")
    ioengine: Values[IOEngineName] | None = Field(default=None, description="fio's engine; default libaio.")
    backend: Values[BackendName] | None = Field(default=None, description="Varies disk.backend.")
    format: Values[FormatName] | None = Field(default=None, description="Varies disk.format.")
    cache: Values[CacheName] | None = Field(default=None, description="Varies disk.cache.")
    aio: Values[AioName] | None = Field(default=None, description="Varies disk.aio.")
    iothreads: Values[v.IOThreadCount] | None = Field(default=None, description="Varies disk.iothreads.")
    queues: Values[v.QueueCount] | None = Field(default=None, description="Varies disk.queues.")
    queue_size: Values[v.QueueSize] | None = Field(default=None, description="Varies disk.queue_size.")
    iothread_mapping: Values[v.Switch] | None = Field(
        default=None, description="Varies disk.iothread_mapping."
    )
    poll_max_ns: Values[v.Natural] | None = Field(default=None, description="Varies disk.poll.max_ns.")
    vcpus: Values[v.VcpuCount] | None = Field(default=None, description="Varies guest.vcpus.")
    memory: Values[v.MemorySize] | None = Field(default=None, description="Varies guest.memory.")
    machine: Values[MachineName] | None = Field(default=None, description="Varies guest.machine.")
    hoarder: Values[v.Switch] | None = Field(default=None, description="Varies instructions.hoarder.")

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
} | {"poll_max_ns": ("disk", "poll", "max_ns"), "hoarder": ("instructions", "hoarder")}
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


# -- the coroutine pool --------------------------------------------------------------------------------------


class Pool(Section):
    """What `workload: pool-growth` does: rounds of a burst on some disks, then a request to another one.

    The disks of the burst are null-co with a latency and share one IOThread. A burst fills their queues
    once. Each round's light I/O is one request to a disk with an IOThread of its own, idle until then.
    """

    driver: PoolDriverName = Field(
        default=PoolDriver.GUEST, description="guest: fio in a real guest; qtest: no guest, seconds."
    )
    rounds: v.RoundCount = Field(default=6, description="Rounds: each a burst, then a request elsewhere.")
    burst_disks: v.BurstDiskCount = Field(default=4, description="Disks that take the burst.")
    queue_size: v.QueueSize = Field(default=1024, description="Requests in flight on each of them.")
    latency: v.PositiveDuration = Field(
        default=2.0, description="Time after which they answer; longer than it takes to fill their queues."
    )
    to_the_limit: v.Switch = Field(
        default=False, description="Go on for limit_rounds, or until QEMU aborts: an abort is a result."
    )
    limit_rounds: v.RoundCount = Field(default=10, description="The end of it where QEMU survives.")

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


# -- how it is measured --------------------------------------------------------------------------------------


class Protocol(Section):
    """How often and how long is measured, and how the answer is judged."""

    blocks: v.Count = Field(
        default=30,
        description="Blocks: each boots every variant once, in random order. Not used with until.",
    )
    iterations: v.Count = Field(default=1, description="fio runs of each cell in each session.")
    runtime: v.PositiveDuration = Field(default=5.0, description="Measured time of one fio run.")
    ramp: v.Duration = Field(default=1.0, description="fio's warm-up before it, not counted.")
    seed: v.Natural = Field(default=1, description="Fixes the random order of the plan.")
    margin: v.Fraction = Field(default=0.02, description="A change smaller than this does not matter.")
    alpha: v.Risk = Field(default=0.05, description="Accepted risk of a false verdict, over all cells.")
    until: v.Fraction | None = Field(
        default=None,
        description="Go on until every interval is at most this far to either side, from 20 blocks on.",
    )
    max_blocks: v.Count = Field(default=60, description="The end of it where until is not reached.")
    retries: v.Natural = Field(
        default=1,
        description="How often a session is tried again whose guest did not answer in time.",
    )
    give_up_after: v.Count = Field(
        default=2, description="Sessions of one variant in a row that gave nothing, which end the run."
    )


BOOT_SECONDS = {Accel.KVM: 60.0, Accel.TCG: 180.0}
"""How long a guest may take to boot where the file does not say: emulation is slow."""

IMAGE_BOOT_SECONDS = {Accel.KVM: 180.0, Accel.TCG: 900.0}
"""Likewise from a disk image: firmware, boot loader, services, cloud-init."""


TASK_SECONDS, COMPILE_SECONDS = 1800.0, 4 * 3600.0
"""How long one task of a playbook may take: one that installs packages, one that compiles a QEMU."""


class Timeouts(Section):
    """After what time the harness gives up waiting."""

    boot: v.PositiveDuration | None = Field(
        default=None,
        description="From the guest's start to its answer; default 60s under KVM, 180s under TCG; where the "
        "image is a disk, 180s and 900s.",
    )
    agent: v.PositiveDuration = Field(default=10.0, description="One answer of the guest agent.")
    fio_grace: v.PositiveDuration = Field(
        default=30.0, description="What a fio run may take beyond ramp and runtime."
    )
    destroy: v.PositiveDuration = Field(default=30.0, description="The end of the QEMU process.")
    task: v.PositiveDuration | None = Field(
        default=None,
        description="One task of a playbook; default 30m, where a build is compiled 4h.",
    )

    def task_seconds(self, *, compiles: bool) -> float:
        """Return how long one task of a playbook may take."""
        return self.task if self.task is not None else (COMPILE_SECONDS if compiles else TASK_SECONDS)

    def boot_seconds(self, accel: Accel, *, disk_image: bool = False) -> float:
        """Return how long a guest may take to boot under an accelerator."""
        known = IMAGE_BOOT_SECONDS if disk_image else BOOT_SECONDS
        return self.boot if self.boot is not None else known.get(accel, known[Accel.TCG])


class Instructions(Section):
    """How instructions are counted; only for ``workload: instructions``."""

    load: CountLoadName = Field(
        default=CountLoad.VIRTIO_BLK,
        description="What is counted: virtio-blk (QEMU's device), qemu-img (`qemu-img bench`) or "
        "coroutine-pool (bursts of iodepth requests in flight at once: what the pool's misses cost).",
    )
    ring: RingFormatName = Field(default=RingFormat.SPLIT, description="The virtqueues' format.")
    indirect: v.Switch = Field(
        default=False,
        description="Requests as indirect descriptors: one descriptor of the queue each, instead of three.",
    )
    disks: v.CountedDisks = Field(
        default=1,
        description="Disks that take turns, or share each burst of coroutine-pool; all of the same kind.",
    )
    hoarder: v.Switch = Field(
        default=False,
        description="After each burst of coroutine-pool, a request to an IOThread that was idle until then.",
    )
    requests: v.Count = Field(
        default=800, description="Requests between the two counts of which the difference is taken."
    )
    repeats: v.Count = Field(
        default=3, description="How often both are counted: what repeats differ by is the resolution."
    )
    margin: v.Fraction = Field(
        default=0.005, description="A change of instructions a request smaller than this does not matter."
    )
    timeout: v.PositiveDuration | None = Field(
        default=None, description="The end of one count; default 120s and 4ms a request."
    )

    @property
    def count_seconds(self) -> float:
        """How long one count may take; it serves up to twice the requests."""
        return self.timeout if self.timeout is not None else 120 + 0.004 * self.requests


# -- the whole -----------------------------------------------------------------------------------------------


class Experiment(Section):
    """The declared question: which builds, in which guest, doing what, measured how."""

    name: v.VariantName = Field(description="A short name; run directories are called by it.")
    description: v.Text = Field(default="", description="What the experiment is to find out.")
    workload: WorkloadName = Field(default=Workload.FIO_MATRIX, description="What each session does.")
    builds: dict[v.VariantName, BuildChoice] = Field(
        description="The QEMU builds by their variants' names (OLD, NEW, ...); two or more."
    )
    baseline: v.Line = Field(description="The variant that the others are compared with.")
    libvirt: v.LibvirtUri = Field(default="qemu:///embed", description="The libvirt to start guests with.")
    accel: AccelName = Field(
        default=Accel.AUTO, description="kvm, tcg, or auto: KVM where a guest really boots."
    )
    guest: Guest = Field(default=Guest(), description="The guest.")
    disk: Disk = Field(default=Disk(), description="The disk that is measured.")
    placement: Placement = Field(default=Placement(), description="Host CPUs and memory of the guest.")
    tuning: Values[TuningName] = Field(
        default=(Tuning.NONE,),
        description="Host settings a run may change while it lasts: none, all, or a list of them.",
    )
    matrix: Matrix = Field(default=Matrix(), description="What is varied, of fio and of the guest.")
    pool: Pool = Field(default=Pool(), description="The rounds of the workload pool-growth.")
    protocol: Protocol = Field(default=Protocol(), description="Repetition, durations and judgement.")
    instructions: Instructions = Field(
        default=Instructions(), description="How instructions are counted (workload: instructions)."
    )
    timeouts: Timeouts = Field(default=Timeouts(), description="After what time waiting ends.")

    @model_validator(mode="before")
    @classmethod
    def _few_blocks_of_rounds(cls, document: Any) -> Any:
        """Make one block the default of pool-growth: its rounds repeat, and it shows no matter of 2 %."""
        if not isinstance(document, dict) or document.get("workload") != Workload.POOL_GROWTH:
            return document
        protocol = document.get("protocol", {})
        if not isinstance(protocol, dict) or "blocks" in protocol:
            return document
        return {**document, "protocol": {**protocol, "blocks": 1}}

    @property
    def variants(self) -> tuple[str, ...]:
        """The builds' names: the baseline first, then the file's order."""
        return (self.baseline, *self.contenders)

    @property
    def contenders(self) -> tuple[str, ...]:
        """The builds that are compared with the baseline, in the file's order."""
        return tuple(name for name in self.builds if name != self.baseline)

    def varied_factors(self) -> tuple[str, ...]:
        """Return the factors a table has columns for: rw, bs, iodepth and what else the matrix names."""
        further = (f for f in (*FIO_FACTORS, *GUEST_FACTORS) if f not in TABLE_FACTORS)
        return (*TABLE_FACTORS, *(factor for factor in further if self.matrix.given(factor)))

    def guest_configs(self) -> tuple[GuestConfig, ...]:
        """Return every combination of the varied guest factors: one empty combination when none vary."""
        named = [factor for factor in GUEST_FACTORS if self.matrix.given(factor)]
        combinations = product(*(self.matrix.values(factor) for factor in named))
        return tuple(tuple(zip(named, combination, strict=True)) for combination in combinations)

    def cells(self) -> tuple[Cell, ...]:
        """Return every combination in the matrix's order: guest factors outermost, ioengine innermost.

        The workload pool-growth has one cell, its burst.
        """
        if self.workload is Workload.POOL_GROWTH:
            return (Cell(rw=ReadWrite.RANDREAD.value, bs="4k", iodepth=self.pool.queue_size),)
        fio = [self.matrix.values(factor) for factor in FIO_FACTORS]
        return tuple(
            Cell(
                rw=str(rw),
                bs=str(bs),
                iodepth=int(depth),
                numjobs=int(jobs),
                ioengine=str(engine),
                guest=config,
            )
            for config in self.guest_configs()
            for rw, bs, depth, jobs, engine in product(*fio)
        )

    def for_guest(self, config: GuestConfig) -> "Experiment":
        """Return the experiment of one guest configuration: the disk and guest as that combination has them.

        Its matrix keeps of each varied guest factor this one value, so its cells are those of this guest.

        Raises:
            InputError: the combination is not possible.
        """
        from harness.core.experiment.checks import problems_of_one_guest

        single = self.with_guest(config)
        findings = problems_of_one_guest(single)
        if findings:
            label = ", ".join(f"{name}={value}" for name, value in config)
            raise InputError(
                [Problem(f"matrix ({label})" if label else f.key, f.message, f.remedy) for f in findings]
            )
        return single

    def with_guest(self, config: GuestConfig) -> "Experiment":
        """Return the experiment of one guest configuration without checking whether it is possible."""
        document = self.model_dump()
        for factor, value in config:
            section = document
            *outer, key = GUEST_FACTOR_PATHS[factor]
            for name in outer:
                section = section[name]
            section[key] = value
            document["matrix"][factor] = [value]
        return Experiment.model_validate(document)

    def to_yaml(self) -> str:
        """Return the experiment as YAML, every default written out; load_experiment reads it back."""
        document = self.model_dump(mode="json", exclude_none=True)
        return write_yaml(document)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of experiment files, for editors."""
    schema = Experiment.model_json_schema(mode="validation")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "A QEMU A/B experiment",
    }
