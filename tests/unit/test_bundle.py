"""A run as one file: everything comes back, nothing of anybody's machine on request, and nothing is trusted."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import counted_run
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_comparing import SAME, a_run

from harness.adapters.files import write_json
from harness.adapters.results.bundle import BUNDLE_FORMAT, MANIFEST, pack
from harness.adapters.results.store import RunDirectory
from harness.adapters.results.unpacking import Limits, is_bundle, unpacked
from harness.core.errors import InputError
from harness.core.records import RunState
from harness.shell.bundles import readable, write_bundle
from harness.shell.cli.main import run_cli

if TYPE_CHECKING:
    from collections.abc import Callable

Captured = pytest.CaptureFixture[str]
Edit = Callable[[tarfile.TarInfo], None] if TYPE_CHECKING else Any

HOST = "build-box.lab.example"
HOME = "/home/jane"
SECRETS = (HOST, "build-box", "jane", "/srv/qemu-runs", "192.168.7.9", "52:54:00:aa:bb:cc", "S3CR3T")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return a run that tells whose it is in every way there is."""
    path = a_run(
        tmp_path / "the run",
        new=800.0,
        builds={
            "OLD": {"version": "QEMU of OLD", "sha256": "a", "binary": f"{HOME}/qemu-7/qemu-system-x86_64"},
            "NEW": {"version": "QEMU of NEW", "sha256": "b", "binary": f"{HOME}/qemu-10/qemu-system-x86_64"},
        },
    )
    host = {"name": HOST, "kernel": "6.1", "cpu": {"model": "x", "count": 2}, "serial": "S3CR3T"}
    write_json(path / "environment.json", {"host": host, "address": "192.168.7.9"})
    text = (path / "experiment.yml").read_text().replace("/new", f"{HOME}/my build/qemu-system-x86_64")
    (path / "experiment.yml").write_text(f"# measured on {HOST} in /srv/qemu-runs/x by Jane\n{text}")
    for directory in (path / "sessions").iterdir():
        (directory / "console.log").write_text(f"Welcome to {HOST}\n")
        domain = (
            f'<domain><name>x</name><mac address="52:54:00:aa:bb:cc"/><disk path="{HOME}/d.raw"/></domain>'
        )
        (directory / "domain.xml").write_text(domain)
    record = json.loads((path / "sessions/000-OLD/session.json").read_text())
    file = path / "sessions/000-OLD" / record["iterations"][0]["file"]
    file.write_text(file.read_text().replace('"jobname": "fio"', f'"jobname": "{HOME}/job"'))
    record["iterations"][0]["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    write_json(path / "sessions/000-OLD/session.json", record)
    return path


def compared(capsys: Captured, *arguments: object, code: int = 0) -> str:
    assert run_cli(["compare", *map(str, arguments)]) == code
    return capsys.readouterr().out


def unpack(bundle: Path, place: Path) -> Path:
    with unpacked(bundle) as directory:
        return Path(shutil.copytree(directory, place))


def nothing_left() -> bool:
    return not list(Path(tempfile.gettempdir()).glob("ab-bundle-*"))


@pytest.fixture(autouse=True)
def own_temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))


@pytest.mark.parametrize("options", [[], ["--anonymous"], ["--anonymous", "--logs"]])
def test_a_bundle_compares_as_its_run_does(
    run: Path, tmp_path: Path, options: list[str], capsys: Captured
) -> None:
    bundle = tmp_path / "b.tar.zst"
    assert run_cli(["export", str(run), "--bundle", str(bundle), *options]) == 0
    for form in ("text", "commit", "csv"):
        assert compared(capsys, bundle, "--format", form) == compared(capsys, run, "--format", form)
    ours, theirs = (json.loads(compared(capsys, path, "--json")) for path in (run, bundle))
    assert {**ours, "environment": None} == {**theirs, "environment": None}
    assert nothing_left()


