"""Numbers of an experiment file: counts, sizes, durations, fractions.

Every type carries its own reader (with errors in plain words), its JSON Schema (which accepts the same
shorthand) and its way back into YAML.
"""

import contextlib
import math
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from harness.core.experiment.bad_value import BadValueError, shown
from harness.core.model import MOST_RISK
from harness.core.units import format_size, parse_duration, parse_size

MAX_SIZE_BYTES = 2**63 - 1
MAX_WHOLE = 2**31 - 1
_SECTOR_BYTES = 512

SIZE_PATTERN = r"^[0-9]+ *[kKmMgGtT]?([iI]?[bB])?$"
DURATION_PATTERN = r"^[0-9]+(\.[0-9]+)? *(ms|s|m|h)?$"
PERCENT_PATTERN = r"^[0-9]+(\.[0-9]+)? *%$"


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


def read_size(value: object) -> int:
    """Return the bytes of a size such as 4k or 1GiB."""
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
    size = read_size(value)
    if size < 64 * 2**20:
        raise BadValueError(
            f"{shown(value)} of memory is too little for any guest", "write at least 64MiB (1GiB is usual)"
        )
    if size % 2**20:
        raise BadValueError(f"{shown(value)} of memory is no whole number of MiB", "write e.g. 1GiB")
    return size


def _read_disk_size(value: object) -> int:
    size = read_size(value)
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
    size = read_size(value)
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
