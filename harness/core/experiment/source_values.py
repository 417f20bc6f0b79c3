"""The types of single values of builds from source: where the code is, which of it, patched how."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

from harness.core.experiment.bad_value import BadValueError, shown
from harness.core.experiment.values import Line, pattern_reader
from harness.core.redaction import redacted

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://")
_WEB_USER = re.compile(r"(?:https?|ftp)://[^/?#]*@", flags=re.IGNORECASE)
_SCP_LIKE = re.compile(r"[^/:\s]+:(?!/*$)")
_FROM_ROOT_OR_HOME = ("/", "~")


def is_url(location: str) -> bool:
    """Return whether a location is a URL (``https://``, ``file://``)."""
    return _SCHEME.match(location) is not None


def is_remote_repository(location: str) -> bool:
    """Return whether a repository is fetched: by URL, or as ``host:path``."""
    local = location.startswith((*_FROM_ROOT_OR_HOME, "."))
    return not local and (is_url(location) or _SCP_LIKE.match(location) is not None)


def is_on_host(location: str) -> bool:
    """Return whether a location is a path as the measuring host sees it."""
    return location.startswith(_FROM_ROOT_OR_HOME)


def _without_secret(text: str) -> str:
    """Refuse a URL that holds a secret, without repeating it: experiments are part of run directories."""
    web_user = _WEB_USER.match(text) is not None
    if web_user or redacted(text) != text:
        raise BadValueError(
            "a URL with a user, password or token in it, which every run directory would hold",
            "leave it out of the URL: git asks its credential helper, downloads look into ~/.netrc",
        )
    return text


def _git_location(text: str) -> str:
    if text.startswith("-") or not (is_on_host(text) or is_remote_repository(text)):
        raise BadValueError(
            f"{shown(text)} is neither an absolute path nor a URL",
            "write the repository's path from / or ~, as the measuring host sees it, or its URL",
        )
    return text


def _file_name(text: str) -> str:
    if not text.strip() or text.endswith("/"):
        raise BadValueError(f"{shown(text)} names no file", "write a path, relative to the experiment file")
    return text


def _patch_name(text: str) -> str:
    if is_url(text):
        raise BadValueError(
            f"{shown(text)} is a URL", "save the patch beside the experiment file and name that file"
        )
    return _file_name(text)


_OWN_ARGUMENTS = {
    "--target-list": "the harness builds the emulator of this host's architecture",
    "--target-list-exclude": "the harness builds the emulator of this host's architecture",
    "--python": "the harness gives configure a Python with the tools it wants",
    "--enable-download": "builds fetch nothing by themselves, so that they can be made again",
    "--cross-prefix": "a build runs on the host that makes it",
}


def _argument(text: str) -> str:
    if not text.startswith("-"):
        raise BadValueError(
            f"{shown(text)} is no argument of configure",
            "write each as one word that begins with --, e.g. --disable-linux-io-uring",
        )
    why = _OWN_ARGUMENTS.get(text.partition("=")[0])
    if why is not None:
        raise BadValueError(f"{shown(text)} is not yours to set: {why}", "remove it")
    return text


_REF = r"^(?!-)[^\s\x00-\x1f\x7f:?*\[\\]+$"
_CHECKSUM = r"^sha256:[0-9a-fA-F]{64}$"

GitLocation = Annotated[
    Line, AfterValidator(_without_secret), AfterValidator(_git_location), WithJsonSchema({"type": "string"})
]
GitRef = Annotated[
    str,
    pattern_reader(_REF, "a git ref", "write a branch, a tag or a commit, as `git log REF` takes it"),
    WithJsonSchema({"type": "string", "pattern": _REF}),
]
TarballLocation = Annotated[
    Line, AfterValidator(_without_secret), AfterValidator(_file_name), WithJsonSchema({"type": "string"})
]
Checksum = Annotated[
    str,
    pattern_reader(_CHECKSUM, "a checksum", "write sha256: and the 64 hex digits that sha256sum prints"),
    WithJsonSchema({"type": "string", "pattern": _CHECKSUM}),
]
PatchName = Annotated[Line, AfterValidator(_patch_name), WithJsonSchema({"type": "string"})]
ConfigureArgument = Annotated[
    Line, AfterValidator(_argument), WithJsonSchema({"type": "string", "pattern": "^-"})
]


def _listed(value: object) -> object:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list | tuple):
        raise BadValueError(f"{shown(value)} where a list is expected", "write a list, or remove the key")
    return value


def _distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    for position, value in enumerate(values):
        if value in values[:position]:
            raise BadValueError(f"{shown(value)} is there twice", "name it once")
    return values


def _list_schema(item: dict[str, str]) -> WithJsonSchema:
    listed = {"type": "array", "items": item, "uniqueItems": True}
    return WithJsonSchema({"anyOf": [item, listed]})


Patches = Annotated[
    tuple[PatchName, ...],
    BeforeValidator(_listed),
    AfterValidator(_distinct),
    _list_schema({"type": "string"}),
]
ConfigureArguments = Annotated[
    tuple[ConfigureArgument, ...],
    BeforeValidator(_listed),
    AfterValidator(_distinct),
    _list_schema({"type": "string", "pattern": "^-"}),
]
