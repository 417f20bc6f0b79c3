"""The stopping rule of a run: it reads interval widths only, never a sign, a p-value or a verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.core.errors import InputError
from harness.core.model import FIRST_LOOK

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.adapters.results.store import RunDirectory
    from harness.core.experiment import Experiment


def stopping_rule(run: RunDirectory, experiment: Experiment) -> Callable[[int], str | None]:
    """Return what the campaign asks after every pair of blocks: why it can end now, or None."""
    target = experiment.protocol.until
    if target is None:
        return lambda _blocks: None

    def enough(blocks: int) -> str | None:
        if blocks < FIRST_LOOK:
            return None
        # Imported here: only runs with a stopping rule analyse while they measure.
        from harness.adapters.results.samples import read_samples
        from harness.analysis import should_stop, widest_half_width

        try:
            frame = read_samples(run).frame
            factors = experiment.varied_factors()
            cells = [tuple(cell.factors()[name] for name in factors) for cell in experiment.cells()]
            widest = widest_half_width(
                frame,
                baseline=experiment.baseline,
                contenders=experiment.contenders,
                alpha=experiment.protocol.alpha,
                factors=factors[3:],
                cells=cells,
                min_blocks=FIRST_LOOK,
            )
        except InputError:
            # A variant without any sample yet: nothing can be said, so the run goes on.
            return None
        return should_stop(
            widest, blocks_done=blocks, target=target, max_blocks=experiment.protocol.max_blocks
        ).reason

    return enough
