"""Runs as one file for a mail: packed, with names replaced on request, and read again."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from harness import __version__
from harness.adapters.outputs import check_output, write_output
from harness.adapters.results.bundle import NOISE_FLOOR, files_of_run, pack
from harness.adapters.results.record_files import RESTORE, parsed, validated
from harness.adapters.results.run_layout import BUNDLE_SUFFIX, ENVIRONMENT, HEAD, HOST_LOG, is_run_here
from harness.adapters.results.store import RunDirectory
from harness.adapters.workspace import default_state_directory
from harness.core import seals
from harness.core.anonymity import Anonymiser, users_in
from harness.core.errors import DamagedError, InputError
from harness.core.experiment import load_experiment
from harness.core.unicode import utf8
from harness.shell.exporting import Wanted, judge_run, render_table

if TYPE_CHECKING:
    from collections.abc import Mapping

_RECORDS = ("session.json", "count.json", HEAD)
"""They name the SHA-256 of the files beside them, and carry one of their own."""

_TABLES = {"table.txt": "text", "table.md": "markdown"}


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that was written.

    Attributes:
        size_bytes: of the file.
        refused: why whoever gets it cannot compare it: the run is damaged, or holds no numbers yet.
    """

    size_bytes: int
    refused: InputError | None


def write_bundle(path: Path, target: Path, *, anonymous: bool, logs: bool) -> Bundle:
    """Pack a run directory, and the A/A run that it points at, into one file.

    Args:
        path: the run directory.
        target: the new file, ``*.tar.zst``; an older one of that name is replaced.
        anonymous: replace host and user names, paths, addresses, UUIDs and serial numbers.
        logs: take the guests' consoles and QEMU's error output along.

    Raises:
        InputError: it is no run directory, is being measured at the moment, or cannot be read; without
            experiment or host nobody knows which names to replace; for the target as `check_output`.
        HarnessError: the file cannot be written.
    """
    if not target.name.endswith(BUNDLE_SUFFIX):
        raise InputError.single(
            str(target), "does not end in .tar.zst", f"--bundle {target.name.partition('.')[0]}.tar.zst"
        )
    check_output(target, f"run{BUNDLE_SUFFIX}")
    run = RunDirectory.open(path)
    if run.writer is not None:
        raise InputError.single(
            str(path), "is still being measured", "wait for its end, or stop it with Ctrl-C"
        )
    tables, refused = _tables(path)
    files = files_of_run(path, logs=logs) | tables
    head = orjson.loads(files[HEAD])
    if floor := _noise_floor(path, head, logs=logs):
        files |= floor
        files[HEAD] = _changed(files[HEAD], noise_floor=NOISE_FLOOR)
    if anonymous:
        files = _anonymous(files, _anonymiser(run, files))
    # It is the archive's directory, too, and has the host's name in it.
    run_id = str(orjson.loads(files[HEAD])["run_id"])
    data = pack(files, run_id=run_id, harness_version=__version__, anonymous=anonymous, logs=logs)
    write_output(target, data)
    return Bundle(len(data), refused)


def _tables(path: Path) -> tuple[dict[str, bytes], InputError | None]:
    """Return the rendered tables; of a run that cannot be judged why: it may be sent to ask what is wrong."""
    try:
        judged = judge_run(path, Wanted())
    except InputError as error:
        return {}, error
    return {name: utf8(render_table(judged, form)) for name, form in _TABLES.items()}, None


def _noise_floor(path: Path, head: Mapping[str, Any], *, logs: bool) -> dict[str, bytes]:
    """Return the files of the A/A run that a run points at; none if it is not here."""
    recorded = head.get("noise_floor")
    if not recorded or not is_run_here(path / recorded):
        return {}
    return {f"{NOISE_FLOOR}/{name}": data for name, data in files_of_run(path / recorded, logs=logs).items()}


def _changed(record: bytes, **values: Any) -> bytes:
    """Return a record with some values changed, sealed again where it was whole."""
    changed = orjson.loads(record) | values
    if seals.look(record) is not seals.Seal.WHOLE:
        return _json(changed)
    del changed[seals.KEY]
    return seals.seal(changed)


def _json(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _anonymiser(run: RunDirectory, files: Mapping[str, bytes]) -> Anonymiser:
    experiment = load_experiment(run.experiment, f"{run.path}/experiment.yml")
    home = Path.home()
    if ENVIRONMENT not in files:
        message = "is missing: --anonymous does not know the host's name"
        raise DamagedError.single(f"{run.path}/{ENVIRONMENT}", message, RESTORE)
    hosts = {_host_of(data, run.path / name) for name, data in files.items() if name.endswith(ENVIRONMENT)}
    words = {experiment.name, *experiment.variants}
    words |= {str(value) for cell in experiment.cells() for value in cell.factors().values()}
    own = (run.path.absolute(), run.path.resolve(), default_state_directory(), home, Path.cwd())
    return Anonymiser(
        hosts={os.uname().nodename, *hosts} - {""},
        users={home.name, os.environ.get("SUDO_USER", "")}.union(
            *(users_in(_text(f)) for f in files.values())
        )
        - {""},
        directories=[str(directory) for directory in own],
        words=words,
    )


def _host_of(data: bytes, path: Path) -> str:
    environment = validated(dict[str, Any], parsed(data, path, RESTORE), path)
    host = environment.get("host")
    return str(host.get("name") or "") if isinstance(host, dict) else ""


def _text(data: bytes) -> str:
    # What is no text comes out as it went in.
    return data.decode(errors="surrogateescape")


def _anonymous(files: Mapping[str, bytes], anonymiser: Anonymiser) -> dict[str, bytes]:
    """Return files without anybody's names; records name the SHA-256 of what became of the others."""
    found: dict[str, bytes] = {}
    renamed: dict[str, dict[bytes, bytes]] = {}
    for name, data in sorted(files.items(), key=lambda entry: (entry[0].endswith(_RECORDS), entry[0])):
        directory, _slash, base = name.rpartition("/")
        named = _without_host(data, anonymiser) if base == ENVIRONMENT else data
        new = anonymiser.text(_text(named)).encode(errors="surrogateescape")
        if base in _RECORDS:
            for before, after in renamed.get(directory, {}).items():
                new = new.replace(before, after)
            # One that was damaged before stays so.
            if seals.look(data) is seals.Seal.WHOLE:
                new = seals.sealed_again(new)
        elif base == HOST_LOG:
            new = seals.lines_sealed_again(data, new)
            renamed.setdefault(directory, {}).update(zip(*map(seals.line_seals, (data, new)), strict=False))
        elif new != data:
            renamed.setdefault(directory, {})[_sha256(data)] = _sha256(new)
        # A session's directory is called after its variant, as the plan has it: the same becomes of both.
        found[anonymiser.text(name)] = new
    return found


def _sha256(data: bytes) -> bytes:
    return seals.digest(data).encode()


def _without_host(data: bytes, anonymiser: Anonymiser) -> bytes:
    """Replace the host's name where it stands, whatever it is: in a text it may be a word like any other."""
    environment = orjson.loads(data)
    host = environment.get("host")
    if isinstance(host, dict) and host.get("name"):
        host["name"] = anonymiser.host(str(host["name"]))
    return _json(environment)
