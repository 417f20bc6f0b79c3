"""The guest of the workload pool-growth: an iteration is a round."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from harness.adapters.guest.fio import target_of
from harness.core.pool import burst_serials, light_serial

if TYPE_CHECKING:
    from harness.adapters.guest.fio import Fio
    from harness.adapters.telemetry.sampler import TelemetryRecorder
    from harness.core.experiment import Pool
    from harness.core.planning import PlannedIteration
    from harness.core.protocols import Execution
    from harness.core.telemetry import TelemetryRecord


@dataclass(frozen=True, slots=True)
class PoolGuest:
    """A guest that answers, and takes rounds."""

    _fio: Fio
    _pool: Pool
    _telemetry: TelemetryRecorder
    ready_seconds: float
    facts: dict[str, Any]

    @property
    def telemetry(self) -> TelemetryRecord | None:
        """What is kept of its telemetry, once the session has ended."""
        return self._telemetry.record

    def run(self, iteration: PlannedIteration, *, runtime: float, ramp: float) -> Execution:  # noqa: ARG002
        """Run one round: the burst, then one request through the round's own IOThread.

        How long a round takes is up to the pool's latencies, so the times of a matrix mean nothing here.

        Returns:
            The burst's execution, with the mappings when the round's I/O is over; of the one request only
            what went wrong.

        Raises:
            GuestDiedError: QEMU ended.
            GuestError: the guest did not answer in time.
            Interrupted: the user stopped the run.
        """
        self._telemetry.begin(iteration.number)
        self._telemetry.begin(iteration.number)
        targets = [target_of(serial) for serial in burst_serials(self._pool)]
        burst = self._fio.fill(iteration.cell, targets, due=self._pool.latency)
        # One request: each one more would hand a hoarded coroutine back, by way of the release pool.
        one = replace(iteration.cell, iodepth=1)
        light = self._fio.fill(one, [target_of(light_serial(iteration.repeat))], due=0.0)
        return replace(
            burst,
            exit_code=burst.exit_code or light.exit_code,
            stderr=burst.stderr + light.stderr,
            seconds=burst.seconds + light.seconds,
            mappings=self._telemetry.end(),
        )