def test_an_anonymous_bundle_tells_nobodys_name(run: Path, tmp_path: Path) -> None:
    write_bundle(run, tmp_path / "b.tar.zst", anonymous=True, logs=True)
    place = unpack(tmp_path / "b.tar.zst", tmp_path / "out")
    files = [file for file in place.rglob("*") if file.is_file()]
    assert len(files) > 20
    private = [*SECRETS, HOME, str(run), str(tmp_path), str(Path.home()) + "/"]
    for file in files:
        text = file.read_text().lower()
        assert [word for word in private if word.lower() in text] == [], file
    assert json.loads((place / "environment.json").read_text())["host"]["name"] == "host1"
    experiment = (place / "experiment.yml").read_text()
    assert experiment.startswith("# measured on host1 in /srv/")
    assert (place / "table.txt").read_text().startswith("NEW against OLD")
    assert "| RW |" in (place / "table.md").read_text()


def test_logs_come_along_on_request_only(run: Path, tmp_path: Path) -> None:
    write_bundle(run, tmp_path / "b.tar.zst", anonymous=False, logs=False)
    place = unpack(tmp_path / "b.tar.zst", tmp_path / "out")
    assert not list(place.rglob("*.log"))
    write_bundle(run, tmp_path / "l.tar.zst", anonymous=False, logs=True)
    assert list(unpack(tmp_path / "l.tar.zst", tmp_path / "logs").rglob("console.log"))


def test_what_is_not_anonymous_is_untouched(run: Path, tmp_path: Path) -> None:
    write_bundle(run, tmp_path / "b.tar.zst", anonymous=False, logs=True)
    place = unpack(tmp_path / "b.tar.zst", tmp_path / "out")
    (run / ".hidden.json").write_text("{}")
    (run / "link.json").symlink_to("run.json")
    (run / "notes.txt").write_text("mine")
    for file in run.rglob("*"):
        name = file.relative_to(run)
        if file.is_file() and file.name not in {".lock", ".hidden.json", "link.json", "notes.txt"}:
            assert (place / name).read_bytes() == file.read_bytes()
    write_bundle(run, tmp_path / "again.tar.zst", anonymous=False, logs=True)
    # To the byte, whoever's file times and names beside it.
    assert (tmp_path / "again.tar.zst").read_bytes() == (tmp_path / "b.tar.zst").read_bytes()


def test_the_noise_floor_comes_along(tmp_path: Path, capsys: Captured) -> None:
    floor = a_run(tmp_path / "floor", builds=SAME, new=1000.0)
    run = a_run(tmp_path / "r", noise_floor=str(floor))
    write_bundle(run, tmp_path / "b.tar.zst", anonymous=True, logs=False)
    expected = compared(capsys, run)
    assert "A/A" in expected
    shutil.rmtree(floor)
    assert compared(capsys, tmp_path / "b.tar.zst") == expected


def test_two_bundles_are_compared_as_two_runs(tmp_path: Path, capsys: Captured) -> None:
    for name, new in (("1", 1000.0), ("2", 1200.0)):
        write_bundle(
            a_run(tmp_path / name, new=new), tmp_path / f"{name}.tar.zst", anonymous=False, logs=False
        )
    out = compared(capsys, tmp_path / "1.tar.zst", tmp_path / "2.tar.zst")
    assert "+20.0%" in out
    assert "NEW is NEW of r" in out
    assert "ab-bundle" not in out


def test_a_bundle_is_shown_and_exported(run: Path, tmp_path: Path, capsys: Captured) -> None:
    bundle = tmp_path / "b.tar.zst"
    write_bundle(run, bundle, anonymous=False, logs=False)
    assert run_cli(["show", str(bundle)]) == 0
    assert run_cli(["export", str(bundle), "--format", "openmetrics"]) == 0
    # Somebody else's bundle, made anonymous before it goes on.
    assert run_cli(["export", str(bundle), "--bundle", str(tmp_path / "a.tar.zst"), "--anonymous"]) == 0
    capsys.readouterr()
    assert compared(capsys, tmp_path / "a.tar.zst") == compared(capsys, run)
    assert nothing_left()


