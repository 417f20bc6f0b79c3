"""Texts, switches, host CPUs and lists of an experiment file: what users write, as what the harness uses.

Every type carries its own reader (with errors in plain words), its JSON Schema (which accepts the same
shorthand) and its way back into YAML.
"""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from harness.core.experiment.bad_value import BadValueError, shown
from harness.core.experiment.quantities import MAX_WHOLE, SIZE_PATTERN, read_size
from harness.core.units import format_size

_T = TypeVar("_T")

CPUSET_PATTERN = r"^\^?[0-9]+(-[0-9]+)?(,\^?[0-9]+(-[0-9]+)?)*$"
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,31}$"

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
        size = read_size(value)
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


Values = Annotated[tuple[_T, ...], OneOrMore()]
"""One or more values of a factor."""
