"""Cells in which the device is the limit: they cannot show a difference in QEMU."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from harness.core.units import parse_size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.analysis.ordering import CellKey
    from harness.analysis.samples import Sessions, Variant

FLAT = 0.015
"""Throughput that differs by less than this share from depth to depth does not grow."""
CEILING = 0.95
"""Share of a ceiling from which a cell counts as sitting at it."""
FEWER_REQUESTS = 0.8
"""A limit in bytes lets a larger block size do clearly fewer requests than a smaller one."""
_MEDIAN_ERROR = 1.2533 * 1.4826  # of a median, for normal noise, from the median absolute deviation
_DEPTH = 2
_TWO = 2


def device_bound(sessions: Sessions, ceilings: Mapping[CellKey, float] | None = None) -> frozenset[CellKey]:
    """Return the cells in which the device, not QEMU, limits every variant.

    That throughput does not grow with depth is not enough: a busy IOThread looks the same, and there QEMU
    makes all the difference. So a cell is marked only if, for each variant, (1) at least two depths of its
    block size have the same IOPS, its own among them, and none has more; (2) its bandwidth is the most that
    any block size of the pattern reaches; (3) a smaller block size does clearly more requests, which shows
    that requests are not what is scarce; (4) the sessions agree well enough to tell. A matrix with one block
    size or one depth marks nothing.

    Args:
        sessions: of the metric ``iops``.
        ceilings: IOPS of a cell on the host without a guest, where they were measured: a cell that reaches
            95 % of it is marked too.
    """
    marks = [
        _of_variant(sessions, variant, medians) | _at_ceiling(sessions, medians, ceilings or {})
        for variant, medians in ((variant, _medians(variant)) for variant in sessions.variants.values())
    ]
    return frozenset(sessions.cells[cell] for cell in set.intersection(*marks)) if marks else frozenset()


def _medians(variant: Variant) -> dict[int, float]:
    """Return the median IOPS of the cells that have any."""
    return {
        int(cell): float(np.nanmedian(variant.medians[cell]))
        for cell in np.flatnonzero(variant.present.any(axis=1))
    }


def _at_ceiling(
    sessions: Sessions, medians: Mapping[int, float], ceilings: Mapping[CellKey, float]
) -> set[int]:
    return {
        cell for cell, iops in medians.items() if iops >= CEILING * ceilings.get(sessions.cells[cell], np.inf)
    }


def _of_variant(sessions: Sessions, variant: Variant, medians: Mapping[int, float]) -> set[int]:
    groups: dict[CellKey, dict[int, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for cell, iops in medians.items():
        rw, bs, _iodepth, *further = sessions.cells[cell]
        try:
            size = parse_size(bs)
        except ValueError:
            continue  # several sizes at once: no bandwidth to reckon with
        groups[rw, *further][size][cell] = iops
    marked: set[int] = set()
    for sizes in groups.values():
        widest = max(size * max(rows.values()) for size, rows in sizes.items())
        for size, rows in sizes.items():
            top = max(rows.values())
            smaller = [max(other.values()) for other_size, other in sizes.items() if other_size < size]
            flat = {cell for cell, iops in rows.items() if iops >= (1 - FLAT) * top}
            if (
                len({sessions.cells[cell][_DEPTH] for cell in flat}) >= _TWO
                and size * top >= CEILING * widest
                and smaller
                and top < FEWER_REQUESTS * max(smaller)
            ):
                marked |= {cell for cell in flat if _is_sure(variant, cell)}
    return marked


def _is_sure(variant: Variant, cell: int) -> bool:
    """Return whether the median is known well enough to call it level with others."""
    logs = variant.log[cell][variant.present[cell]]
    spread = float(np.median(np.abs(logs - np.median(logs))))
    return bool(_MEDIAN_ERROR * spread / np.sqrt(len(logs)) < FLAT)
