"""The history's rows: whatever stands in its tables is shown as it is, or refused."""

from __future__ import annotations

import contextlib
import functools
import json
import math
from typing import TYPE_CHECKING, Any
from unittest import mock

import duckdb
import orjson
from history_data import night

from fuzz.mutation import NASTY, mutate_json, parsed, write
from fuzz.target import READ, Target, outcome_of, require
from harness.adapters.results import history_rows, history_store
from harness.adapters.results.history_store import HistoryStore
from harness.analysis.run_text import run_lines, run_table
from harness.analysis.trend_text import trend_lines
from harness.analysis.trends import Question
from harness.core.errors import HarnessError
from harness.core.history import HISTORY_FORMAT, Selection
from harness.report.history_page import trends_page
from harness.shell.history import run_json, trends, trends_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from random import Random

Tables = dict[str, list[list[Any]]]

_COLUMNS = history_rows.COLUMNS
_MOST = 400
_LOOKED_AT = 2
_ANYTHING, _ROWS, _LIKE_ANOTHER = 0.05, 0.1, 0.3
_TEXTS = tuple(value for value in NASTY if isinstance(value, str) and value != "\ud800")
_WHOLE = (0, 1, 2, 3, -1, 10**6)
_BROKEN = (None, 0.0, -0.0, 1.0, -1.0, 0.5, 1e5, 1e300, 1e-300, math.nan, math.inf, -math.inf)
"""What a column may hold, by its kind."""
_NO_ROWS = "no rows of a table"


@functools.cache
def _database() -> duckdb.DuckDBPyConnection:
    # Threads cost more than they save with a handful of rows.
    connection = duckdb.connect(":memory:", config={"threads": 1})
    connection.execute(history_rows.SCHEMA)
    connection.execute("INSERT INTO format VALUES (?)", [HISTORY_FORMAT])
    return connection


@contextlib.contextmanager
def _opened(_path: Path, *, read_only: bool) -> Iterator[duckdb.DuckDBPyConnection]:
    assert read_only
    with _database().cursor() as connection:
        yield connection


def _filled(tables: Any) -> bool:
    """Put rows into the tables as another program might; return whether the database took them."""
    database = _database()
    for name in _COLUMNS:
        database.execute(f"DELETE FROM {name}")  # noqa: S608 - our own names
    try:
        for name, columns in _COLUMNS.items():
            rows = [tuple(row) for row in tables[name]]
            if any(len(row) != len(columns) for row in rows):
                return False
            for together in [rows] if _alike(rows) else [[row] for row in rows]:
                _insert(database, name, columns, together)
    except (duckdb.Error, LookupError, TypeError, ValueError, AttributeError, RuntimeError):
        return False
    return True


def _alike(rows: list[tuple[Any, ...]]) -> bool:
    """Return whether each column holds one type: of several, the database would make one of its own choice."""
    return bool(rows) and all(
        len({type(v) for v in column} - {type(None)}) < 2 for column in zip(*rows, strict=True)
    )


def _insert(
    database: duckdb.DuckDBPyConnection, name: str, columns: Iterable[str], rows: list[tuple[Any, ...]]
) -> None:
    # A statement a row takes most of the time of an input.
    names = ", ".join(f'"{column}"' for column in columns)
    marks = ", ".join([f"({', '.join('?' * len(rows[0]))})"] * len(rows))
    database.execute(
        f"INSERT INTO {name} ({names}) VALUES {marks}",  # noqa: S608 - our own names
        [value for row in rows for value in row],
    )


def check(data: bytes, directory: Path) -> str:
    """Read a history whose rows somebody wrote: the list, each run, the trends, their page."""
    try:
        tables = json.loads(data)
    except (ValueError, RecursionError):
        return _NO_ROWS
    if not _filled(tables):
        return _NO_ROWS
    path = directory / "history.duckdb"
    path.touch()
    with mock.patch.object(history_store, "_opened", _opened):
        try:
            return _read(HistoryStore(path), tables)
        except HarnessError as error:
            require(str(path) in str(error), f"an error that names no file: {error}")
            return outcome_of(error)


def _read(store: HistoryStore, tables: Tables) -> str:
    heads = store.runs(Selection())
    require(len(heads) == len(tables["runs"]), "not as many runs as rows")
    _printable(run_table(heads))
    _compare(store, tables)
    if heads:
        found = trends(store, Selection(), Question(), _MOST)
        _strict(trends_json(found))
        _printable("\n".join(trend_lines(found)))
        trends_page(found, lambda _run: None)
    return READ


