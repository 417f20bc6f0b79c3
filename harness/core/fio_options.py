"""fio's options as its JSON repeats them: sizes, patterns, and what tells one measurement's set-up.

fio writes options as they were typed, under their first names. A size's ``k`` is 1024 bytes and its ``kib``
is 1000 unless ``kb_base=1000`` turns both round (fio's HOWTO, "kb_base"; parse.c, __get_mult_bytes).
An option without a value (``--time_based``) is missing in fio 3.33 and empty later: rely on neither.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from harness.core.units import format_size, parse_size

if TYPE_CHECKING:
    from collections.abc import Mapping

ALIASES = {"readwrite": "rw", "blocksize": "bs", "blocksize_range": "bsrange"}
DEFAULTS = {"rw": "read", "bs": "4096", "iodepth": "1", "numjobs": "1"}
_SYNONYMS = {"readwrite": "rw"}
_SIZE = re.compile(
    r"(?P<number>0x[0-9a-f]{1,16}|[0-9]{1,20})(?P<prefix>[kmgtp]?)(?P<opposite>ib)?i?b?", re.IGNORECASE
)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_BASES = {"1024": (1024, 1000), "1000": (1000, 1024)}

PERFORMS = {
    "read": frozenset({"read"}),
    "write": frozenset({"write"}),
    "trim": frozenset({"trim"}),
    "randread": frozenset({"read"}),
    "randwrite": frozenset({"write"}),
    "randtrim": frozenset({"trim"}),
    "rw": frozenset({"read", "write"}),
    "randrw": frozenset({"read", "write"}),
    "trimwrite": frozenset({"trim", "write"}),
    "randtrimwrite": frozenset({"trim", "write"}),
}
"""A pattern -> the directions it has."""

_ORDER = ("read", "write", "trim")  # of the sizes in bs=4k,16k,8k

# Options that may vary within a cell: they name, log or report, and do not change what is measured; then
# the factors, which have columns of their own.
_IRRELEVANT = frozenset(
    {
        "name", "description", "group_reporting", "stonewall", "new_group", "reset_groupid", "wait_for",
        "eta", "output", "output-format", "status-interval", "status_interval", "percentile_list",
        "clat_percentiles", "lat_percentiles", "slat_percentiles", "significant_figures",
        "unified_rw_reporting", "kb_base", "unit_base", "randseed", "randrepeat", "allrandrepeat",
        "per_job_logs", "unlink", "create_only", "exitall", "filename_format",
        "rw", "bs", "bsrange", "bssplit", "iodepth", "numjobs", "ioengine",
    }
)  # fmt: skip
_LOG = re.compile(r"log_.*|write_.*log")


@lru_cache(maxsize=1024)
def size_bytes(text: str, kb_base: str = "1024") -> int:
    """Return the bytes that fio takes a size for: ``4k`` is 4096, ``4kib`` is 4000, unless kb_base is 1000.

    Raises:
        ValueError: the text is no size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None or kb_base not in _BASES:
        raise ValueError(f"{text!r} is no size of fio's")
    usual, opposite = _BASES[kb_base]
    factor = opposite if match["opposite"] and match["prefix"] else usual
    return int(match["number"], 0 if "x" in match["number"].lower() else 10) * int(
        factor ** _POWERS[match["prefix"].lower()]
    )


def pattern(value: str | None) -> str | None:
    """Return the one name of an I/O pattern (``readwrite`` -> ``rw``, ``randread:8`` -> ``randread``)."""
    if value is None:
        return None
    # "randread:8" asks for runs of 8; the pattern is what stands before.
    name = value.strip().lower().split(":")[0]
    return _SYNONYMS.get(name, name)


def block_size(value: str | None) -> str | None:
    """Return a block size's label (``4096`` -> ``4k``); fio's own text when it names several sizes."""
    if value is None:
        return None
    try:
        return format_size(parse_size(value))
    except ValueError:
        return value.strip().lower()


def block_label(options: Mapping[str, str]) -> str | None:
    """Return the label of the block sizes that a job uses; None when its options do not tell.

    One size (``4k``), those of both directions (``4k,16k``), a range (``1k-4k``) or a split
    (``4k/60:16k/40``); of ``bs=4k,16k`` a job that only reads uses ``4k``.
    """
    for key in ("bssplit", "bsrange"):  # each overrules bs
        if options.get(key):
            return options[key].strip().lower()
    sizes = block_sizes(options)
    if sizes is None:
        return block_size(options.get("bs"))
    labels = list(dict.fromkeys(format_size(size) for size in sizes.values()))
    return labels[0] if len(labels) == 1 else ",".join(format_size(size) for size in sizes.values())


def block_sizes(options: Mapping[str, str]) -> dict[str, int] | None:
    """Return the one block size of each direction a job performs, in bytes; None where there is no such."""
    text, kb_base = options.get("bs"), options.get("kb_base", "1024")
    if text is None or options.get("bssplit") or options.get("bsrange"):
        return None
    given = [part.strip() for part in text.split(",")]
    try:
        parsed = [size_bytes(part, kb_base) if part else None for part in given]
    except ValueError:
        return None
    if parsed[-1] is not None:  # what does not end with a comma goes for the directions that follow
        parsed += [parsed[-1]] * len(_ORDER)
    default = size_bytes(DEFAULTS["bs"])
    by_direction = dict.fromkeys(_ORDER, default) | {
        name: size for name, size in zip(_ORDER, parsed, strict=False) if size is not None
    }
    performed = PERFORMS.get(pattern(options.get("rw")) or "", frozenset(_ORDER))
    return {name: size for name, size in by_direction.items() if name in performed}


def size_limits(options: Mapping[str, str]) -> tuple[int, int] | None:
    """Return the smallest and the largest block that a job may use, in bytes; None when it cannot be told."""
    sizes = block_sizes(options)
    if sizes is not None:
        return min(sizes.values()), max(sizes.values())
    text = options.get("bssplit") or options.get("bsrange")
    if text is None:
        return None
    parts = [part.split("/")[0] for part in re.split(r"[:,-]" if "bsrange" in options else r"[:,]", text)]
    try:
        found = [size_bytes(part, options.get("kb_base", "1024")) for part in parts if part.strip()]
    except ValueError:
        return None
    return (min(found), max(found)) if found else None


def settings(options: Mapping[str, str]) -> dict[str, str]:
    """Return what a measurement depends on beside its factors, in one spelling: direct, filename, size ...

    Options without a value are left out, since fio 3.33 does not write them; but for ``direct``.
    """
    kb_base = options.get("kb_base", "1024")
    found = {
        key: _one_spelling(value.strip(), kb_base)
        for key, value in options.items()
        if key not in _IRRELEVANT and not _LOG.fullmatch(key) and value.strip()
    }
    if "buffered" in found:
        found["direct"] = "0" if found.pop("buffered") == "1" else "1"
    elif "direct" in options:
        found["direct"] = found.get("direct", "1")
    return found


def _one_spelling(value: str, kb_base: str) -> str:
    if not value[:1].isdigit():
        return value
    try:
        return format_size(size_bytes(value, kb_base))
    except ValueError:
        return value
