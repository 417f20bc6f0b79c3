"""The history on disk: one DuckDB file, beside it the lock that its readers and writers take turns by.

DuckDB lets one process write, and none read meanwhile; whoever comes then is refused at once. The lock makes
them wait instead. A run is filed in one transaction: it is in the file whole, or not at all, also after the
process or the machine died. See docs/history.md.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import replace
from datetime import UTC
from typing import TYPE_CHECKING, Any

import duckdb

from harness.adapters.files import PASSABLE, make_directory, sync_directory
from harness.adapters.host.locks import exclusive
from harness.adapters.results.history_rows import (
    BUILD,
    COLUMNS,
    NUMBER,
    RUN,
    SCHEMA,
    RowError,
    number_of,
    run_of,
)
from harness.core.errors import BusyError, DamagedError, HarnessError, InputError, Problem
from harness.core.history import HISTORY_FORMAT, FiledBuild, FiledRun, Selection

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pandas as pd

_PATIENCE_SECONDS = 60.0
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}
"""Nothing is fetched from anywhere."""

_TOGETHER = "host_id, experiment, comparable, accel"
_BUILD_IS = """number IN (SELECT number FROM builds WHERE starts_with(sha256, ?) OR starts_with("commit", ?)
    OR contains(version, ?) OR contains(package_version, ?))"""
_HEAD = ", ".join(COLUMNS["runs"])


class HistoryStore:
    """The history in one file. Every call opens it, and lets others have it again before it returns."""

    def __init__(self, path: Path, *, patience_seconds: float = _PATIENCE_SECONDS) -> None:
        """Name the file; it need not be there.

        Args:
            path: the file.
            patience_seconds: how long to wait for another writer.
        """
        self.path = path
        self._patience_seconds = patience_seconds

    def add(self, runs: Sequence[FiledRun]) -> list[bool]:
        """File runs, all or none; they are on disk when this returns.

        Returns:
            Whether each is new; one that is there already with the same content is left as it is.

        Raises:
            InputError: the store is of a newer version or damaged, or holds other content under an id.
            BusyError: others kept the store for too long.
            HarnessError: the disk is full.
        """
        make_directory(self.path.parent, PASSABLE)
        with self._turn(), self._whole(), self._connection(writing=True) as connection:
            new = _new_ones(connection, runs)
            if any(new):
                _insert(connection, [run for run, wanted in zip(runs, new, strict=True) if wanted])
        return new

    @contextlib.contextmanager
    def _whole(self) -> Iterator[None]:
        """Remove the store again where it was made, and nothing could be filed in it."""
        was_there = self.path.exists()
        try:
            yield
        except BaseException:
            if not was_there:
                _remove(self.path)
            raise

    def runs(self, selection: Selection) -> list[FiledRun]:
        """Return the runs of a selection without their numbers, the newest first."""
        with self._reading() as connection:
            return [] if connection is None else _heads(connection, selection)

    def run(self, run_id: str, host: str | None = None) -> list[FiledRun]:
        """Return every run of that id with its numbers: one a host, usually one."""
        with self._reading() as connection:
            if connection is None:
                return []
            return _with_numbers(connection, _heads(connection, Selection(host=host), run_id=run_id))

    def followed(self, selection: Selection, most: int) -> tuple[list[FiledRun], pd.DataFrame | None]:
        """Return what trends are made from.

        Args:
            selection: which runs.
            most: of each host, experiment and accelerator the newest so many.

        Returns:
            The runs without their numbers, the oldest first; and a row a number with the columns ``run`` (its
            place in the list), ``cell, variant, metric, value, change``, in the order they were filed; None
            when nothing was ever filed.
        """
        with self._reading() as connection:
            return ([], None) if connection is None else _followed(connection, selection, most)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[duckdb.DuckDBPyConnection | None]:
        """Give a connection that cannot write; None when nothing was ever filed."""
        if not self.path.exists():
            yield None
            return
        with self._turn(shared=True), self._connection(writing=False) as connection:
            yield connection

    @contextlib.contextmanager
    def _turn(self, *, shared: bool = False) -> Iterator[None]:
        lock = self.path.with_name(f"{self.path.name}.lock")
        deadline = time.monotonic() + self._patience_seconds
        with contextlib.ExitStack() as held:
            while True:
                try:
                    held.enter_context(
                        exclusive(lock, what=f"the history {self.path}", remedy="try again", shared=shared)
                    )
                    break
                except BusyError:  # which took a moment
                    if time.monotonic() > deadline:
                        raise
            yield

    @contextlib.contextmanager
    def _connection(self, *, writing: bool) -> Iterator[duckdb.DuckDBPyConnection]:
        if writing and not self.path.exists():
            self._create()
        with _translated(self.path):
            # A newer version is found out without a chance to write.
            with _opened(self.path, read_only=True) as connection:
                _check_version(connection, self.path)
                if not writing:
                    yield connection
                    return
            with _opened(self.path, read_only=False) as connection:
                yield connection

    def _create(self) -> None:
        """Make an empty store beside its place, and then move it there whole."""
        making = self.path.with_name(f".{self.path.name}.new")
        _remove(making)
        try:
            with _translated(self.path), _opened(making, read_only=False) as connection:
                connection.execute(SCHEMA)
                connection.execute("INSERT INTO format VALUES (?)", [HISTORY_FORMAT])
                # On a full disk close() leaves all of it in the log, in silence; and the log stays here.
                connection.execute("CHECKPOINT")
            making.replace(self.path)
        except BaseException:
            _remove(making)
            raise
        sync_directory(self.path.parent)


def _remove(path: Path) -> None:
    """Remove a store with its log, as far as they are there."""
    for file in (path, path.with_name(f"{path.name}.wal")):
        file.unlink(missing_ok=True)


@contextlib.contextmanager
def _opened(path: Path, *, read_only: bool) -> Iterator[duckdb.DuckDBPyConnection]:
    connection = duckdb.connect(str(path), read_only=read_only, config=_CONFIG)
    try:
        if not read_only:
            path.chmod(0o600)
        yield connection
    finally:
        connection.close()


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Turn DuckDB's errors into ours."""
    try:
        yield
    except RowError as error:
        raise DamagedError.single(
            str(path), f"is damaged: {error}", "restore it, or file its runs into another one (--store)"
        ) from error
    except duckdb.Error as error:
        first = str(error).splitlines()[0]
        if "lock on file" in first:
            raise BusyError(f"the history {path} is open in another program: {first}") from error
        if "no space left" in first.lower():
            message = f"cannot write the history {path}: the disk is full ({first})"
            raise HarnessError(message, remedy="free some space") from error
        raise InputError.single(
            str(path),
            f"cannot be read as a history: {first}",
            f"it is another file, damaged, or written by a DuckDB newer than {duckdb.__version__}: "
            "restore it, or name another with --store",
        ) from error