def _compare(store: HistoryStore, tables: Tables) -> None:
    """Hold the numbers of a few runs against the rows that they came from."""
    # What is no text the database turns into one, in its own way.
    named = [row for row in tables["runs"] if isinstance(row[1], str) and isinstance(row[4], str)]
    for row in named[-_LOOKED_AT:]:
        number, run_id, host = row[0], row[1], row[4]
        found = [run for run in store.run(run_id) if run.host_id == host]
        require(len(found) == 1, f"run {run_id!r} is there {len(found)} times")
        _printable("\n".join(run_lines(found[0])))
        _strict(run_json(found[0]))
        own = [line for line in tables["numbers"] if line[0] == number]
        if all(type(line[0]) is type(line[1]) is int and type(line[5]) is float for line in own):
            own.sort(key=lambda line: int(line[1]))
            places = [line[1] for line in own]
            if len(set(places)) < len(places):
                continue  # any order will do
            require([n.value for n in found[0].numbers] == [line[5] for line in own], "other numbers")


def _printable(text: str) -> None:
    """Hold what is printed for people against what a terminal would act on."""
    require(text.strip(), "nothing is said")
    require(text.replace("\n", "").isprintable(), f"it commands the terminal: {text!r:.300}")


def _strict(value: Any) -> None:
    """Hold what is printed for programs against JSON, which has no NaN."""
    require(json.loads(orjson.dumps(value)) is not None, "nothing")
    require(all(map(math.isfinite, _numbers(value))), "a number that JSON does not have")


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, float):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _numbers(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _numbers(item)


def seeds() -> list[bytes]:
    """Return histories: of one night, and of enough of them for a step."""
    few = [night(0, {"randread-4k-8": 0.01})]
    many = [night(n, {"randread-4k-8": 0.0 if n < 4 else -0.1, "read-1m-1": 0.0}) for n in range(8)]
    return [json.dumps(_rows(runs)).encode() for runs in (few, many)]


def _rows(runs: list[Any]) -> Tables:
    tables: Tables = {name: [] for name in _COLUMNS}
    for number, run in enumerate(runs, start=1):
        head = [getattr(run, name) for name in history_rows.RUN]
        head[history_rows.RUN.index("started")] = f"{run.started:%Y-%m-%d %H:%M:%S}"
        tables["runs"].append([number, *head, json.dumps(run.conditions)])
        for table, columns, parts in (
            ("builds", history_rows.BUILD, run.builds),
            ("numbers", history_rows.NUMBER, run.numbers),
        ):
            tables[table] += [
                [number, place, *(getattr(part, name) for name in columns)]
                for place, part in enumerate(parts)
            ]
    return tables


_MOMENTS = ("infinity", "-infinity", "epoch", "0001-01-01", "290000-01-01", "4713-01-01 (BC)", "2025-02-30")


def mutate(data: bytes, random: Random) -> bytes:
    """Change values of rows by what their columns may hold; now and then anything."""
    tables = parsed(data)
    try:
        for _ in range(1 + int(random.expovariate(1.0))):
            _change_row(tables, random)
    except (LookupError, TypeError, ValueError, AttributeError):  # it was no history before
        return mutate_json(data, random)
    return mutate_json(data, random) if random.random() < _ANYTHING else write(tables)


def _change_row(tables: Tables, random: Random) -> None:
    name = random.choice(list(_COLUMNS))
    rows, columns = tables[name], _COLUMNS[name]
    row, column = random.choice(rows), random.randrange(len(columns))
    what = random.random()
    if what < _ROWS:
        rows.remove(row) if random.random() < 0.5 else rows.append(list(row))
    elif columns[column] == "started":
        row[column] = random.choice(_MOMENTS)
    elif columns[column] == "conditions":
        row[column] = mutate_json(row[column].encode(), random).decode(errors="replace")
    elif what < _LIKE_ANOTHER:
        row[column] = random.choice(rows)[column]
    else:
        kind = _TEXTS if isinstance(row[column], str) else _WHOLE if isinstance(row[column], int) else _BROKEN
        row[column] = random.choice(kind)


TARGET = Target("history", "the history's rows", check, seeds, mutate)
