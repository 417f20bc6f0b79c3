"""How often and how long is measured, and for what nobody waits longer.

No ``from __future__ import annotations`` here: pydantic reads these annotations when the module is loaded.
"""

from pydantic import Field

from harness.core.experiment import quantities as q
from harness.core.experiment.section import Section
from harness.core.model import Accel


class Protocol(Section):
    """How often and how long is measured, and how the answer is judged."""

    blocks: q.Count = Field(
        default=30,
        description="Blocks: each boots every variant once, in random order. Not used with until.",
    )
    iterations: q.Count = Field(default=1, description="fio runs of each cell in each session.")
    runtime: q.PositiveDuration = Field(default=5.0, description="Measured time of one fio run.")
    ramp: q.Duration = Field(default=1.0, description="fio's warm-up before it, not counted.")
    seed: q.Natural = Field(default=1, description="Fixes the random order of the plan.")
    margin: q.Fraction = Field(default=0.02, description="A change smaller than this does not matter.")
    alpha: q.Risk = Field(default=0.05, description="Accepted risk of a false verdict, over all cells.")
    until: q.Fraction | None = Field(
        default=None,
        description="Go on until every interval is at most this far to either side, from 20 blocks on.",
    )
    max_blocks: q.Count = Field(default=60, description="The end of it where until is not reached.")
    retries: q.Natural = Field(
        default=1,
        description="How often a session is tried again whose guest did not answer in time.",
    )
    give_up_after: q.Count = Field(
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

    boot: q.PositiveDuration | None = Field(
        default=None,
        description="From the guest's start to its answer; default 60s under KVM, 180s under TCG; where the "
        "image is a disk, 180s and 900s.",
    )
    agent: q.PositiveDuration = Field(default=10.0, description="One answer of the guest agent.")
    fio_grace: q.PositiveDuration = Field(
        default=30.0, description="What a fio run may take beyond ramp and runtime."
    )
    destroy: q.PositiveDuration = Field(default=30.0, description="The end of the QEMU process.")
    task: q.PositiveDuration | None = Field(
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
