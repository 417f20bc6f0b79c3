"""Results measured by others: a CSV, or a tree of fio's output, as samples.

Such results were not interleaved by this harness, so they allow estimates and no verdict. Factors come from
the JSON itself, never from file names. What cannot be read is named with the reason, and never guessed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from harness.adapters.results.csv_table import NOT_FACTORS, is_csv, read_csv
from harness.adapters.results.fio_files import read_some
from harness.adapters.results.fio_trees import Ahead
from harness.adapters.results.listing import listing_of
from harness.adapters.results.mixing import Origin, different_sides, mixed_cells, scattered_repeats
from harness.adapters.results.run_layout import is_run_directory
from harness.adapters.results.workers import pool
from harness.analysis.categories import chosen, one_below_the_other
from harness.analysis.coding import Coded, numbered
from harness.analysis.remarks import SKIPPED, worst_first
from harness.core.errors import InputError, Problem
from harness.core.model import TABLE_FACTORS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from harness.adapters.results.listing import FilePaths
    from harness.core.fio_table import FioTable
    from harness.core.model import FactorValue

NOT_INTERLEAVED = "the two sides were not measured in interleaved sessions by this harness"
"""Why imported results get no verdict."""

_JSON_FACTORS = (*TABLE_FACTORS, "numjobs", "ioengine")
_FACTORS_WHEN_VARIED = {
    "direct": "0", "rwmixread": "50", "sync": "none", "fsync": "0", "fdatasync": "0", "hipri": "0",
    "fixedbufs": "0", "registerfiles": "0", "sqthread_poll": "0", "nonvectored": "0",
    "iodepth_batch_submit": "1", "iodepth_batch_complete_min": "1",
}  # fmt: skip
"""Options that become columns where one cell was measured with several values, with fio's default."""

_MOST_PROBLEMS = 20
_NOTHING = "fio writes it with --output-format=json; a table is a file, with the columns rw,bs,iodepth,iops"


@dataclass(frozen=True)
class Imported:
    """Results as samples.

    Attributes:
        samples: the tidy frame (docs/statistics.md); every repeat of a cell is a session of its own, and no
            block pairs it with anything.
        factors: further factors that have more than one value, in the order they were found.
        warnings: what was left out, and why.
        table: the measurements behind the rows, in their order; None where only the numbers are known.
        files: the table's files.
    """

    samples: pd.DataFrame
    factors: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    table: FioTable | None = None
    files: Sequence[str] = ()

    def origins(self) -> list[tuple[int, Origin]]:
        """Return the first row of each set-up, and where it comes from; in their order."""
        return _origins(self.table, self.files) if self.table is not None else []


def read_results(
    path: Path,
    variant: str,
    *,
    metrics: Collection[str] | None = None,
    accept_differences: bool = False,
    ahead: Ahead | None = None,
) -> Imported:
    """Read a CSV file, a file of fio's output, or a tree of them; packed ones too.

    Args:
        path: where the results are.
        variant: the variant they were measured on.
        metrics: those that are asked for, of what fio measured; all when None, or where one is missing. To
            carry the others along takes as long as all else.
        accept_differences: whether measurements of one cell may differ in what was set up (a warning then).
        ahead: readings that were begun before.

    Raises:
        InputError: nothing there, nothing usable, a damaged CSV, a tree that holds run directories, or a cell
            measured in different ways; every problem with its file.
    """
    if is_run_directory(path):
        raise InputError.single(str(path), "is a run directory of the harness", "read it as one")
    if path.is_dir():
        with pool():
            reading = (ahead or Ahead()).reading(path)
            files = reading.listing.files
            _refuse_runs_inside(path, files)
            table = reading.table
        return _imported(path, files, table, variant, metrics, accept_differences=accept_differences)
    if not path.is_file():
        raise InputError.single(str(path), "does not exist", "name a run directory, a directory or a CSV")
    if is_csv(path):
        rows, factors = read_csv(path)
        return _samples(pd.DataFrame(rows), variant, factors)
    files = listing_of([str(path)]).files
    return _imported(path, files, read_some(files), variant, metrics, accept_differences=accept_differences)


