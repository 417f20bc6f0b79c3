"""From the tidy frame of samples to one number a session: what is counted, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.analysis.coding import Coded, numbered
from harness.analysis.metrics import METRICS
from harness.analysis.ordering import CellKey, cell_label, order_cells
from harness.core.errors import InputError
from harness.core.model import FIO_FACTORS, GUEST_FACTORS, TABLE_FACTORS, FactorValue

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.analysis.statistics import BoolArray, FloatArray

REQUIRED = ("variant", "block", "session", *TABLE_FACTORS, "iteration")
_WHERE = "samples"


@dataclass(frozen=True, slots=True)
class Variant:
    """What one variant's sessions gave.

    Attributes:
        log: median of the logarithms a cell and block, shape (C, B); NaN where there is no session.
        medians: the same in the metric's unit, for show.
    """

    log: FloatArray
    medians: FloatArray

    @property
    def present(self) -> BoolArray:
        """Where there is a session, shape (C, B)."""
        return ~np.isnan(self.log)


@dataclass(frozen=True, slots=True)
class Sessions:
    """Sessions of all variants on one grid of cells and blocks.

    Attributes:
        factors: the further factors' names.
        cells: C cells, in the table's order.
        blocks: B blocks' names, for messages.
        variants: by name.
    """

    factors: tuple[str, ...]
    cells: tuple[CellKey, ...]
    blocks: tuple[str, ...]
    variants: dict[str, Variant]

    def label(self, cell: int) -> str:
        """Return a cell's name for messages."""
        return cell_label(self.cells[cell], self.factors)


def varying_factors(samples: pd.DataFrame) -> tuple[str, ...]:
    """Return the known further factors that have more than one value in the samples."""
    further = [name for name in (*FIO_FACTORS, *GUEST_FACTORS) if name not in TABLE_FACTORS]
    return tuple(name for name in further if name in samples.columns and len(samples[name].unique()) > 1)


def all_cells(
    samples: pd.DataFrame, factors: Sequence[str], cells: Sequence[CellKey] = ()
) -> tuple[CellKey, ...]:
    """Return the cells of samples in the table's order; those of the matrix `cells` first.

    Raises:
        InputError: a factor's column is missing.
    """
    keys = [*TABLE_FACTORS, *factors]
    _require_columns(samples, keys)
    _refuse_gaps(samples, keys)
    return tuple(order_cells([*_keys(samples, Coded(samples), keys)[1], *cells], cells))


def of_variants(samples: pd.DataFrame, variants: Sequence[str]) -> pd.DataFrame:
    """Return the samples of some variants; the frame itself where these are all: to copy it takes long."""
    wanted = samples["variant"].isin(list(variants))
    return samples if wanted.all() else samples[wanted]


def by_session(
    samples: pd.DataFrame,
    *,
    variants: Sequence[str],
    metric: str,
    factors: Sequence[str] | None = None,
    cells: Sequence[CellKey] = (),
    paired: bool = True,
) -> Sessions:
    """Check the samples and take the median of each session.

    Args:
        samples: a row a sample; columns `REQUIRED`, the metric's, and the factors'. A metric of NaN is an
            iteration that failed: it is left out.
        variants: those to read, the baseline first.
        metric: the column to read.
        factors: further factors; those that vary when None.
        cells: the matrix, for the order; a cell of it without samples is there, and empty.
        paired: whether blocks mean anything; without, every session stands for itself.

    Raises:
        InputError: a column is missing, a sample occurs twice, or is not above zero.
    """
    factors = varying_factors(samples) if factors is None else tuple(factors)
    _require_columns(samples, (*REQUIRED, *factors))
    _require_metric(samples, metric)
    keys = [*TABLE_FACTORS, *factors]
    own = of_variants(samples, variants)
    _require_variants(own, variants)
    places = [*(["run"] if "run" in own.columns else []), "block"]
    _refuse_gaps(own, [*keys, *(places if paired else [])])
    coded = Coded(own)
    _refuse_duplicates(own, coded, [*keys, *places, "variant", "session", "iteration"])
    _refuse_impossible(own, metric)
    cell_codes, found = _keys(own, coded, keys)
    given = [tuple(_plain(value) for value in key) for key in cells]
    ordered = order_cells([*found, *given], given)
    rank = {key: number for number, key in enumerate(ordered)}
    block_codes, names = _blocks(own, coded, places) if paired else _each_session(coded, places)
    variant_codes, first = coded.numbers(["variant"])
    called = own["variant"].iloc[first].tolist()
    place = {
        "cell": np.array([rank[key] for key in found], dtype=np.intp)[cell_codes],
        "block": block_codes,
        "variant": variant_codes,
    }
    if paired:  # else the block is one
        place["session"] = coded.numbers([*places, "session"])[0]
    medians = _medians(place, own[metric].to_numpy(dtype=float))
    if paired:
        _refuse_two_sessions(medians, [cell_label(key, factors) for key in ordered], names, called)
    shape = len(ordered), len(names)
    grids = {name: _grid(medians, called.index(name), shape) for name in variants}
    return Sessions(factors, tuple(ordered), names, grids)


def _blocks(
    own: pd.DataFrame, coded: Coded, places: list[str]
) -> tuple[npt.NDArray[np.intp], tuple[str, ...]]:
    codes, blocks = _keys(own, coded, places)
    return codes, tuple("/".join(str(part) for part in block) for block in blocks)


