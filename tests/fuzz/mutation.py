"""Making inputs of inputs: of bytes, and of the tree that JSON or YAML stands for.

Random bytes seldom get past the syntax. So trees are changed as trees, with values that have broken readers
before, and written again by a writer that can write what no sound one does: equal keys, endless numbers.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

    Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Raw:
    """Text that stands in JSON as it is."""

    text: str


@dataclass(frozen=True)
class Pairs:
    """An object whose keys may be equal."""

    items: tuple[tuple[str, Any], ...]


def _nested(depth: int, opening: str, closing: str) -> Raw:
    return Raw(opening * depth + closing * depth)


NASTY: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 7, 0.0, -0.0, 0.5, 1.0, 1.5, 1e-9, 1e9, 1e300, 2**31, 2**53 + 1, 2**63,
    2**64, -(2**63), 10**30, "", " ", "0", "1", "-1", "4k", "1e3", "nan", "inf", "-nan", "true", "null", "\0",
    "\x1b[31m", "\u202e", "\ud800", "é", "/", "..", "../x", "/etc/passwd", "a/b", "%s{}", "<b>", "x" * 300,
    "9" * 400, "9" * 5000, "2026-01-01T00:00:00+00:00", "2026-01-01", "9999-12-31T23:59:59+00:00",
    [], {}, [[]], [None], [1, "a"], {"": 0}, {"a": {"b": []}},
    Raw("NaN"), Raw("Infinity"), Raw("-Infinity"), Raw("1e999"), Raw("9" * 400), Raw("9" * 5000),
    Raw("-0"), Raw("01"), Raw("0x10"), Raw("nan"), Raw("-nan"), Raw("'a'"), Raw(""), Raw('"\\ud800"'),
    Raw('"\\u0000"'), Raw('"a'), _nested(60, "[", "]"), _nested(1200, "[", "]"), _nested(1200, '{"a":', "}"),
)  # fmt: skip
"""Values that have broken readers before."""

_CHUNKS = (
    b"\0", b"\n",
    b"\r\n", b'"', b"{", b"}", b"[", b"]", b":", b",", b"\\", b"\xff", b"\xef\xbb\xbf", b"\x1b[0m",
    b"nan", b"-1", b"1e999", b"9" * 400, b"9" * 5000, b"\xed\xa0\x80", b"&a *a", b"<<: *a", b"!!python/none ",
    b"{" * 50, b"[" * 300, b"- " * 100, b"\xe2\x80\xae", b"\t", b" " * 70, b"#",
)  # fmt: skip


# -- bytes ---------------------------------------------------------------------------------------------------


def mutate_bytes(data: bytes, random: Random) -> bytes:
    """Change a few bytes: another value, some more, some fewer, some twice, some of elsewhere."""
    result = bytearray(data)
    for _ in range(1 + int(random.expovariate(1.0))):
        _BYTE_CHANGES[random.randrange(len(_BYTE_CHANGES))](result, random)
    return bytes(result)


def _at(data: bytearray, random: Random) -> int:
    return random.randrange(len(data) + 1)


def _flip(data: bytearray, random: Random) -> None:
    if data:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _set(data: bytearray, random: Random) -> None:
    if data:
        data[random.randrange(len(data))] = random.randrange(256)


def _insert(data: bytearray, random: Random) -> None:
    at = _at(data, random)
    data[at:at] = random.choice(_CHUNKS)


def _drop(data: bytearray, random: Random) -> None:
    at = _at(data, random)
    del data[at : at + 1 + int(random.expovariate(0.1))]


def _cut(data: bytearray, random: Random) -> None:
    del data[_at(data, random) :]


def _repeat(data: bytearray, random: Random) -> None:
    at = _at(data, random)
    part = data[at : at + 1 + int(random.expovariate(0.05))]
    data[at:at] = part * random.choice((1, 1, 2, 20))


def _move(data: bytearray, random: Random) -> None:
    here, there = _at(data, random), _at(data, random)
    part = data[here : here + 1 + int(random.expovariate(0.05))]
    data[there:there] = part


def _digit(data: bytearray, random: Random) -> None:
    digits = [at for at, byte in enumerate(data) if 0x30 <= byte <= 0x39]
    if digits:
        data[random.choice(digits)] = random.choice(b"0123456789-.eE")


_BYTE_CHANGES: tuple[Callable[[bytearray, Random], None], ...] = (
    _flip, _set, _insert, _drop, _cut, _repeat, _move, _digit, _digit,
)  # fmt: skip


def mutate_lines(data: bytes, random: Random) -> bytes:
    """Change whole lines: drop, repeat, swap; now and then bytes in them."""
    if random.random() < 0.5:
        return mutate_bytes(data, random)
    lines = data.split(b"\n")
    here, there = random.randrange(len(lines)), random.randrange(len(lines))
    what = random.randrange(4)
    if what == 0:
        del lines[here]
    elif what == 1:
        lines.insert(there, lines[here])
    elif what == 2:
        lines[here], lines[there] = lines[there], lines[here]
    else:
        lines[here] = mutate_bytes(lines[here], random)
    return b"\n".join(lines)


# -- trees ---------------------------------------------------------------------------------------------------


def mutate_tree(tree: Any, random: Random) -> Any:
    """Return a tree with a few places changed."""
    for _ in range(1 + int(random.expovariate(1.2))):
        places = list(places_of(tree))
        path = random.choice(places)
        tree = replaced(tree, path, lambda value: _changed(value, random))
    return tree


def places_of(tree: Any, path: Path = ()) -> Iterator[Path]:
    """Return the path of every value in a tree, its root included."""
    yield path
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from places_of(value, (*path, key))
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from places_of(value, (*path, index))


def replaced(tree: Any, path: Path, change: Callable[[Any], Any]) -> Any:
    """Return a tree with one value changed; what lies beside the path is shared."""
    if not path:
        return change(tree)
    step, rest = path[0], path[1:]
    if isinstance(tree, dict):
        return {**tree, step: replaced(tree[step], rest, change)}
    copy = list(tree)
    copy[int(step)] = replaced(copy[int(step)], rest, change)
    return copy


def _changed(value: Any, random: Random) -> Any:
    if isinstance(value, dict) and value and random.random() < 0.7:
        return _changed_object(value, random)
    if isinstance(value, list) and value and random.random() < 0.7:
        return _changed_list(value, random)
    if isinstance(value, str) and random.random() < 0.4:
        return mutate_bytes(value.encode(errors="replace"), random).decode(errors="replace")
    if isinstance(value, int | float) and random.random() < 0.5:
        return _changed_number(value, random)
    return random.choice(NASTY)


def _changed_number(value: float, random: Random) -> Any:
    factor = random.choice((-1, 0, 0.5, 0.999, 1.001, 2, 10, 1000, 1024, 1e6))
    try:
        changed = value * factor + random.choice((0, 0, 1, -1))
        return int(changed) if isinstance(value, int) and random.random() < 0.8 else changed
    except (OverflowError, ValueError):
        return random.choice(NASTY)


def _changed_object(value: dict[str, Any], random: Random) -> Any:
    keys = list(value)
    key, other = random.choice(keys), random.choice(keys)
    what = random.randrange(5)
    if what == 0:
        return {name: item for name, item in value.items() if name != key}
    if what == 1:
        return value | {key: value[other]}
    if what == 2:
        return {
            (random.choice((key + "x", "", "\ud800", other)) if n == key else n): v for n, v in value.items()
        }
    if what == 3:
        again = value[key] if random.random() < 0.5 else random.choice(NASTY)
        return Pairs((*value.items(), (key, again)))
    return value | {random.choice(("new", "", "0", "é")): random.choice(NASTY)}


def _changed_list(value: list[Any], random: Random) -> Any:
    at = random.randrange(len(value))
    what = random.randrange(4)
    if what == 0:
        return value[:at] + value[at + 1 :]
    if what == 1:
        return value[:at] + [value[at]] * random.choice((2, 3, 30)) + value[at + 1 :]
    if what == 2:
        return value[::-1]
    return [*value, random.choice(NASTY)]


_TOO_DEEP = 2000


def write(tree: Any) -> bytes:
    """Return JSON, or nearly: what `Raw` and `Pairs` stand for is in it."""
    try:
        return _text(tree).encode("utf-8", "surrogatepass")
    except RecursionError:
        # Nested lists were put into nested lists: of such an input the depth is what counts.
        return b"[" * _TOO_DEEP + b"]" * _TOO_DEEP


def _text(tree: Any) -> str:
    if isinstance(tree, Raw):
        return tree.text
    if isinstance(tree, Pairs):
        return "{" + ",".join(f"{json.dumps(key)}:{_text(value)}" for key, value in tree.items) + "}"
    if isinstance(tree, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{_text(value)}" for key, value in tree.items()) + "}"
    if isinstance(tree, list):
        return "[" + ",".join(map(_text, tree)) + "]"
    # YAML has values that JSON has not (bytes, dates): as their text.
    return json.dumps(tree, default=str)


def parsed(data: bytes) -> Any:
    """Return the tree that JSON stands for, or None."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def mutate_json(data: bytes, random: Random) -> bytes:
    """Change JSON as a tree, or, where it is none any more and now and then, as bytes."""
    tree = parsed(data) if random.random() < 0.8 else None
    # A tree may be as deep as json can follow, which is deeper than what changes it can.
    with contextlib.suppress(RecursionError):
        if tree is not None:
            return write(mutate_tree(tree, random))
    return mutate_bytes(data, random)
