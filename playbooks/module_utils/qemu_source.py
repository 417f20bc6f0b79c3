# ruff: noqa: INP001 - Ansible takes each file here by itself: there can be no __init__.py
"""What the modules of source builds share: key, locks, git that never writes to users' repositories."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible.module_utils.basic import AnsibleModule

RECIPE = "1"
"""Changes when a build made by an older version of this role must not be used any more."""

MARK = "source.json"
"""Lies in a finished build, and says what went into it."""

KEY_DIGITS = 16
"""Of the key that name a build's directory; the whole key is in its mark."""

FULL_HASH = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_OWN = "refs/harness"
"""Where a mirror has refs of ours: of what is neither branch nor tag, and of commits to keep."""
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://")
_SCP_LIKE = re.compile(r"[^/:\s]+:(?!/*$)")
_CREDENTIALS = re.compile(r"(?<=://)[^/\s@]*@")
_SHOWN_LINES = 8
_AS_IT_IS = [
    word
    for setting in (
        "core.autocrlf=false",
        "core.sparseCheckout=false",
        # These would start something of the user's, or write beside the index.
        "core.hooksPath=/dev/null",
        "core.fsmonitor=false",
        "core.splitIndex=false",
    )
    for word in ("-c", setting)
]
"""What of a user's configuration must not have a say in how a commit's files are written."""


