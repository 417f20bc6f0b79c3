"""Archives that nobody should send: refused in plain words, and nothing of them is left."""

from __future__ import annotations

import hashlib
import json
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.adapters.results.bundle import BUNDLE_FORMAT, MANIFEST, pack
from harness.adapters.results.unpacking import Limits, unpacked
from harness.core.errors import InputError
from harness.shell.cli.main import run_cli
from harness.shell.opening import readable

Captured = pytest.CaptureFixture[str]
Edit = Callable[[tarfile.TarInfo], None]


def nothing_left() -> bool:
    return not list(Path(tempfile.gettempdir()).glob("ab-scratch-*"))


@pytest.fixture(autouse=True)
def own_temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))


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