def _check_version(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    ((version,),) = connection.execute("SELECT max(version) FROM format").fetchall()
    if version != HISTORY_FORMAT:
        raise InputError.single(
            str(path),
            f"is a history of format version {version}; this harness knows {HISTORY_FORMAT}",
            "use a newer qemu-ab-harness; the file was left as it is",
        )


def _new_ones(connection: duckdb.DuckDBPyConnection, runs: Sequence[FiledRun]) -> list[bool]:
    """Return which runs are not there yet.

    Raises:
        InputError: other content is there under the id of one, or twice among them.
    """
    there = connection.execute(
        "SELECT host_id, run_id, content, path FROM runs SEMI JOIN "
        "(SELECT unnest(?::VARCHAR[]) AS host_id, unnest(?::VARCHAR[]) AS run_id) USING (host_id, run_id)",
        [[run.host_id for run in runs], [run.run_id for run in runs]],
    ).fetchall()
    known = {(host, run_id): (content, path) for host, run_id, content, path in there}
    new, problems = [], []
    for run in runs:
        key = (run.host_id, run.run_id)
        new.append(key not in known)
        content, path = known.setdefault(key, (run.content, run.path))
        if content != run.content:
            problems.append(
                Problem(
                    run.path,
                    f"its run id {run.run_id} is filed already with other content, from {path}",
                    "one of the two was changed after it was measured: file the true one in another store",
                )
            )
    if problems:
        raise InputError(problems)
    return new


def _insert(connection: duckdb.DuckDBPyConnection, runs: Sequence[FiledRun]) -> None:
    import pandas as pd

    connection.execute("BEGIN")
    ((last,),) = connection.execute("SELECT coalesce(max(number), 0) FROM runs").fetchall()
    numbered = list(enumerate(runs, start=last + 1))
    tables = {
        "runs": [
            (number, *(getattr(run, name) for name in RUN), json.dumps(dict(run.conditions)))
            for number, run in numbered
        ],
        "builds": [
            (number, place, *(getattr(build, name) for name in BUILD))
            for number, run in numbered
            for place, build in enumerate(run.builds)
        ],
        "numbers": [
            (number, place, *(getattr(found, name) for name in NUMBER))
            for number, run in numbered
            for place, found in enumerate(run.numbers)
        ],
    }
    for table, columns in COLUMNS.items():
        frame = pd.DataFrame(tables[table], columns=list(columns))
        if "started" in frame:
            frame["started"] = pd.to_datetime(frame["started"], utc=True).dt.tz_localize(None)
        connection.register("filed", frame)
        names = ", ".join(f'"{name}"' for name in columns)
        connection.execute(f"INSERT INTO {table} ({names}) SELECT {names} FROM filed")  # noqa: S608 - our own
    connection.execute("COMMIT")


def _heads(
    connection: duckdb.DuckDBPyConnection, selection: Selection, run_id: str | None = None
) -> list[FiledRun]:
    where, values = _where(selection, run_id)
    limit = "" if selection.limit is None else f" LIMIT {int(selection.limit)}"
    order = f"ORDER BY started DESC, number DESC{limit}"
    rows = connection.execute(f"SELECT {_HEAD} FROM runs WHERE {where} {order}", values).fetchall()  # noqa: S608
    return _as_runs(connection, rows)


def _where(selection: Selection, run_id: str | None = None) -> tuple[str, list[object]]:
    """Return the condition for runs, and the values of its placeholders."""
    parts: list[tuple[str, list[object]]] = [("true", [])]
    if run_id is not None:
        parts.append(("run_id = ?", [run_id]))
    if selection.host is not None:
        parts.append(("(host_name = ? OR starts_with(host_id, ?))", [selection.host] * 2))
    if selection.experiment is not None:
        parts.append(("(experiment = ? OR starts_with(comparable, ?))", [selection.experiment] * 2))
    if selection.since is not None:
        parts.append(("started >= ?", [selection.since.astimezone(UTC).replace(tzinfo=None)]))
    if selection.build is not None:
        parts.append((_BUILD_IS, [selection.build] * 4))
    return " AND ".join(text for text, _values in parts), [value for _text, own in parts for value in own]


def _as_runs(connection: duckdb.DuckDBPyConnection, rows: Sequence[tuple[Any, ...]]) -> list[FiledRun]:
    builds: dict[int, list[FiledBuild]] = {row[0]: [] for row in rows}
    names = ", ".join(f'"{name}"' for name in BUILD)
    found = connection.execute(
        f"SELECT number, {names} FROM builds SEMI JOIN "  # noqa: S608 - our own names
        "(SELECT unnest(?::INTEGER[]) AS number) USING (number) ORDER BY number, place",
        [list(builds)],
    ).fetchall()
    for number, *values in found:
        builds[number].append(FiledBuild(*values))
    return [run_of(row, builds[row[0]]) for row in rows]


def _with_numbers(connection: duckdb.DuckDBPyConnection, runs: Sequence[FiledRun]) -> list[FiledRun]:
    names = ", ".join(f'"{name}"' for name in NUMBER)
    query = (
        f"SELECT {names} FROM numbers WHERE number = "  # noqa: S608 - our own names
        "(SELECT number FROM runs WHERE host_id = ? AND run_id = ?) ORDER BY place"
    )
    return [
        replace(
            run,
            numbers=tuple(
                number_of(row, run.run_id)
                for row in connection.execute(query, [run.host_id, run.run_id]).fetchall()
            ),
        )
        for run in runs
    ]


def _followed(
    connection: duckdb.DuckDBPyConnection, selection: Selection, most: int
) -> tuple[list[FiledRun], pd.DataFrame]:
    where, values = _where(selection)
    connection.execute(
        f"CREATE TEMP TABLE chosen AS SELECT {_HEAD} FROM runs WHERE {where} "  # noqa: S608 - our own names
        f"QUALIFY row_number() OVER (PARTITION BY {_TOGETHER} ORDER BY started DESC, number DESC) <= ?",
        [*values, most],
    )
    rows = connection.execute("SELECT * FROM chosen ORDER BY started, number").fetchall()
    # The place of a run among them is that of its number in the list.
    frame = connection.execute(
        "SELECT run - 1 AS run, cell, variant, metric, value, change FROM numbers JOIN "
        "(SELECT unnest(?::INTEGER[]) AS number, unnest(range(1, ?)) AS run) USING (number) "
        "ORDER BY run, place",
        [[row[0] for row in rows], len(rows) + 1],
    ).df()
    return _as_runs(connection, rows), frame
