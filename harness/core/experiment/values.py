"""The types of single values in an experiment file: what users write, turned into what the harness uses.

Every type carries its own reader (with errors in plain words), its JSON Schema (which accepts the same
shorthand) and its way back into YAML.
"""

import contextlib
import math
import reprlib
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from enum import StrEnum
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from harness.core.model import MOST_RISK
from harness.core.units import format_size, parse_duration, parse_size

_E = TypeVar("_E", bound=StrEnum)
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60

MAX_SIZE_BYTES = 2**63 - 1
MAX_WHOLE = 2**31 - 1
_SECTOR_BYTES = 512

SIZE_PATTERN = r"^[0-9]+ *[kKmMgGtT]?([iI]?[bB])?$"
DURATION_PATTERN = r"^[0-9]+(\.[0-9]+)? *(ms|s|m|h)?$"
PERCENT_PATTERN = r"^[0-9]+(\.[0-9]+)? *%$"
CPUSET_PATTERN = r"^\^?[0-9]+(-[0-9]+)?(,\^?[0-9]+(-[0-9]+)?)*$"
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,31}$"


class BadValueError(ValueError):
    """A value that cannot be used, with the remedy beside the message."""

    def __init__(self, message: str, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


def shown(value: object) -> str:
    """Return a value as a message shows it: as in YAML, and never long."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping (key: value)"
    if isinstance(value, list | tuple):
        return "a list"
    return _SHORT.repr(value)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that was probably meant."""
    by_folded = {k.lower(): k for k in known}
    folded = word.lower()[:100]
    close = get_close_matches(folded, list(by_folded), n=1, cutoff=0.6)
    shortened = [known for known in by_folded if len(folded) > 2 and known.startswith(folded)]  # noqa: PLR2004
    found = [*close, *shortened]
    return by_folded[found[0]] if found else None


# -- whole numbers -------------------------------------------------------------------------------------------


def _read_whole(value: object, at_least: int, at_most: int) -> int:
    if isinstance(value, str) and value.strip().isdecimal() and value.strip().isascii():
        raise BadValueError(
            f"{shown(value)} is text, not a whole number", "write it without quotes and leading zeros"
        )
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadValueError(f"{shown(value)} is not a whole number", f"write a number from {at_least} up")
    if not at_least <= value <= at_most:
        bound = f"less than {at_least}" if value < at_least else f"more than {at_most}"
        raise BadValueError(f"{shown(value)} is {bound}", f"write a number from {at_least} to {at_most}")
    return value


def whole_reader(at_least: int, at_most: int = MAX_WHOLE) -> BeforeValidator:
    """Return the reader of whole numbers between two bounds."""
    return BeforeValidator(lambda value: _read_whole(value, at_least, at_most))


def _whole_schema(at_least: int, at_most: int = MAX_WHOLE) -> WithJsonSchema:
    return WithJsonSchema({"type": "integer", "minimum": at_least, "maximum": at_most})


Natural = Annotated[int, whole_reader(0), _whole_schema(0)]
Count = Annotated[int, whole_reader(1), _whole_schema(1)]
# QEMU's q35 of 7.2 stops at 288 vCPUs.
VcpuCount = Annotated[int, whole_reader(1, 288), _whole_schema(1, 288)]
IOThreadCount = Annotated[int, whole_reader(0, 1024), _whole_schema(0, 1024)]
# As many as the root bus of a machine has slots for, and more than anybody asks.
CountedDisks = Annotated[int, whole_reader(1, 16), _whole_schema(1, 16)]
# Each round's light disk takes a function on the bus and an IOThread; so do the disks of the burst.
RoundCount = Annotated[int, whole_reader(3, 64), _whole_schema(3, 64)]
BurstDiskCount = Annotated[int, whole_reader(1, 32), _whole_schema(1, 32)]
Port = Annotated[int, whole_reader(1, 65535), _whole_schema(1, 65535)]
QueueCount = Annotated[int, whole_reader(1, 1023), _whole_schema(1, 1023)]


def _read_queue_size(value: object) -> int:
    # QEMU: "invalid queue-size property (2), must be > 2", and at most 1024.
    size = _read_whole(value, 4, 1024)
    if size & (size - 1):
        raise BadValueError(f"{size} is no power of two", "write 4, 8, 16, ... 256, 512 or 1024")
    return size


QueueSize = Annotated[
    int,
    BeforeValidator(_read_queue_size),
    WithJsonSchema({"type": "integer", "enum": [2**n for n in range(2, 11)]}),
]


# -- sizes, durations, fractions -----------------------------------------------------------------------------


def _read_size(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise BadValueError(f"{shown(value)} is not a size", "write a size such as 4k, 512MiB or 1GiB")
    try:
        size = parse_size(value)
    except ValueError:
        raise BadValueError(
            f"{shown(value)} is not a size", "write a size such as 4k, 512MiB or 1GiB"
        ) from None
    if not 0 < size <= MAX_SIZE_BYTES:
        raise BadValueError(f"{shown(value)} is not a possible size", "write a size above 0, such as 1GiB")
    return size


def _read_memory(value: object) -> int:
    size = _read_size(value)
    if size < 64 * 2**20:
        raise BadValueError(
            f"{shown(value)} of memory is too little for any guest", "write at least 64MiB (1GiB is usual)"
        )
    if size % 2**20:
        raise BadValueError(f"{shown(value)} of memory is no whole number of MiB", "write e.g. 1GiB")
    return size


def _read_disk_size(value: object) -> int:
    size = _read_size(value)
    if size % _SECTOR_BYTES:
        raise BadValueError(
            f"{shown(value)} is no multiple of {_SECTOR_BYTES} bytes", "a disk has whole sectors: e.g. 1GiB"
        )
    return size


_SIZE_SCHEMA = WithJsonSchema(
    {"anyOf": [{"type": "string", "pattern": SIZE_PATTERN}, {"type": "integer", "minimum": 1}]}
)
_SIZE_LABEL = PlainSerializer(format_size, return_type=str, when_used="json")

MemorySize = Annotated[int, BeforeValidator(_read_memory), _SIZE_LABEL, _SIZE_SCHEMA]
DiskSize = Annotated[int, BeforeValidator(_read_disk_size), _SIZE_LABEL, _SIZE_SCHEMA]


def _read_block_size(value: object) -> str:
    size = _read_size(value)
    if size % _SECTOR_BYTES:
        raise BadValueError(
            f"block size {shown(value)} is no multiple of {_SECTOR_BYTES} bytes",
            "direct I/O needs whole sectors: write e.g. 512, 4k or 128k",
        )
    return format_size(size)


BlockSize = Annotated[str, BeforeValidator(_read_block_size), _SIZE_SCHEMA]


def _read_duration(value: object) -> float:
    remedy = "write a duration such as 500ms, 5s or 2m"
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise BadValueError(f"{shown(value)} is not a duration", remedy)
    try:
        seconds = parse_duration(value)
    except (ValueError, OverflowError):
        raise BadValueError(f"{shown(value)} is not a duration", remedy) from None
    if not math.isfinite(seconds) or seconds < 0 or seconds > 366 * 86400:
        raise BadValueError(f"{shown(value)} is not a possible duration", remedy)
    return seconds


def _read_positive_duration(value: object) -> float:
    seconds = _read_duration(value)
    if seconds == 0:
        raise BadValueError("a duration of 0 measures nothing", "write a duration such as 500ms or 5s")
    return seconds


def _write_duration(seconds: float) -> str | float:
    if seconds == round(seconds):
        return f"{seconds:.0f}s"
    text = f"{seconds!r}s"
    return seconds if "e" in text else text


_DURATION_SCHEMA = WithJsonSchema(
    {"anyOf": [{"type": "string", "pattern": DURATION_PATTERN}, {"type": "number", "minimum": 0}]}
)
_DURATION_LABEL = PlainSerializer(_write_duration, when_used="json")

Duration = Annotated[float, BeforeValidator(_read_duration), _DURATION_LABEL, _DURATION_SCHEMA]
PositiveDuration = Annotated[
    float, BeforeValidator(_read_positive_duration), _DURATION_LABEL, _DURATION_SCHEMA
]


def _parse_percent(text: str) -> float | None:
    number = text.strip()
    if not number.endswith("%"):
        return None
    try:
        # Divided by the decimal text, so that 5% is exactly 0.05.
        return float(f"{number[:-1].strip()}e-2")
    except ValueError:
        return None


def _read_fraction(value: object) -> float:
    remedy = "write a percentage such as 2% (or 0.02)"
    fraction = _parse_percent(value) if isinstance(value, str) else value
    if isinstance(fraction, bool) or not isinstance(fraction, int | float):
        raise BadValueError(f"{shown(value)} is not a percentage", remedy)
    if not 0 < fraction < 1:
        raise BadValueError(f"{shown(value)} is not between 0% and 100%", remedy)
    return float(fraction)


def _read_risk(value: object) -> float:
    risk = _read_fraction(value)
    if risk >= MOST_RISK:
        raise BadValueError(f"{shown(value)} is not below {MOST_RISK:.0%}", "write a percentage such as 5%")
    return risk


def read_percentage(text: str, *, risk: bool = False) -> float:
    """Return a share given on the command line (``2%`` or ``0.02``) as a fraction.

    Args:
        text: as given.
        risk: whether it is the risk of a false verdict.

    Raises:
        BadValueError: it is none, or not in its range.
    """
    value: object = text
    with contextlib.suppress(ValueError):
        value = float(text)
    return _read_risk(value) if risk else _read_fraction(value)


def _write_fraction(fraction: float) -> str | float:
    label = f"{fraction * 100:g}%"
    return label if _parse_percent(label) == fraction else fraction


_FRACTION_LABEL = PlainSerializer(_write_fraction, when_used="json")


def _fraction_schema(below: float) -> WithJsonSchema:
    number = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": below}
    return WithJsonSchema({"anyOf": [{"type": "string", "pattern": PERCENT_PATTERN}, number]})


Fraction = Annotated[float, BeforeValidator(_read_fraction), _FRACTION_LABEL, _fraction_schema(1)]
Risk = Annotated[float, BeforeValidator(_read_risk), _FRACTION_LABEL, _fraction_schema(MOST_RISK)]


# -- text ----------------------------------------------------------------------------------------------------


def _read_text(value: object, *, lines: bool = False) -> str:
    if not isinstance(value, str):
        remedy = 'put it in quotes: "..."' if isinstance(value, bool | int | float) else "write text"
        raise BadValueError(f"{shown(value)} is not text", remedy)
    plain = value.replace("\n", " ").replace("\t", " ") if lines else value
    if not plain.isprintable():
        raise BadValueError(f"{shown(value)} holds control characters", "write plain text")
    return value


Line = Annotated[str, BeforeValidator(_read_text)]
Text = Annotated[str, BeforeValidator(lambda value: _read_text(value, lines=True))]


def _read_path(value: object) -> str:
    text = _read_text(value)
    if not text.startswith("/"):
        raise BadValueError(
            f"{shown(value)} is not an absolute path", "write the path from /, as the measuring host sees it"
        )
    return text


AbsolutePath = Annotated[
    str, BeforeValidator(_read_path), WithJsonSchema({"type": "string", "pattern": "^/"})
]


def pattern_reader(pattern: str, what: str, remedy: str) -> BeforeValidator:
    """Return the reader of text of one shape."""
    import re

    compiled = re.compile(pattern)

    def read(value: object) -> str:
        text = _read_text(value)
        if compiled.fullmatch(text) is None:
            raise BadValueError(f"{shown(value)} is not {what}", remedy)
        return text

    return BeforeValidator(read)


def _shape(pattern: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern})


VariantName = Annotated[
    str,
    pattern_reader(
        NAME_PATTERN.removesuffix("$"),
        "a usable name",
        "use up to 32 letters, digits and . _ + -, beginning with a letter or digit "
        "(it goes into file names and column heads)",
    ),
    _shape(NAME_PATTERN),
]
_LOGIN = r"^[a-z_][a-z0-9_.-]{0,31}$"
LoginName = Annotated[
    str,
    pattern_reader(_LOGIN, "a user's name", "write root, or the image's user, e.g. fedora"),
    _shape(_LOGIN),
]
_PUBLIC_KEY = r"^(ssh|ecdsa)-[a-z0-9-]+ [A-Za-z0-9+/]+=*( .*)?$"
PublicKey = Annotated[
    str,
    pattern_reader(
        _PUBLIC_KEY,
        "a public key",
        "write the line of the guest's /etc/ssh/ssh_host_ed25519_key.pub: ssh-ed25519 AAAA...",
    ),
    _shape(_PUBLIC_KEY),
]
_PACKAGE = r"^[A-Za-z0-9][A-Za-z0-9.+_~:@-]*$"
PackageWord = Annotated[
    str,
    pattern_reader(
        _PACKAGE, "a package, suite or version", "write it as the package manager does, e.g. qemu-system-x86"
    ),
    _shape(_PACKAGE),
]
_LIBVIRT = r"^qemu(\+[a-z0-9]+)?://[^/?#\s]*/(embed|system|session)(\?\S*)?$"
LibvirtUri = Annotated[
    str,
    pattern_reader(
        _LIBVIRT,
        "a libvirt address of QEMU's driver",
        "write qemu:///embed (needs no daemon), qemu:///system, qemu:///session or qemu+ssh://HOST/system",
    ),
    _shape(_LIBVIRT),
]
_CPU = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
CpuModel = Annotated[
    str,
    pattern_reader(_CPU, "a CPU model", "write auto, host-passthrough, maximum or a model such as EPYC-v3"),
    _shape(_CPU),
]


# -- switches ------------------------------------------------------------------------------------------------

_SWITCH = {"true": True, "on": True, "yes": True, "false": False, "off": False, "no": False}


def _read_switch(value: object) -> bool:
    if isinstance(value, bool):
        return value
    switch = _SWITCH.get(value.lower()) if isinstance(value, str) else None
    if switch is None:
        raise BadValueError(f"{shown(value)} is neither true nor false", "write true or false")
    return switch


_SWITCH_SCHEMA = {"enum": [True, False, "on", "off", "yes", "no"]}
Switch = Annotated[bool, BeforeValidator(_read_switch), WithJsonSchema(_SWITCH_SCHEMA)]


def _read_hugepages(value: object) -> bool | int:
    if isinstance(value, bool) or (isinstance(value, str) and value.lower() in _SWITCH):
        return _read_switch(value)
    try:
        size = _read_size(value)
    except BadValueError:
        raise BadValueError(
            f"{shown(value)} is no huge page size", "write true (the host's default), 2m or 1g"
        ) from None
    if size < 2**14 or size & (size - 1):
        raise BadValueError(
            f"{shown(value)} is no huge page size", "write true (the host's default), 2m or 1g"
        )
    return size


HugePages = Annotated[
    bool | int,
    BeforeValidator(_read_hugepages),
    PlainSerializer(lambda value: value if isinstance(value, bool) else format_size(value), when_used="json"),
    WithJsonSchema({"anyOf": [_SWITCH_SCHEMA, {"type": "string", "pattern": SIZE_PATTERN}]}),
]


# -- choices -------------------------------------------------------------------------------------------------


def _read_choice(value: object, choices: type[_E], aliases: dict[str, str]) -> _E:
    names = [str(choice) for choice in choices]
    remedy = f"write one of {', '.join(names)}"
    if not isinstance(value, str):
        raise BadValueError(f"{shown(value)} is not one of the choices", remedy)
    word = aliases.get(value, value)
    if word not in names:
        near = nearest(word, names)
        meant = f"did you mean {near}? " if near else ""
        raise BadValueError(f"{shown(value)} is not one of the choices", f"{meant}{remedy}")
    return choices(word)


def choice_reader(choices: type[StrEnum], aliases: dict[str, str] | None = None) -> BeforeValidator:
    """Return the reader of one of an enum's values, or of another spelling of one."""
    return BeforeValidator(lambda value: _read_choice(value, choices, aliases or {}))


def choice_schema(choices: type[StrEnum], aliases: dict[str, str] | None = None) -> WithJsonSchema:
    """Return the JSON Schema of an enum's values."""
    return WithJsonSchema({"type": "string", "enum": [*map(str, choices), *(aliases or {})]})


# -- host CPUs -----------------------------------------------------------------------------------------------

_DIGITS = 6
_CPUSET_REMEDY = 'write host CPUs such as "2", "0-3" or "0-7,^4"'


def _read_cpuset(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_WHOLE:
        return str(value)
    text = "".join(value.split()) if isinstance(value, str) else ""
    if not text.isascii():
        text = ""
    for part in text.split(","):
        first, dash, last = part.removeprefix("^").partition("-")
        good = (
            first.isdecimal()
            and len(first) <= _DIGITS
            and (not dash or (last.isdecimal() and len(last) <= _DIGITS))
        )
        if not good:
            raise BadValueError(f"{shown(value)} is not a list of CPUs", _CPUSET_REMEDY)
        if dash and int(last) < int(first):
            raise BadValueError(f"{shown(value)} has a range that runs backwards", _CPUSET_REMEDY)
    return text


CpuSet = Annotated[
    str,
    BeforeValidator(_read_cpuset),
    WithJsonSchema(
        {"anyOf": [{"type": "string", "pattern": CPUSET_PATTERN}, {"type": "integer", "minimum": 0}]}
    ),
]


def _read_index(value: object) -> int:
    # Keys arrive as text: a YAML mapping's key has no type of its own here.
    if isinstance(value, str) and value.isdecimal() and value.isascii() and len(value) <= _DIGITS:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise BadValueError(f"{shown(value)} is not a number", "the keys are numbers: 0, 1, 2, ...")


Index = Annotated[int, BeforeValidator(_read_index)]


# -- lists of a matrix ---------------------------------------------------------------------------------------


def _as_list(value: object) -> object:
    if isinstance(value, list | tuple):
        return value
    if value is None or isinstance(value, dict):
        raise BadValueError(f"{shown(value)} where values are expected", "write a value or a list of values")
    return [value]


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if not values:
        raise BadValueError("the list is empty", "write at least one value, or remove the key")
    for position, value in enumerate(values):
        if value in values[:position]:
            raise BadValueError(f"{shown(value)} is there twice", "name every value once")
    return values


class OneOrMore:
    """Marks a tuple that may be written as a single value or as a list of different ones."""

    @staticmethod
    def __get_pydantic_core_schema__(source: object, handler: Callable[[object], Any]) -> Any:
        """Wrap the tuple's schema: a list first, no duplicates after."""
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(
            _distinct,
            core_schema.no_info_before_validator_function(_as_list, handler(source)),
        )

    @staticmethod
    def __get_pydantic_json_schema__(
        core: object, handler: Callable[[object], dict[str, Any]]
    ) -> dict[str, Any]:
        """Accept one item as well as the list."""
        listed = handler(core)
        items = listed["items"]
        return {"anyOf": [items, {"type": "array", "items": items, "minItems": 1, "uniqueItems": True}]}
