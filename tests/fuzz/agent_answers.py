"""Making answers of a guest's agent of answers: their fields, each by what it may and may not hold."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from fuzz.mutation import NASTY, Pairs, Raw, mutate_bytes, mutate_json, mutate_lines, parsed, write

if TYPE_CHECKING:
    from random import Random

_NUMBERS = (
    -1,
    0,
    1,
    64,
    127,
    128,
    255,
    256,
    2**31,
    2**32 - 1,
    2**32,
    2**63,
    10**30,
    0.0,
    1.5,
    True,
    Raw("1e999"),
)
_TRUTHS: tuple[Any, ...] = (True, False, 0, 1, "true", "", None, [], Raw("NaN"))
_OUTPUTS = (
    b"", b"\0", b"\xff\xfe", b"\x1b[31m", b"\xed\xa0\x80", b'{"a": 1}', b"x" * 300, "\u202e".encode(), b"\r\n" * 20,
)  # fmt: skip
_KINDS: dict[str, tuple[Any, ...]] = {
    "pid": _NUMBERS, "exitcode": _NUMBERS, "signal": _NUMBERS,
    "exited": _TRUTHS, "out-truncated": _TRUTHS, "err-truncated": _TRUTHS,
}  # fmt: skip
_DATA = ("out-data", "err-data")
_ERRORS: tuple[Any, ...] = (
    {"class": "GenericError", "desc": "no"},
    {"class": "CommandNotFound", "desc": "The command guest-exec has been disabled for this instance"},
    {"desc": "\x1b[31mred\n" * 40}, {"desc": None}, {"desc": {"desc": []}}, {}, [], "text", None, 7,
)  # fmt: skip
_ANYTHING, _SELDOM = 0.15, 0.05


def mutate_agent(data: bytes, random: Random) -> bytes:
    """Change one answer of a conversation, or a few."""
    if random.random() < _SELDOM:
        return mutate_lines(data, random)
    lines = data.split(b"\n")
    for _ in range(1 + int(random.expovariate(1.5))):
        # Mostly the last one: what is said before it decides only whether that is looked at.
        at = random.randrange(len(lines)) if random.random() < _ANYTHING else len(lines) - 1
        lines[at] = _answer(lines[at], random).replace(b"\n", b" ")
    return b"\n".join(lines)


def _answer(line: bytes, random: Random) -> bytes:
    answer = parsed(line)
    if not isinstance(answer, dict) or random.random() < _ANYTHING:
        return mutate_json(line, random)
    inner = answer.get("return")
    what = random.random()
    if what < 0.1 or not isinstance(inner, dict):
        return write(
            random.choice(({"error": random.choice(_ERRORS)}, answer | {"error": random.choice(_ERRORS)}))
        )
    if what < 0.2:
        return write(random.choice(({"return": random.choice(NASTY)}, inner, [answer], {"return": answer})))
    return write(answer | {"return": _fields(inner, random)})


def _fields(inner: dict[str, Any], random: Random) -> Any:
    """Return an answer with a field that is changed, missing, new, or there twice."""
    name = random.choice([*inner, *_KINDS, *_DATA])
    value = _value(name, inner.get(name), random)
    what = random.random()
    if what < 0.15:
        return {key: item for key, item in inner.items() if key != name}
    if what < 0.25:
        return Pairs((*inner.items(), (name, value)))
    return inner | {name: value}


def _value(name: str, value: Any, random: Random) -> Any:
    if random.random() < _ANYTHING:
        return random.choice(NASTY)
    if name in _DATA:
        return _output(value if isinstance(value, str) else "", random)
    return random.choice(_KINDS.get(name, NASTY))


def _output(text: str, random: Random) -> str:
    """Return base64 of something, or what is nearly base64."""
    plain = base64.b64encode(random.choice(_OUTPUTS)).decode()
    odd = (
        plain, text, text[:-1], f"{text}=", f"={text}", f"{text}====", f"{text}\n", f"{text[:5]} {text[5:]}",
        text.replace("=", ""), text.replace("+", "-").replace("/", "_"), f"{text}!", f"{text}{plain}", "é", "\ud800",
        "A" * 5, "A" * 4000, mutate_bytes(text.encode(errors="replace"), random).decode(errors="replace"),
    )  # fmt: skip
    return random.choice(odd)
