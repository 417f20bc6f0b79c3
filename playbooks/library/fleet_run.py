# ruff: noqa: INP001 - Ansible takes each file here for a module: there can be no __init__.py
"""Ansible module: a run on a host that goes on by itself, whatever happens to the connection."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import signal
import tarfile
from collections import deque
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: fleet_run
short_description: Start, await, look at or pack a run on a host
description:
  - A started command goes on when the connection is cut, and when the controller dies. Whether it still goes
    on is told by a lock that the kernel drops with it, so that it is known after a power cut too.
options:
  directory:
    type: path
    required: true
    description: The run directory. Beside it are kept DIRECTORY.lock, DIRECTORY.log and DIRECTORY.exit.
  state:
    type: str
    default: look
    choices: [look, started, ended, packed]
    description: "C(look) only says how it is; C(started) starts argv unless it goes on; C(ended) waits for
      its end without doing anything meanwhile; C(packed) makes DIRECTORY.tar.gz."
  argv: {type: list, elements: str, default: [], description: What to start where there is no run yet.}
  resume_argv: {type: list, elements: str, default: [], description: What to start where there is one.}
  patience: {type: int, default: 600, description: How many seconds C(ended) waits.}
"""

SAID_LINES = 20
MOST_SAID_BYTES = 16 * 1024


class OutOfPatience(Exception):  # noqa: N818 - no error: an answer
    """The wait was long enough."""


class HostRun:
    """One run directory on this host, and what is kept beside it."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params: dict[str, Any] = module.params
        self.directory = Path(module.params["directory"])
        self.lock = self._beside(".lock")
        self.log = self._beside(".log")
        self.exit_file = self._beside(".exit")

    def _beside(self, ending: str) -> Path:
        return self.directory.with_name(self.directory.name + ending)

    def answer(self) -> dict[str, Any]:
        """Do what was asked for; return the module's result."""
        state = self.params["state"]
        if state == "started":
            return self.start()
        if state == "ended":
            self.wait()
        elif state == "packed":
            return self.pack()
        return {"changed": False, **self.look()}

    def look(self) -> dict[str, Any]:
        """Return how the run is: whether it goes on, its state, how its command ended and what it said."""
        head, digest = self._head()
        return {
            "running": self._running(),
            "run_state": head.get("state", "none"),
            "stopped": head.get("stopped"),
            "run_sha256": digest,
            "exit_code": self._exit_code(),
            "said": self._said(),
        }

    def _running(self) -> bool:
        try:
            descriptor = os.open(self.lock, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def _head(self) -> tuple[dict[str, Any], str | None]:
        with contextlib.suppress(OSError, ValueError):
            data = (self.directory / "run.json").read_bytes()
            head = json.loads(data)
            if isinstance(head, dict):
                return head, hashlib.sha256(data).hexdigest()
        return {}, None

    def _exit_code(self) -> int | None:
        with contextlib.suppress(OSError, ValueError):
            return int(self.exit_file.read_text())
        return None

    def _said(self) -> list[str]:
        with contextlib.suppress(OSError), self.log.open("rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - MOST_SAID_BYTES))
            return list(deque(stream.read().decode(errors="replace").splitlines(), SAID_LINES))
        return []

    def start(self) -> dict[str, Any]:
        """Start the command, or leave alone the one that goes on."""
        if self.module.check_mode:
            return {"changed": not self._running(), **self.look()}
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return {"changed": False, **self.look()}
        if not (self.directory / "run.json").exists():
            # A run that was killed before it began: nothing is in it.
            shutil.rmtree(self.directory, ignore_errors=True)
        argv = self.params["resume_argv"] if self.directory.exists() else self.params["argv"]
        self.exit_file.unlink(missing_ok=True)
        # The lock goes over to the process that watches the command: it is never free in between.
        if (child := os.fork()) == 0:
            os.setsid()
            if os.fork() == 0:
                self._watch(argv)
            os._exit(0)
        os.waitpid(child, 0)
        os.close(descriptor)
        return {"changed": True, **self.look()}

    def _watch(self, argv: list[str]) -> None:
        """Run the command to its end and keep its exit code; never returns."""
        code = 127
        try:
            os.chdir("/")
            null = os.open(os.devnull, os.O_RDONLY)
            log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            for target, source in ((0, null), (1, log), (2, log)):
                os.dup2(source, target)
            if (child := os.fork()) == 0:
                try:
                    # Only what was inherited on purpose goes on: not the lock.
                    os.execvp(argv[0], argv)  # noqa: S606 - an argv list, no shell
                except OSError as error:
                    os.write(2, f"{argv[0]}: {error.strerror}\n".encode())
                    os._exit(code)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            temporary = self._beside(".exit.tmp")
            temporary.write_text(f"{code}\n")
            temporary.replace(self.exit_file)
        finally:
            os._exit(0)

    def wait(self) -> None:
        """Sleep until the command or patience has ended: a poll would disturb what is measured."""

        def enough(_number: int, _frame: object) -> None:
            raise OutOfPatience

        with contextlib.suppress(FileNotFoundError, OutOfPatience), self.lock.open() as stream:
            signal.signal(signal.SIGALRM, enough)
            signal.alarm(self.params["patience"])
            try:
                fcntl.flock(stream, fcntl.LOCK_SH)
            finally:
                signal.alarm(0)

    def pack(self) -> dict[str, Any]:
        """Make an archive of the run directory; return its path, size and hash."""
        archive = self._beside(".tar.gz")
        if self.module.check_mode:
            return {"changed": False, "archive": str(archive)}
        with tarfile.open(archive, "w:gz", compresslevel=3) as tar:
            # The same name on every host: what it is called at home is the controller's to say.
            tar.add(self.directory, arcname="run", filter=_plain)
        with archive.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return {"changed": True, "archive": str(archive), "bytes": archive.stat().st_size, "sha256": digest}


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Keep files and directories, with nobody's name on them."""
    if not (member.isfile() or member.isdir()):
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def main() -> None:
    """Do what the task asks for."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "state": {
                "type": "str",
                "default": "look",
                "choices": ["look", "started", "ended", "packed"],
            },
            "argv": {"type": "list", "elements": "str", "default": []},
            "resume_argv": {"type": "list", "elements": "str", "default": []},
            "patience": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    try:
        result = HostRun(module).answer()
    except OSError as error:
        module.fail_json(msg=f"{module.params['directory']}: {error}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
