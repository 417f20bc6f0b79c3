"""What runs on a fleet's hosts, and what takes their answers: detached runs, archives, the report."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

if TYPE_CHECKING:
    from types import ModuleType

PLAYBOOKS = Path(__file__).resolve().parents[2] / "playbooks"
FLEET_RUN = PLAYBOOKS / "library" / "fleet_run.py"


def load(path: Path) -> ModuleType:
    """Return a module of the playbooks, which are no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


UNPACK = load(PLAYBOOKS / "library" / "fleet_unpack.py")
REPORT = load(PLAYBOOKS / "callback_plugins" / "fleet_report.py")


def ask(directory: Path, **parameters: Any) -> dict[str, Any]:
    """Run the module as Ansible does on a host."""
    done = subprocess.run(
        [sys.executable, str(FLEET_RUN)],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": {"directory": str(directory), **parameters}}),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    answer: dict[str, Any] = json.loads(done.stdout or "{}")
    assert done.returncode == 0, (done.stdout, done.stderr)
    return answer


def script(text: str) -> list[str]:
    return ["/bin/sh", "-c", text]


class TestDetachedRun:
    def test_a_command_outlives_the_connection_and_says_how_it_ended(self, tmp_path: Path) -> None:
        run = tmp_path / "runs" / "r"
        gate = tmp_path / "gate"
        os.mkfifo(gate)
        said = ask(run, state="started", argv=script(f"echo begun; read line <{gate}; echo $line; exit 3"))
        assert said["changed"]
        # The module has ended; the command goes on, and a second start leaves it alone.
        assert said["running"]
        again = ask(run, state="started", argv=["/bin/false"])
        assert (again["changed"], again["running"]) == (False, True)
        assert ask(run, state="ended", patience=1)["running"]
        gate.write_text("bye\n")
        ended = ask(run, state="ended", patience=60)
        assert (ended["running"], ended["exit_code"], ended["said"]) == (False, 3, ["begun", "bye"])

    def test_a_run_that_has_begun_is_gone_on_with(self, tmp_path: Path) -> None:
        run = tmp_path / "r"
        run.mkdir()
        (run / "run.json").write_text('{"state": "interrupted", "stopped": "cut off"}')
        ask(run, state="started", argv=script("echo new"), resume_argv=script("echo on"))
        said = ask(run, state="ended", patience=60)
        assert said["said"] == ["on"]
        assert (said["run_state"], said["stopped"]) == ("interrupted", "cut off")

    def test_what_was_killed_before_it_began_is_begun_anew(self, tmp_path: Path) -> None:
        run = tmp_path / "r"
        (run / "sessions").mkdir(parents=True)
        ask(run, state="started", argv=script(f"test ! -e {run} && echo new"), resume_argv=script("echo on"))
        assert ask(run, state="ended", patience=60)["said"] == ["new"]

    def test_a_killed_command_is_not_running_and_its_signal_is_told(self, tmp_path: Path) -> None:
        run = tmp_path / "r"
        ask(run, state="started", argv=script(f"echo $$ >{tmp_path}/pid; exec sleep 600"))
        deadline = time.monotonic() + 60
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
        said = ask(run, state="ended", patience=60)
        assert (said["running"], said["exit_code"]) == (False, -signal.SIGKILL)

    def test_a_command_that_is_not_there_is_an_exit_code_with_its_reason(self, tmp_path: Path) -> None:
        ask(tmp_path / "r", state="started", argv=["/no/such/harness"])
        said = ask(tmp_path / "r", state="ended", patience=60)
        assert said["exit_code"] == 127
        assert said["said"] == ["/no/such/harness: No such file or directory"]

    def test_before_anything_there_is_nothing_and_nothing_is_made(self, tmp_path: Path) -> None:
        said = ask(tmp_path / "r")
        assert (said["running"], said["run_state"], said["exit_code"]) == (False, "none", None)
        checked = ask(tmp_path / "r", state="started", argv=["/bin/true"], _ansible_check_mode=True)
        assert checked["changed"]
        assert list(tmp_path.iterdir()) == []

    def test_a_packed_run_comes_out_as_it_was_without_what_is_no_file(self, tmp_path: Path) -> None:
        run = tmp_path / "r"
        (run / "sessions" / "000-OLD").mkdir(parents=True)
        (run / "run.json").write_text("{}")
        (run / "sessions" / "000-OLD" / "x.json").write_bytes(b"\0\1")
        (run / "link").symlink_to("/etc/passwd")
        packed = ask(run, state="packed")
        archive = Path(packed["archive"])
        home = tmp_path / "home" / "kvm1"
        home.parent.mkdir()
        UNPACK.unpack(archive, packed["sha256"], home, 10**6)
        files = sorted(str(p.relative_to(home)) for p in home.rglob("*") if p.is_file())
        assert files == ["run.json", "sessions/000-OLD/x.json"]
        assert (home / "sessions/000-OLD/x.json").read_bytes() == b"\0\1"


def archive(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> str:
    with tarfile.open(path, "w:gz") as tar:
        for member, data in members:
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname = kind, target
    return found


RUN_JSON = (member("run/run.json"), b"{}")


class TestUntrustedArchive:
    @pytest.mark.parametrize(
        ("members", "reason"),
        [
            ([RUN_JSON, (member("../evil"), b"x")], "belongs in no run directory"),
            ([RUN_JSON, (member("run/../../evil"), b"x")], "belongs in no run directory"),
            ([RUN_JSON, (member("/tmp/evil"), b"x")], "belongs in no run directory"),  # noqa: S108
            ([RUN_JSON, (member("evil"), b"x")], "belongs in no run directory"),
            ([RUN_JSON, (member("run/link", tarfile.SYMTYPE, "/etc"), b"")], "belongs in no run directory"),
            ([RUN_JSON, (member("run/hard", tarfile.LNKTYPE, "run/run.json"), b"")], "belongs in no run"),
            ([RUN_JSON, (member("run/fifo", tarfile.FIFOTYPE), b"")], "belongs in no run directory"),
            ([RUN_JSON, (member("run/null", tarfile.CHRTYPE), b"")], "belongs in no run directory"),
            ([RUN_JSON, RUN_JSON], "cannot be unpacked"),
            ([RUN_JSON, (member("run/large"), bytes(2000))], "is larger than 1000 bytes"),
            ([(member("run/run.json"), b"[]")], "no run directory"),
            ([(member("run/other"), b"")], "cannot be unpacked"),
        ],
    )  # fmt: skip
    def test_what_is_no_run_is_refused_and_what_is_at_home_stays(
        self, tmp_path: Path, members: list[tuple[tarfile.TarInfo, bytes]], reason: str
    ) -> None:
        home = tmp_path / "fleet" / "kvm1"
        home.mkdir(parents=True)
        (home / "run.json").write_text("before")
        digest = archive(tmp_path / "a.tar.gz", members)
        with pytest.raises(UNPACK.RefusedError, match=reason):
            UNPACK.unpack(tmp_path / "a.tar.gz", digest, home, 1000)
        assert [str(p.relative_to(tmp_path)) for p in sorted(tmp_path.rglob("*")) if p.is_file()] == [
            "a.tar.gz",
            "fleet/kvm1/run.json",
        ]
        assert (home / "run.json").read_text() == "before"

    def test_another_archive_than_the_host_sent_is_refused(self, tmp_path: Path) -> None:
        archive(tmp_path / "a.tar.gz", [RUN_JSON])
        with pytest.raises(UNPACK.RefusedError, match="SHA-256"):
            UNPACK.unpack(tmp_path / "a.tar.gz", "0" * 64, tmp_path / "kvm1", 1000)

    def test_a_whole_one_takes_the_place_of_the_one_before(self, tmp_path: Path) -> None:
        (tmp_path / "kvm1").mkdir()
        (tmp_path / "kvm1" / "old").write_text("")
        digest = archive(tmp_path / "a.tar.gz", [(member("run", tarfile.DIRTYPE), b""), RUN_JSON])
        UNPACK.unpack(tmp_path / "a.tar.gz", digest, tmp_path / "kvm1", 1000)
        assert [path.name for path in (tmp_path / "kvm1").iterdir()] == ["run.json"]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar.gz", "kvm1"]

    @given(st.binary(max_size=300))
    def test_any_bytes_are_refused_and_nothing_is_left(self, data: bytes) -> None:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "a.tar.gz"
            path.write_bytes(gzip.compress(data))
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            with pytest.raises(UNPACK.RefusedError):
                UNPACK.unpack(path, digest, Path(directory) / "kvm1", 1000)
            assert [entry.name for entry in Path(directory).iterdir()] == ["a.tar.gz"]


FLEET = {"id": "quick-1", "directory": "/runs/fleet-quick-1"}


class TestReport:
    def test_each_host_is_told_with_its_reason_and_what_to_do(self) -> None:
        unfinished = {"run_state": "interrupted", "run_dir": None}
        trouble = {"task": "Wait", "reason": "Connection refused", "said": ["line"]}
        hosts = {
            "kvm1": REPORT.host_entry(
                {"run_state": "finished", "run_dir": "/runs/kvm1"}, None, unreachable=False
            ),
            "kvm2": REPORT.host_entry(unfinished, trouble, unreachable=True),
            "kvm3": REPORT.host_entry(unfinished, trouble, unreachable=False),
            "kvm4": REPORT.host_entry({}, None, unreachable=False),
        }
        assert [entry["state"] for entry in hosts.values()] == ["done", "unreachable", "failed", "not run"]
        lines = REPORT.report(FLEET, hosts)
        assert lines[0] == "fleet quick-1: 1 of 4 hosts done"
        assert "  kvm2  unreachable  Wait: Connection refused" in lines
        assert any("goes on where each host stopped" in line for line in lines)

    def test_what_a_host_says_cannot_steer_the_terminal(self) -> None:
        reason, said = REPORT.reason_of({"msg": "bad\x1b[2Jmessage", "stderr": "a\nb\x07"})
        assert (reason, said) == ("bad?[2Jmessage", ["a", "b?"])

    def test_the_last_lines_are_kept(self) -> None:
        reason, said = REPORT.reason_of({"msg": "exit code 1\n" + "\n".join(map(str, range(20)))})
        assert reason == "exit code 1"
        assert said == [str(number) for number in range(14, 20)]