def together(old: Imported, new: Imported) -> Imported:
    """Put both sides into one frame, for `harness.analysis.result.build` with NOT_INTERLEAVED.

    A further factor that only one side knows is left out, with a warning, when it has one value there; when
    it varies, it cannot tell the other side's cells apart, and is refused. What else the sides differ in is
    in the warnings, with a file of each.

    Raises:
        InputError: the sides do not have the same factors.
    """
    old, new = _with_columns_of(old, new), _with_columns_of(new, old)
    sides = (old.samples, new.samples)
    further = dict.fromkeys(name for side in sides for name in side.columns if name not in NOT_FACTORS)
    unknown = [name for name in further if not all(_knows(side, name) for side in sides)]
    problems = [
        Problem(
            "compare", f"only one side has the factor {name}, and it varies", "give both sides that column"
        )
        for name in unknown
        if any(_varying(side, [name]) for side in sides if name in side.columns)
    ]
    if problems:
        raise InputError(problems)
    warnings = [f"only one side says what {name} was" for name in unknown]
    known = [name for name in further if name not in unknown]
    warnings += different_sides(_by_cell(old, known), _by_cell(new, known), ignored=frozenset(known))
    warnings += _on_both_sides(old, new)
    samples = one_below_the_other(*sides).drop(columns=unknown)
    return Imported(samples, _varying(samples, known), (*old.warnings, *new.warnings, *warnings))


def cells_as_found(imported: Imported) -> list[tuple[FactorValue, ...]]:
    """Return the cells in the order they were found, for the table's rows."""
    columns = [*TABLE_FACTORS, *imported.factors]
    _numbers, first = Coded(imported.samples).numbers(columns)
    return list(imported.samples[columns].iloc[first].itertuples(index=False, name=None))


def _refuse_runs_inside(root: Path, files: FilePaths) -> None:
    if inside := files.called("run.json"):
        raise InputError(
            [
                Problem(
                    run,
                    f"is a run directory of the harness inside {root}: it holds both variants",
                    f"compare it by itself: harness compare {run}",
                )
                for run in inside[:_MOST_PROBLEMS]
            ]
        )


def _imported(
    path: Path,
    files: FilePaths,
    table: FioTable,
    variant: str,
    metrics: Collection[str] | None,
    *,
    accept_differences: bool,
) -> Imported:
    table, skipped = _without_copies(table.of(metrics), files)
    if not len(table):
        what = "nothing that can be used" if skipped else "no fio JSON"
        raise InputError([Problem(str(path), f"holds {what}", _NOTHING), *_reasons(skipped)])
    columns = _varied_settings(table)
    keys = [
        {**setup.factors, **{name: _setting(setup.settings, name) for name in columns}}
        for setup in table.setups
    ]
    firsts = _origins(table, files)
    origins = [origin for _row, origin in firsts]
    cells = [tuple(keys[code].values()) for code in table.setup[[row for row, _origin in firsts]]]
    mixed = mixed_cells(cells, origins, (*_JSON_FACTORS[len(TABLE_FACTORS) :], *columns))
    if mixed.problems and not accept_differences:
        raise InputError(list(mixed.problems))
    warnings = [f"{SKIPPED}{file}: {reason}" for file, reason in skipped]
    warnings += [f"{problem.where}: {problem.message}, which was accepted" for problem in mixed.problems]
    warnings += mixed.warnings
    warnings += [f"{variant}: {warning}" for warning in scattered_repeats(_places(table, keys, files))]
    names = dict.fromkeys(name for key in keys for name in key)
    factors = {name: chosen([key.get(name) for key in keys], table.setup) for name in names}
    imported = _samples(pd.DataFrame({**factors, **table.numbers}), variant, (*_JSON_FACTORS, *columns))
    return replace(imported, warnings=tuple(warnings), table=table, files=files)


def _reasons(skipped: Sequence[tuple[str, str]]) -> list[Problem]:
    """Return why each file is left out, those that may be worth a look first."""
    ordered = worst_first(f"{reason}\0{file}" for file, reason in skipped)
    pairs = [text.split("\0") for text in ordered]
    problems = [Problem(file, reason) for reason, file in pairs[:_MOST_PROBLEMS]]
    more = len(pairs) - len(problems)
    return [*problems, Problem(f"{more} more files", "left out likewise")] if more else problems


def _without_copies(table: FioTable, files: Sequence[str]) -> tuple[FioTable, list[tuple[str, str]]]:
    """Return each measurement once, and what is left out of which file; a file twice is one measurement."""
    skipped = [(number, files[number], why) for number, why in table.problems]
    known = table.identity != 0
    if not pd.Series(table.identity[known]).duplicated().any():
        return table, [(file, why) for _number, file, why in skipped]
    _values, first, which = np.unique(table.identity, return_index=True, return_inverse=True)
    original = first[which]
    copy = known & (original != np.arange(len(table)))
    pairs = dict.fromkeys(zip(table.file[copy].tolist(), table.file[original[copy]].tolist(), strict=True))
    skipped += [
        (number, files[number], f"it holds the same measurement as {files[other]}") for number, other in pairs
    ]
    skipped.sort(key=lambda one: one[0])
    return table.take(np.flatnonzero(~copy)), [(file, why) for _number, file, why in skipped]