def test_counts_are_packed_too(tmp_path: Path, capsys: Captured) -> None:
    cost = {"OLD": 5000, "NEW": 6000}
    run = counted_run.make(tmp_path / "c", lambda c: 1_000_000 + c.requests * cost[c.variant])
    write_bundle(run, tmp_path / "c.tar.zst", anonymous=True, logs=False)
    for options in ([], ["--explain"]):
        assert compared(capsys, tmp_path / "c.tar.zst", *options) == compared(capsys, run, *options)


def test_a_run_without_numbers_can_be_sent_too(tmp_path: Path, capsys: Captured) -> None:
    from fakes import new_run

    run = new_run(tmp_path / "r", state=RunState.FAILED).path
    write_bundle(run, tmp_path / "b.tar.zst", anonymous=False, logs=False)
    assert run_cli(["compare", str(tmp_path / "b.tar.zst")]) == 2
    err = capsys.readouterr().err
    assert f"{tmp_path}/b.tar.zst: holds no accepted iteration yet" in err
    assert "ab-bundle" not in err


def test_a_run_that_is_being_measured_is_not_packed(run: Path, tmp_path: Path) -> None:
    with RunDirectory.open(run).writing(), pytest.raises(InputError, match="is still being measured"):
        write_bundle(run, tmp_path / "b.tar.zst", anonymous=False, logs=False)
    assert not (tmp_path / "b.tar.zst").exists()


def test_a_bundle_is_not_resumed(run: Path, tmp_path: Path, capsys: Captured) -> None:
    bundle = tmp_path / "b.tar.zst"
    write_bundle(run, bundle, anonymous=False, logs=False)
    for path in (bundle, unpack(bundle, tmp_path / "out")):
        assert run_cli(["run", "--resume", str(path)]) == 2
        assert "is a bundle: a copy to be read" in capsys.readouterr().err


def test_another_suffix_is_refused(run: Path, tmp_path: Path, capsys: Captured) -> None:
    assert run_cli(["export", str(run), "--bundle", str(tmp_path / "b.zip")]) == 2
    assert "does not end in .tar.zst" in capsys.readouterr().err


def test_other_compressed_files_are_no_bundles(tmp_path: Path) -> None:
    results = tmp_path / "fio.json.zst"
    results.write_bytes(zstandard.compress(b"{}"))
    assert not is_bundle(results)
    assert is_bundle(results.rename(tmp_path / "whatever"))


# What nobody should send


def manifest(contents: dict[str, bytes], **changes: object) -> bytes:
    listed = {name: {"size": len(d), "sha256": hashlib.sha256(d).hexdigest()} for name, d in contents.items()}
    head = {
        "format": BUNDLE_FORMAT, "format_version": 1, "run_id": "r", "harness_version": "0",
        "anonymous": False, "logs": False, "files": listed,
    }  # fmt: skip
    return json.dumps(head | changes).encode()


def archive(members: list[tuple[str, bytes, Edit | None]], path: Path) -> Path:
    blocks = b""
    for name, data, edit in members:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        if edit is not None:
            edit(info)
        # GNU's format, as anybody's tar writes it: long names and impossible sizes included.
        blocks += info.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % tarfile.BLOCKSIZE)
    path.write_bytes(zstandard.compress(blocks + bytes(2 * tarfile.BLOCKSIZE)))
    return path


def typed(kind: bytes, link: str = "", size: int | None = None) -> Edit:
    def edit(info: tarfile.TarInfo) -> None:
        info.type, info.linkname = kind, link
        info.size = info.size if size is None else size

    return edit


