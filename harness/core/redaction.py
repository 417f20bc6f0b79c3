"""What must not be written down, taken out of command lines: the values of secrets, never their names."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

HIDDEN = "(not recorded)"
"""What stands where a secret stood."""

_SECRET_NAMES = frozenset({"password", "passwd", "passphrase", "token", "api_key", "apikey"})
_ASSIGNMENT = re.compile(
    rf"(?P<name>(?<![\w-])(?:[\w.]*[._])?(?:{'|'.join(sorted(_SECRET_NAMES))})=)(?:,,|[^,\s])*",
    flags=re.IGNORECASE,
)
_DATA = re.compile(r"(?P<name>(?:^|,)data=)(?:,,|[^,])*")
_CREDENTIALS = re.compile(r"(?P<name>://[^/\s:@]*:)[^/\s@]*(?=@)")


def redacted(text: str) -> str:
    """Return a text without the values of ``password=``, ``token=`` and such, and of ``user:password@``."""
    for pattern in (_ASSIGNMENT, _CREDENTIALS):
        text = pattern.sub(rf"\g<name>{HIDDEN}", text)
    return text


def redacted_argv(argv: Sequence[str]) -> list[str]:
    """Return QEMU's command line without what a secret object holds, as options or as JSON.

    A secret's *file* stays: its path says nothing.
    """
    return [_argument(argument) for argument in argv]


def _argument(argument: str) -> str:
    if argument.startswith("{"):
        try:
            return json.dumps(_without_secrets(json.loads(argument)), separators=(",", ":"))
        except ValueError:
            pass  # No JSON after all: an option that begins with a brace.
    if argument.startswith("secret"):
        argument = _DATA.sub(rf"\g<name>{HIDDEN}", argument)
    return redacted(argument)


def _without_secrets(value: Any, *, secret: bool = False) -> Any:
    if isinstance(value, dict):
        secret = str(value.get("qom-type", "")).startswith("secret")
        return {
            name: HIDDEN if _hides(name, secret=secret) else _without_secrets(item)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [_without_secrets(item) for item in value]
    return redacted(value) if isinstance(value, str) else value


def _hides(name: str, *, secret: bool) -> bool:
    return name.lower() in _SECRET_NAMES or (secret and name == "data")
