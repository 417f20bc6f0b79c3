"""A run as one file: everything comes back, and on request nothing of anybody's machine."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import tempfile
from pathlib import Path
from typing import Any

import counted_run
import pytest
import zstandard
from test_comparing import SAME, a_run, measure, speeds

from fakes import EXPERIMENT, new_run
from harness.adapters.files import write_json
from harness.adapters.results.run_layout import is_bundle
from harness.adapters.results.store import RunDirectory
from harness.adapters.results.unpacking import unpacked
from harness.core.errors import InputError
from harness.core.experiment import load_experiment
from harness.core.records import RunState
from harness.shell.beginning import new_run_id
from harness.shell.bundles import write_bundle
from harness.shell.cli.main import run_cli
from resealed import reseal, write_sealed

Captured = pytest.CaptureFixture[str]

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
    write_sealed(path / "sessions/000-OLD/session.json", record)
    reseal(path)
    return path


def compared(capsys: Captured, *arguments: object, code: int = 0) -> str:
    assert run_cli(["compare", *map(str, arguments)]) == code
    return capsys.readouterr().out


def unpack(bundle: Path, place: Path) -> Path:
    with unpacked(bundle) as directory:
        return Path(shutil.copytree(directory, place))


def nothing_left() -> bool:
    return not list(Path(tempfile.gettempdir()).glob("ab-scratch-*"))


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


def on_host(host: str, path: Path, monkeypatch: pytest.MonkeyPatch, **record: Any) -> Path:
    """Return a run of a machine, whose name is wherever a run's id is: in its domains, logs and paths."""
    monkeypatch.setattr(platform, "node", lambda: host)
    record.setdefault("variants", ("OLD", "NEW"))
    experiment = EXPERIMENT.replace("BLOCKS", "8").replace("REPEATS", "1")
    run_id = new_run_id(load_experiment(experiment, "experiment.yml"))
    run = new_run(path, blocks=8, run_id=run_id, **record)
    measure(run, speeds(dict.fromkeys(record["variants"], 1000.0)))
    write_json(path / "environment.json", {"host": {"name": host, "kernel": "6.1", "cpu": {"model": "x"}}})
    for directory in (path / "sessions").iterdir():
        domain = f"qemu-ab-{run_id}-{directory.name}"
        (directory / "domain.xml").write_text(
            f"<domain><name>{domain}</name><metadata><run>{run_id}</run></metadata></domain>"
        )
        (directory / "qemu.log").write_text(
            f"-name guest={domain},debug-threads=on -D /var/log/{domain}.log\n"
        )
    reseal(path)
    return path


@pytest.mark.parametrize(
    ("host", "private"),
    [
        ("buildhost7-acme.corp.example", ["buildhost7", "acme"]),
        ("build_host7", ["build_host7", "build-host7"]),
        ("build_host7.corp.example", ["build_host7", "build-host7"]),
        (f"node-{'x' * 40}.corp.example", ["xxxx"]),
        # In running text no name of a machine is told from these.
        ("vm9", ["vm9"]),
        ("test", ["z-test"]),
    ],
)
def test_the_run_id_tells_no_host(
    host: str, private: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    run, bundle = on_host(host, tmp_path / "r", monkeypatch), tmp_path / "b.tar.zst"
    assert run_cli(["export", str(run), "--bundle", str(bundle), "--anonymous", "--logs"]) == 0
    # The archive as it is: its directories, the manifest and every file.
    everything = zstandard.ZstdDecompressor().stream_reader(bundle.read_bytes()).read().decode().lower()
    assert [word for word in private if word in everything] == []
    place = unpack(bundle, tmp_path / "out")
    run_id = json.loads((place / "run.json").read_text())["run_id"]
    name = json.loads((place / "environment.json").read_text())["host"]["name"]
    assert run_id.endswith(f"Z-{name}")
    assert json.loads((place / "manifest.json").read_text())["run_id"] == run_id
    assert everything.startswith(f"{run_id}/manifest.json".lower())
    assert f"<name>qemu-ab-{run_id}-000-" in (place / "sessions/000-OLD/domain.xml").read_text()
    capsys.readouterr()
    assert compared(capsys, bundle) == compared(capsys, run)


def test_a_host_in_a_variants_name_is_no_riddle_to_readers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    variants = ("OLD", "build-host7-NEW")
    run = on_host("build-host7", tmp_path / "r", monkeypatch, variants=variants)
    write_bundle(run, tmp_path / "b.tar.zst", anonymous=True, logs=False)
    expected = compared(capsys, run, "--format", "csv")
    found = compared(capsys, tmp_path / "b.tar.zst", "--format", "csv")
    assert "build" not in found
    assert [line.split(",")[3:6] for line in found.splitlines()] == [
        line.split(",")[3:6] for line in expected.splitlines()
    ]


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
    assert "ab-scratch" not in out


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
    run = new_run(tmp_path / "r", state=RunState.FAILED).path
    write_bundle(run, tmp_path / "b.tar.zst", anonymous=False, logs=False)
    assert run_cli(["compare", str(tmp_path / "b.tar.zst")]) == 2
    err = capsys.readouterr().err
    assert f"{tmp_path}/b.tar.zst: holds no accepted iteration yet" in err
    assert "ab-scratch" not in err


@pytest.mark.parametrize("file", ["experiment.yml", "plan.json", "sessions/000-OLD/session.json"])
def test_of_a_damaged_run_the_bundle_is_not_said_to_be_readable(
    file: str, run: Path, tmp_path: Path, capsys: Captured
) -> None:
    (run / file).unlink()
    assert run_cli(["export", str(run), "--bundle", str(tmp_path / "b.tar.zst")]) == 0
    err = capsys.readouterr().err
    assert "read it with" not in err
    assert f"harness: warning: {run / file}: " in err
    compared(capsys, tmp_path / "b.tar.zst", code=2)


@pytest.mark.parametrize("file", ["environment.json", "experiment.yml"])
@pytest.mark.parametrize("torn", [False, True])
def test_without_the_names_to_replace_nothing_is_anonymous(
    file: str, run: Path, tmp_path: Path, capsys: Captured, *, torn: bool
) -> None:
    (run / file).write_bytes((run / file).read_bytes()[:40]) if torn else (run / file).unlink()
    bundle = tmp_path / "b.tar.zst"
    assert run_cli(["export", str(run), "--bundle", str(bundle), "--anonymous"]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {run / file}: ")
    assert "remedy: " in err
    assert not bundle.exists()


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


def test_records_do_not_lead_out_of_the_run(run: Path, tmp_path: Path, capsys: Captured) -> None:
    path = run / "sessions/000-OLD/session.json"
    record = json.loads(path.read_text())
    record["iterations"][0]["file"] = "../../../../../dev/zero"
    write_sealed(path, record)
    write_bundle(run, tmp_path / "b.tar.zst", anonymous=False, logs=False)
    assert run_cli(["compare", str(tmp_path / "b.tar.zst")]) == 2
    assert "which is none of its own" in capsys.readouterr().err
