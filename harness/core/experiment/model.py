"""The experiment as a type: what an experiment file may say, and the combinations it asks for.

No ``from __future__ import annotations`` here: pydantic reads these annotations when the module is loaded.
"""

from itertools import product
from typing import Any

from pydantic import Field, model_validator

from harness.core.errors import InputError, Problem
from harness.core.experiment import values as v
from harness.core.experiment.builds import BuildChoice
from harness.core.experiment.choices import AccelName, TuningName, WorkloadName
from harness.core.experiment.machine import Disk, Guest, Placement
from harness.core.experiment.protocol import Protocol, Timeouts
from harness.core.experiment.section import Section
from harness.core.experiment.workloads import GUEST_FACTOR_PATHS, Instructions, Matrix, Pool
from harness.core.experiment.yaml_text import write_yaml
from harness.core.model import (
    FIO_FACTORS,
    GUEST_FACTORS,
    TABLE_FACTORS,
    Accel,
    Cell,
    CountLoad,
    GuestConfig,
    ReadWrite,
    Tuning,
    Workload,
)


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
    tuning: v.Values[TuningName] = Field(
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
        """Return the factors a table has columns for: rw, bs, iodepth and what else the matrix names.

        Where nothing is read or written, it is the test alone.
        """
        if self.instructions.load is CountLoad.TEST_COROUTINE:
            return ("test",)
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

    def document(self) -> dict[str, Any]:
        """Return the experiment as plain mappings and lists, as a file has them, every default included."""
        return self.model_dump(mode="json", exclude_none=True)

    def to_yaml(self) -> str:
        """Return the experiment as YAML, every default written out; load_experiment reads it back."""
        return write_yaml(self.document())


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of experiment files, for editors."""
    schema = Experiment.model_json_schema(mode="validation")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "A QEMU A/B experiment",
    }