GOOD = {"run.json": b"{}"}
HEAD: tuple[str, bytes, Edit | None] = (f"r/{MANIFEST}", manifest(GOOD), None)
HOSTILE: dict[str, tuple[list[tuple[str, bytes, Edit | None]], str]] = {
    "traversal": ([HEAD, ("r/../../evil", b"x", None)], "which leads elsewhere"),
    "absolute": ([HEAD, ("/tmp/evil", b"x", None)], "which leads elsewhere"),  # noqa: S108
    "dot": ([HEAD, ("r/./run.json", b"x", None)], "which leads elsewhere"),
    "backslash": ([HEAD, ("r/..\\evil", b"x", None)], "which leads elsewhere"),
    "control": ([HEAD, ("r/\x1b[2J", b"x", None)], "which leads elsewhere"),
    "second top": ([HEAD, ("other/run.json", b"{}", None)], "more than one directory at its top"),
    "no top": ([(MANIFEST, manifest({}), None)], "outside of its directory"),
    "symlink": ([HEAD, ("r/l", b"", typed(tarfile.SYMTYPE, "/etc"))], "neither a plain file nor a directory"),
    "hard link": ([HEAD, ("r/l", b"", typed(tarfile.LNKTYPE, "r/x"))], "neither a plain file"),
    "device": ([HEAD, ("r/d", b"", typed(tarfile.CHRTYPE))], "neither a plain file"),
    "fifo": ([HEAD, ("r/f", b"", typed(tarfile.FIFOTYPE))], "neither a plain file"),
    "sparse": ([HEAD, ("r/s", b"", typed(tarfile.GNUTYPE_SPARSE))], "neither a plain file"),
    "long name": ([HEAD, ("r/" + "x" * 300, b"", None)], "neither a plain file"),
    "twice": ([HEAD, ("r/run.json", b"{}", None), ("r/run.json", b"{}", None)], "has run.json twice"),
    "file and directory": (
        [(f"r/{MANIFEST}", manifest({"a": b"", "a/b": b""}), None), ("r/a", b"", None), ("r/a/b", b"", None)],
        "cannot be read or unpacked",
    ),
    "not listed": (
        [HEAD, ("r/run.json", b"{}", None), ("r/x", b"", None)],
        "which its manifest.json does not list",
    ),
    "missing": ([HEAD], "lacks run.json"),
    "changed": ([HEAD, ("r/run.json", b"[]", None)], "has a run.json that is not the one"),
    "no manifest": ([("r/run.json", b"{}", None)], "does not begin with manifest.json"),
    "another manifest": ([(f"r/{MANIFEST}", b'{"manifest_version": 3}', None)], "is not that of a bundle"),
    "no JSON": ([(f"r/{MANIFEST}", b"{", None)], "is not JSON"),
    "deep JSON": ([(f"r/{MANIFEST}", b"[" * 100_000, None)], "is not JSON"),
    "damaged manifest": ([(f"r/{MANIFEST}", manifest({}, files=[]), None)], "is damaged at files"),
    "newer": (
        [(f"r/{MANIFEST}", manifest({}, format_version=2, files=3), None)],
        "has format version 2; this harness reads up to 1",
    ),
    "impossible size": (
        [HEAD, ("r/run.json", b"", typed(tarfile.REGTYPE, size=-512))],
        "whose size is impossible",
    ),
    "empty": ([], "nothing is in it"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    members, words = HOSTILE[name]
    bundle = archive(members, tmp_path / "b.tar.zst")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError) as caught, readable(bundle):
        pytest.fail("was unpacked")
    assert words in str(caught.value)
    assert str(bundle) in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_good_one_of_another_tar_is_read(tmp_path: Path) -> None:
    directory: tuple[str, bytes, Edit | None] = ("r/", b"", typed(tarfile.DIRTYPE))
    bundle = archive([directory, HEAD, ("r/run.json", b"{}", None)], tmp_path / "b.tar.zst")
    with readable(bundle) as run:
        assert (run / "run.json").read_bytes() == b"{}"
        assert run.stat().st_mode & 0o077 == 0 or run.parent.stat().st_mode & 0o077 == 0
    assert nothing_left()


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(files=3), "has more than 3 files"),
        (Limits(bytes=20_000), "unpacks to more than 20,000 bytes"),
        (Limits(ratio=1, free_bytes=0), "unpacks to more than"),
    ],
)
def test_there_are_limits(limits: Limits, words: str, tmp_path: Path) -> None:
    files = {f"{n}.json": b" " * 10_000 for n in range(9)}
    bundle = tmp_path / "b.tar.zst"
    bundle.write_bytes(pack(files, run_id="r", harness_version="0", anonymous=False, logs=False))
    with pytest.raises(InputError, match=words), unpacked(bundle, limits):
        pytest.fail("was unpacked")
    assert nothing_left()