def _each_session(coded: Coded, places: list[str]) -> tuple[npt.NDArray[np.intp], tuple[str, ...]]:
    """Number sessions as if each were a block; there may be many, and no message names one."""
    codes, first = coded.numbers([*places, "session"])
    return codes, tuple(map(str, range(len(first))))


def _keys(
    frame: pd.DataFrame, coded: Coded, columns: list[str]
) -> tuple[npt.NDArray[np.intp], list[CellKey]]:
    """Number the distinct combinations of columns; return each row's number and what the numbers mean."""
    codes, first = coded.numbers(columns)
    distinct = frame[columns].iloc[first].astype(object)
    rows = distinct.where(distinct.notna(), "").itertuples(index=False, name=None)
    return codes, [tuple(_plain(value) for value in key) for key in rows]


@dataclass(frozen=True, slots=True)
class _Medians:
    """The medians of sessions, N of them.

    Attributes:
        place: name -> where each belongs, shape (N,).
        value: the median of its samples.
        log: the median of their logarithms.
    """

    place: dict[str, npt.NDArray[np.intp]]
    value: FloatArray
    log: FloatArray


def _medians(place: dict[str, npt.NDArray[np.intp]], values: FloatArray) -> _Medians:
    """Return the median of the values, and of their logarithms, for each place that has any."""
    told = ~np.isnan(values)
    if not told.all():
        values, place = values[told], {name: codes[told] for name, codes in place.items()}
    sizes = [(codes, int(codes.max(initial=0)) + 1) for codes in place.values()]
    groups, first = numbered(sizes, len(values))
    if len(first) == len(values):
        return _Medians(place, values, np.log(values))
    found = pd.DataFrame({"value": values, "log": np.log(values)}).groupby(groups).median()
    return _Medians(
        {name: codes[first] for name, codes in place.items()},
        found["value"].to_numpy(),
        found["log"].to_numpy(),
    )


def _plain(value: object) -> FactorValue:
    """Return a factor's value as a plain int or str, so that 8, 8.0 and numpy's 8 are one."""
    if isinstance(value, bool | np.bool_):
        return str(value).lower()
    if isinstance(value, int | float | np.number) and float(value).is_integer():
        return int(value)
    return str(value)


def _grid(medians: _Medians, variant: int, shape: tuple[int, int]) -> Variant:
    log, values = np.full(shape, np.nan), np.full(shape, np.nan)
    own = medians.place["variant"] == variant
    where = medians.place["cell"][own], medians.place["block"][own]
    log[where] = medians.log[own]
    values[where] = medians.value[own]
    return Variant(log, values)


def _require_columns(samples: pd.DataFrame, names: Iterable[str]) -> None:
    missing = [name for name in names if name not in samples.columns]
    if missing:
        raise InputError.single(
            _WHERE, f"the column {', '.join(missing)} is missing", "see docs/statistics.md for the columns"
        )


def _require_metric(samples: pd.DataFrame, metric: str) -> None:
    if metric not in samples.columns:
        there = ", ".join(name for name in METRICS if name in samples.columns) or "none"
        raise InputError.single("metric", f"{metric} was not measured here", f"one of what was: {there}")


def _require_variants(samples: pd.DataFrame, variants: Sequence[str]) -> None:
    if len(set(variants)) < len(variants):
        raise InputError.single(
            _WHERE, f"{variants[0]!r} cannot be compared with itself", "name two variants"
        )
    present = set(samples["variant"].unique())
    for name in variants:
        if name not in present:
            raise InputError.single(_WHERE, f"there is none of variant {name!r}", "check the variant's name")


def _refuse_gaps(samples: pd.DataFrame, columns: Sequence[str]) -> None:
    for name in columns:
        if samples[name].isna().any():
            raise InputError.single(
                _WHERE, f"the column {name} has empty fields", "every sample needs its cell and its block"
            )


def _refuse_duplicates(samples: pd.DataFrame, coded: Coded, identity: list[str]) -> None:
    if len(coded.numbers(identity)[1]) == len(samples):
        return
    doubled = samples.duplicated(identity)
    if doubled.any():
        row = samples.loc[doubled, identity].iloc[0]
        raise InputError.single(
            _WHERE,
            "a sample occurs twice: " + ", ".join(f"{name} {row[name]}" for name in identity),
            "if a further factor was varied, name its column in `factors`",
        )


def _refuse_impossible(samples: pd.DataFrame, metric: str) -> None:
    values = pd.to_numeric(samples[metric], errors="coerce").to_numpy(dtype=float)
    wrong = (values <= 0) | np.isinf(values) | (np.isnan(values) & samples[metric].notna().to_numpy())
    if wrong.any():
        value = samples[metric].to_numpy()[wrong][0]
        raise InputError.single(
            _WHERE, f"{metric} {value} is no measurement", "leave out what failed; never put 0 in its place"
        )


def _refuse_two_sessions(
    medians: _Medians, cells: list[str], blocks: tuple[str, ...], variants: list[str]
) -> None:
    place = pd.DataFrame({name: medians.place[name] for name in ("cell", "block", "variant")})
    doubled = place.duplicated()
    if doubled.any():
        row = place[doubled].iloc[0]
        raise InputError.single(
            _WHERE,
            f"block {blocks[row['block']]} has two sessions of {variants[row['variant']]} for "
            f"{cells[row['cell']]}",
            "a block holds one session a variant; name further factors in `factors`",
        )
