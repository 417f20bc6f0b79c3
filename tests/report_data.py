"""Runs of any size and name for reports, without measuring any."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from harness.analysis.result import build
from harness.report.background import Background, Difference
from harness.report.matrix_page import MatrixReport, Story
from harness.report.run_charts import Watched

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.analysis.result import Comparison
    from harness.core.model import FactorValue

_PERCENTILES = {"p50": 1.0, "p90": 1.6, "p95": 2.0, "p99": 3.5, "p999": 9.0, "p9999": 20.0}
_LONG = 20
METRICS = ("iops", *(f"clat_{name}_ns" for name in _PERCENTILES))


def samples(
    names: Sequence[str], cells: Sequence[tuple[str, str, int]], *, blocks: int, seed: int = 1
) -> pd.DataFrame:
    """Return the samples of a run in which the last variant is 10 % slower in every second cell."""
    draw = np.random.default_rng(seed)
    rows: list[dict[str, FactorValue | float]] = []
    number = 0
    for block in range(blocks):
        # Places, not names: numpy's texts lose a NUL at their end.
        for variant in (names[place] for place in draw.permutation(len(names))):
            # Of a long run now and then a bad boot.
            boot = draw.normal(0, 0.01) - (0.4 if blocks > _LONG and number % 13 == 5 else 0)
            for index, (rw, bs, depth) in enumerate(cells):
                slower = 0.9 if variant == names[-1] and index % 2 else 1.0
                iops = 5000 * depth**0.6 * slower * float(np.exp(boot + draw.normal(0, 0.005)))
                rows.append(
                    {"variant": variant, "block": block, "session": number, "iteration": 0,
                     "rw": rw, "bs": bs, "iodepth": depth, "iops": iops}
                    | {f"clat_{name}_ns": 1e9 * depth / iops * by for name, by in _PERCENTILES.items()}
                )  # fmt: skip
            number += 1
    return pd.DataFrame(rows)


def matrix(rw: Sequence[str], bs: Sequence[str], depths: Sequence[int]) -> list[tuple[str, str, int]]:
    """Return every combination."""
    return list(product(rw, bs, depths))


def report(
    names: Sequence[str] = ("OLD", "NEW"),
    cells: Sequence[tuple[str, str, int]] = (("randread", "4k", 1), ("randread", "4k", 8)),
    *,
    blocks: int = 8,
    text: str = "plain",
    readings: int = 60,
    percentiles: Sequence[str] = METRICS[1:],
    **more: Any,
) -> MatrixReport:
    """Return what a page is made from; ``text`` stands wherever text comes from outside."""
    frame = samples(names, cells, blocks=blocks)
    sha = {name: f"{index}" * 64 for index, name in enumerate(names)}
    builds = {name: {"version": f"QEMU {text}", "sha256": sha[name]} for name in names}
    environment = {"host": {"name": text}, "accel": "tcg", "accel_reason": text, "builds": builds}

    def comparison(metric: str) -> Comparison:
        return build(
            frame, baseline=names[0], contenders=names[1:], metric=metric, environment=environment,
            warnings=[text], footer=[f"OLD: {text}", f"Measured under TCG (emulation): {text}"],
            **more,
        )  # fmt: skip

    boots = range(int(frame["session"].max()) + 1)
    variant_of = frame.drop_duplicates("session").set_index("session")["variant"]
    watched = [
        Watched(
            variant_of[number],
            f"{number:03d}-{variant_of[number]}",
            [float(at) for at in range(readings)],
            [300 + at for at in range(readings)],
            list(range(readings)),
        )
        for number in boots
    ]
    background = Background(
        run_id=text,
        created="2026-01-01",
        variants=names,
        builds={name: {key: str(value) for key, value in build.items()} for name, build in builds.items()},
        experiment=f"name: {text}\n",
        differences=[Difference(text, dict.fromkeys(names, text), text)],
        disagreements=[text],
        details={"Host": [text]},
        commands=text,
    )
    story = Story(
        samples=frame,
        background=background,
        order={number: number + 1 for number in boots},
        labels={number: f"{number:03d}-{variant_of[number]}" for number in boots},
        watched=watched,
        limit=65530,
        percentiles=[comparison(metric) for metric in percentiles],
    )
    return MatrixReport(text, [comparison("iops")], story)