def test_a_header_that_claims_terabytes_costs_nothing(tmp_path: Path) -> None:
    info = tarfile.TarInfo(f"r/{MANIFEST}")
    info.size = 2**42
    bundle = tmp_path / "b.tar.zst"
    bundle.write_bytes(zstandard.compress(info.tobuf(tarfile.GNU_FORMAT)))
    with pytest.raises(InputError, match=r"manifest.json of 4,398,046,511,104 bytes"), unpacked(bundle):
        pytest.fail("was unpacked")


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x28\xb5\x2f\xfd", b"\x28\xb5\x2f\xfd" + b"x" * 100])
def test_what_is_no_bundle_at_all_says_so(data: bytes, tmp_path: Path, capsys: Captured) -> None:
    bundle = tmp_path / "b.tar.zst"
    bundle.write_bytes(data)
    assert run_cli(["compare", str(bundle)]) == 2
    error, remedy = capsys.readouterr().err.splitlines()
    assert error.startswith((f"error: {bundle}: is ", f"error: {bundle}: ends too early"))
    assert "harness export RUN_DIR --bundle" in remedy


def test_records_do_not_lead_out_of_the_run(run: Path, tmp_path: Path, capsys: Captured) -> None:
    path = run / "sessions/000-OLD/session.json"
    record = json.loads(path.read_text())
    record["iterations"][0]["file"] = "../../../../../dev/zero"
    write_json(path, record)
    write_bundle(run, tmp_path / "b.tar.zst", anonymous=False, logs=False)
    assert run_cli(["compare", str(tmp_path / "b.tar.zst")]) == 2
    assert "which is none of its own" in capsys.readouterr().err


WHOLE = pack(
    {"run.json": b"{}", "sessions/000-OLD/session.json": b"[1, 2]" * 50},
    run_id="r",
    harness_version="0",
    anonymous=False,
    logs=False,
)
PLAIN = zstandard.ZstdDecompressor().decompressobj().decompress(WHOLE)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    at=st.integers(0, len(PLAIN) - 1),
    byte=st.integers(0, 255),
    cut=st.integers(0, len(PLAIN)),
    outer=st.booleans(),
)
def test_damage_is_an_input_error_or_harmless(
    tmp_path: Path, at: int, byte: int, cut: int, *, outer: bool
) -> None:
    data = bytearray(WHOLE if outer else PLAIN)
    data[at % len(data)] = byte
    damaged = bytes(data[: max(cut, at % len(data) + 1)])
    read_or_refuse(tmp_path, damaged if outer else zstandard.compress(damaged))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=2048), outer=st.booleans())
def test_noise_is_an_input_error(tmp_path: Path, data: bytes, *, outer: bool) -> None:
    read_or_refuse(tmp_path, data if outer else zstandard.compress(data))


def read_or_refuse(place: Path, data: bytes) -> None:
    bundle = place / "b.tar.zst"
    bundle.write_bytes(data)
    try:
        with unpacked(bundle) as run:
            assert (run / "run.json").read_bytes() == b"{}"
    except InputError as error:
        assert error.problems[0].where.startswith(str(bundle))  # noqa: PT017
    assert nothing_left()