def _origins(table: FioTable, files: Sequence[str]) -> list[tuple[int, Origin]]:
    _numbers, first = numbered([(table.setup, len(table.setups))], len(table))
    return [
        (row, Origin(files[table.file[row]], table.setups[table.setup[row]].settings))
        for row in first.tolist()
    ]


def _places(
    table: FioTable, keys: Sequence[Mapping[str, FactorValue]], files: FilePaths
) -> list[tuple[tuple[FactorValue, ...], str]]:
    """Return every cell and the directories it was measured in, each pair once."""
    cells = [tuple(key.values()) for key in keys]
    where, places = files.directories_of(table.file)
    _numbers, first = numbered([(table.setup, len(cells)), (where, len(places))], len(table))
    named = ((cells[table.setup[row]], places[where[row]]) for row in first.tolist())
    return list(dict.fromkeys(named))


def _varied_settings(table: FioTable) -> list[str]:
    """Return the settings that become columns: some cell was measured with several values of them."""
    values: dict[tuple[object, ...], dict[str, set[FactorValue]]] = {}
    for code in np.flatnonzero(np.bincount(table.setup)):
        setup = table.setups[code]
        cell = values.setdefault(tuple(setup.factors.items()), {})
        for name in _FACTORS_WHEN_VARIED:
            cell.setdefault(name, set()).add(_setting(setup.settings, name))
    return [name for name in _FACTORS_WHEN_VARIED if any(len(cell[name]) > 1 for cell in values.values())]


def _setting(settings: Mapping[str, str], name: str) -> FactorValue:
    value = settings.get(name, _FACTORS_WHEN_VARIED[name])
    return int(value) if value.isascii() and value.isdigit() else value


def _with_columns_of(side: Imported, other: Imported) -> Imported:
    """Give a side the columns that settings became on the other side."""
    table = side.table
    if table is None:
        return side
    missing = [
        name
        for name in _FACTORS_WHEN_VARIED
        if name in other.samples.columns and name not in side.samples.columns
    ]
    columns = {
        name: chosen([_setting(setup.settings, name) for setup in table.setups], table.setup)
        for name in missing
    }
    return replace(side, samples=side.samples.assign(**columns))


def _by_cell(side: Imported, factors: Sequence[str]) -> dict[tuple[FactorValue, ...], Origin]:
    """Return the origin of each cell's first measurement."""
    origins = side.origins()
    cells = side.samples.iloc[[row for row, _origin in origins]][[*TABLE_FACTORS, *factors]]
    found: dict[tuple[FactorValue, ...], Origin] = {}
    for cell, (_row, origin) in zip(cells.itertuples(index=False, name=None), origins, strict=True):
        found.setdefault(cell, origin)
    return found


def _on_both_sides(old: Imported, new: Imported) -> list[str]:
    if old.table is None or new.table is None:
        return []
    before, after = old.table, new.table
    if not np.any(pd.Series(after.identity[after.identity != 0]).isin(before.identity)):
        return []
    common, there, here = np.intersect1d(before.identity, after.identity, return_indices=True)
    pairs = sorted(zip(here.tolist(), there.tolist(), common.tolist(), strict=True))
    files = [(old.files[before.file[was]], new.files[after.file[now]]) for now, was, known in pairs if known]
    return [f"the same measurement is on both sides: {was} and {now}" for was, now in files]


def _knows(side: pd.DataFrame, factor: str) -> bool:
    return factor in side.columns and bool(side[factor].notna().all())


def _samples(frame: pd.DataFrame, variant: str, factors: tuple[str, ...]) -> Imported:
    further = tuple(name for name in factors if name not in TABLE_FACTORS)
    # Each row is a repeat of its cell: numbered, so that it counts as a session.
    repeat = frame.groupby(Coded(frame).numbers(factors)[0], sort=False).cumcount()
    frame.insert(0, "variant", chosen([variant], np.zeros(len(frame), dtype=np.intp)))
    frame.insert(1, "block", math.nan)
    frame.insert(2, "session", repeat)
    frame.insert(3, "iteration", 0)
    return Imported(frame, _varying(frame, further))


def _varying(frame: pd.DataFrame, names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name in names if len(frame[name].unique()) > 1)
