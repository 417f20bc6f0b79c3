"""Values of an experiment file of which there are a few: names of accelerators, backends, patterns ...

No ``from __future__ import annotations`` here: pydantic reads these annotations when the module is loaded.
"""

from enum import StrEnum
from typing import Annotated, TypeVar

from pydantic import BeforeValidator, WithJsonSchema

from harness.core.experiment.bad_value import BadValueError, nearest, shown
from harness.core.model import (
    Accel,
    Aio,
    Backend,
    Cache,
    Connection,
    CoroutineTest,
    CountLoad,
    DiskFormat,
    IOEngine,
    Machine,
    NumaMode,
    PoolDriver,
    ReadWrite,
    RingFormat,
    Tuning,
    Workload,
)

_E = TypeVar("_E", bound=StrEnum)

RW_ALIASES = {"readwrite": "rw"}


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


WorkloadName = Annotated[Workload, choice_reader(Workload), choice_schema(Workload)]
AccelName = Annotated[Accel, choice_reader(Accel), choice_schema(Accel)]
BackendName = Annotated[Backend, choice_reader(Backend), choice_schema(Backend)]
FormatName = Annotated[DiskFormat, choice_reader(DiskFormat), choice_schema(DiskFormat)]
CacheName = Annotated[Cache, choice_reader(Cache), choice_schema(Cache)]
AioName = Annotated[Aio, choice_reader(Aio), choice_schema(Aio)]
ConnectionName = Annotated[Connection, choice_reader(Connection), choice_schema(Connection)]
MachineName = Annotated[Machine, choice_reader(Machine), choice_schema(Machine)]
PoolDriverName = Annotated[PoolDriver, choice_reader(PoolDriver), choice_schema(PoolDriver)]
NumaModeName = Annotated[NumaMode, choice_reader(NumaMode), choice_schema(NumaMode)]
ReadWriteName = Annotated[
    ReadWrite, choice_reader(ReadWrite, RW_ALIASES), choice_schema(ReadWrite, RW_ALIASES)
]
IOEngineName = Annotated[IOEngine, choice_reader(IOEngine), choice_schema(IOEngine)]
CountLoadName = Annotated[CountLoad, choice_reader(CountLoad), choice_schema(CountLoad)]
CoroutineTestName = Annotated[CoroutineTest, choice_reader(CoroutineTest), choice_schema(CoroutineTest)]
TuningName = Annotated[Tuning, choice_reader(Tuning), choice_schema(Tuning)]
RingFormatName = Annotated[RingFormat, choice_reader(RingFormat), choice_schema(RingFormat)]