def key_of(parts: dict[str, Any]) -> str:
    """Return the SHA-256 over everything that goes into a build."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def is_url(location: str) -> bool:
    """Tell whether a repository is fetched (``https://``, ``host:path``), not read in place."""
    local = location.startswith(("/", "~", "."))
    return not local and (is_download(location) or _SCP_LIKE.match(location) is not None)


def is_download(location: str) -> bool:
    """Tell whether a tarball is a URL."""
    return _SCHEME.match(location) is not None


def redacted(text: str) -> str:
    """Return a text without the user names and passwords in its URLs."""
    return _CREDENTIALS.sub("", text)


def directory_of(parent: Path, key: str) -> Path:
    """Return where the build with a key lies once it is finished."""
    return parent / f"source-{key[:KEY_DIGITS]}"


def read_mark(directory: Path) -> dict[str, Any] | None:
    """Return what a finished build says of itself; None where there is none."""
    try:
        found: dict[str, Any] = json.loads((directory / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found


@contextlib.contextmanager
def locked(path: Path, *, inherited: bool = False) -> Iterator[int]:
    """Wait for a lock and hold it; yield its file descriptor.

    Args:
        path: the lock file, made when missing.
        inherited: let processes started meanwhile hold it too, so that it outlives a killed module until the
            last of them has ended.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(str(path), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.set_inheritable(descriptor, inherited)
        yield descriptor
    finally:
        os.close(descriptor)


def index_of(directory: Path) -> Path:
    """Return where git's index of an exported directory is: beside it, not in the repository."""
    return directory.with_name(f"{directory.name}.index")


class Failure:
    """Ends a module with what was wanted, what went wrong and what to do."""

    def __init__(self, module: AnsibleModule, wanted: str) -> None:
        self.module = module
        self.wanted = redacted(wanted)

    def __call__(self, message: str, said: str = "", *, build_failed: bool = False) -> NoReturn:
        """End the module.

        Args:
            message: what went wrong.
            said: the end of what a command printed.
            build_failed: whether the source is to blame, and not this host.
        """
        lines = redacted(said).strip().splitlines()[-_SHOWN_LINES:]
        text = "".join(f"\n  {line}" for line in lines)
        self.module.fail_json(msg=f"{self.wanted}: {redacted(message)}{text}", build_failed=build_failed)
        raise AssertionError


class Git:
    """git, asked for what is in repositories. Users' own ones are only read.

    Args:
        module: runs the commands.
        sources: where repositories from elsewhere are mirrored.
        fail: ends the module.
    """

    def __init__(self, module: AnsibleModule, sources: Path, fail: Failure) -> None:
        self.module = module
        self.sources = sources
        self.fail = fail
        # Of a hook or a rebase that started us; they would redirect every command.
        for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX"):
            os.environ.pop(name, None)

    def run(self, *argv: str, env: dict[str, str] | None = None) -> tuple[int, str, str]:
        """Run git; it asks for no password and refreshes nothing by the way."""
        environment = {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", **(env or {})}
        code, out, err = self.module.run_command(["git", *argv], environ_update=environment)
        return code, out, err

    def ask(self, repository: Path, *argv: str) -> str | None:
        """Return one line that git answers about a repository; None where it refuses."""
        code, out, _ = self.run("-C", str(repository), *argv)
        return out.strip() if code == 0 else None

    def commit(self, repository: Path, ref: str) -> str | None:
        """Return the commit that a ref or an expression (``v10.0.0~3``) stands for."""
        return self.ask(repository, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")

    def local(self, location: str) -> Path:
        """Return a local repository's git directory.

        Ends the module where there is none.
        """
        path = Path(location).expanduser()
        if not path.is_dir():
            self.fail(f"{path} is not there; give the path of a git repository on this host, or a URL")
        code, out, err = self.run("-C", str(path), "rev-parse", "--absolute-git-dir")
        if code:
            self.fail(f"{path} is no git repository that this user may read", err)
        return Path(out.strip())

    def mirror(self, url: str) -> Path:
        """Return where a repository from elsewhere is mirrored; it may not be there yet."""
        return self.sources / "git" / f"{hashlib.sha256(redacted(url).encode()).hexdigest()[:16]}.git"

    def fetched(self, url: str, ref: str) -> tuple[Path, str]:
        """Return the mirror of a repository and the commit of a ref, as it is there now.

        The mirror keeps that commit, whatever becomes of its branch.
        """
        mirror = self.mirror(url)
        with locked(mirror.with_suffix(".lock")):
            if not (mirror / "HEAD").is_file():
                code, _, err = self.run("init", "--quiet", "--bare", str(mirror))
                if code:
                    self.fail(f"cannot make the mirror {mirror}", err)
            known = self.commit(mirror, ref) if FULL_HASH.fullmatch(ref) else None
            found = known or self.fetched_commit(mirror, url, ref)
            if found is not None:
                self.keep(mirror, found)
        if found is None:
            self.fail(f"there is no commit {ref} in {url}; check the spelling of `ref`")
        return mirror, found

    def fetched_commit(self, mirror: Path, url: str, ref: str) -> str | None:
        """Bring a mirror up to date; return the commit of a ref there."""
        # A branch that is gone would stand in the way of one called NAME/MORE.
        self.fetch(mirror, url, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*", prune=True)
        # HEAD is theirs, not the mirror's; and a server may have refs beside branches and tags.
        found = self.commit(mirror, ref) if ref != "HEAD" else None
        if found is None:
            own = f"{_OWN}/{hashlib.sha256(ref.encode()).hexdigest()[:16]}"
            self.fetch(mirror, url, f"+{ref}:{own}", what=f"there is no {ref}")
            found = self.commit(mirror, own)
        return found

    def keep(self, mirror: Path, commit: str) -> None:
        """Keep a commit in a mirror: branches move and go, and git drops what no ref leads to."""
        code, _, err = self.run("-C", str(mirror), "update-ref", f"{_OWN}/{commit}", commit)
        if code:
            self.fail(f"cannot keep commit {commit[:12]} in the mirror {mirror}", err)

    def fetch(
        self, mirror: Path, url: str, *refspecs: str, prune: bool = False, what: str = "cannot fetch"
    ) -> None:
        """Bring refs into a mirror.

        Args:
            mirror: where to.
            url: where from.
            refspecs: which, and what they are called in the mirror.
            prune: remove what they cover in the mirror and is no longer there.
            what: what went wrong when it fails, for the message.
        """
        options = ["--quiet", "--force", "--no-tags", *(["--prune"] if prune else [])]
        code, _, err = self.run("-C", str(mirror), "fetch", *options, url, *refspecs)
        if code:
            self.fail(f"{what} in {url}; check `git` and `ref`, and that this host reaches it", err)

    def seen(self, url: str, ref: str) -> tuple[Path, str] | None:
        """Return the mirror and the commit of a ref without fetching; None if the mirror lacks it."""
        mirror = self.mirror(url)
        wanted = ref
        if not FULL_HASH.fullmatch(ref):
            code, out, err = self.run("ls-remote", url, ref, f"{ref}^{{}}")
            if code:
                self.fail(f"cannot ask {url}; check `git`, and that this host reaches it", err)
            names = dict(reversed(line.split("\t", 1)) for line in out.splitlines() if "\t" in line)
            exact = (f"refs/tags/{ref}^{{}}", f"refs/heads/{ref}", f"refs/tags/{ref}", ref)
            # An expression such as v10.0.0~3 can be answered by the mirror alone.
            wanted = next((names[name] for name in exact if name in names), ref)
        found = self.commit(mirror, wanted) if mirror.is_dir() else None
        return None if found is None else (mirror, found)

    def export(self, repository: Path, commit: str, directory: Path, *, keep_index: bool = False) -> None:
        """Write a commit's files into a directory; nothing is written to the repository.

        Args:
            repository: the git directory.
            commit: which.
            directory: where to.
            keep_index: leave what git knows of the files beside the directory, for `change`.
        """
        directory.mkdir(parents=True, exist_ok=True)
        index = {"GIT_INDEX_FILE": str(index_of(directory))}
        for argv in (
            ("read-tree", commit),
            (*_AS_IT_IS, f"--work-tree={directory}", "checkout-index", "--all", "--force", "--index"),
        ):
            code, _, err = self.run(f"--git-dir={repository}", *argv, env=index)
            if code:
                self.fail(f"cannot read commit {commit[:12]} of {repository}", err)
        if not keep_index:
            index_of(directory).unlink()

    def change(self, repository: Path, commit: str, directory: Path) -> bool:
        """Write the files in which a commit differs from an exported directory; return whether it worked."""
        argv = [f"--git-dir={repository}", *_AS_IT_IS, f"--work-tree={directory}"]
        index = {"GIT_INDEX_FILE": str(index_of(directory))}
        code, _, _ = self.run(*argv, "read-tree", "--reset", "-u", commit, env=index)
        return code == 0
