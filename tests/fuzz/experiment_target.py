"""The experiment loader: an experiment that says what the text says, or every problem of it."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from fuzz.mutation import Pairs, Raw, mutate_bytes, mutate_tree, write
from fuzz.target import READ, Target, outcome_of, require
from harness.core.errors import HarnessError
from harness.core.experiment import Experiment, load_experiment
from harness.core.model import GUEST_FACTORS, Workload
from harness.shell.declare import plan_of

if TYPE_CHECKING:
    from random import Random

_ROOT = Path(__file__).parents[2]
_MOST_ITERATIONS = 100_000
_Fast = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_FastDumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_Texts = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


def check(data: bytes, _directory: Path) -> str:
    """Load an experiment; what came out has to be what stands there, and to survive being written."""
    text = data.decode(errors="replace")
    try:
        experiment = load_experiment(text, "fuzz.yml")
    except HarnessError as error:
        return outcome_of(error)
    again = load_experiment(experiment.to_yaml(), "again.yml")
    require(again == experiment, "written and read again it is another experiment")
    _compare_with_text(experiment, text)
    _plan(experiment)
    return READ


def _compare_with_text(experiment: Experiment, text: str) -> None:
    """Hold what was read against PyYAML's plainest reading, which takes everything for text."""
    try:
        plain = yaml.load(text, Loader=_Texts)  # noqa: S506 - texts only
    except yaml.YAMLError:
        # libyaml refuses some of what PyYAML's own parser takes: "{a:{b: c}}".
        plain = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506
    require(experiment.name == plain["name"], "another name than the text's")
    require(experiment.baseline == plain["baseline"], "another baseline than the text's")
    require(list(experiment.builds) == list(plain["builds"]), "other builds than the text's")
    matrix = plain.get("matrix") or {}
    if given := matrix.get("iodepth") if isinstance(matrix, dict) else None:
        depths = [int(one) for one in (given if isinstance(given, list) else [given])]
        require(list(experiment.matrix.iodepth) == depths, f"I/O depths {depths} became others")
    protocol = plain.get("protocol") or {}
    for name in ("blocks", "iterations", "seed"):
        if name in protocol:
            require(getattr(experiment.protocol, name) == int(protocol[name]), f"another {name}")


def _plan(experiment: Experiment) -> None:
    """Plan it: what passes has to be something that can be planned."""
    cells = experiment.cells()
    require(len(set(cells)) == len(cells), "one cell twice")
    guests = prod(len(experiment.matrix.values(name)) or 1 for name in GUEST_FACTORS)
    require(len(experiment.guest_configs()) == guests, "not every combination of guest factors")
    if experiment.workload is Workload.INSTRUCTIONS:
        return
    plan = plan_of(experiment)
    require(plan.iteration_count <= _MOST_ITERATIONS, f"a plan of {plan.iteration_count} iterations")


def seeds() -> list[bytes]:
    """Return the experiments that the project ships, and those of its tests."""
    files = [*sorted((_ROOT / "fio").glob("*.yml")), *sorted((_ROOT / "tests/data/domain").glob("*.yml"))]
    return [file.read_bytes() for file in files] + [_EVERYTHING.encode()]


_EVERYTHING = """\
name: everything
workload: fio-matrix
builds:
  OLD: {package: qemu-system-x86, version: 1:7.2}
  NEW: {path: /opt/qemu/bin/qemu-system-x86_64}
baseline: OLD
accel: tcg
guest: {vcpus: 2, memory: 1GiB, machine: q35}
disk: {backend: file, format: raw, size: 1GiB, cache: none, aio: native, iothreads: 1, queues: 2}
placement: {vcpupin: {0: "0-1"}, iothreadpin: {1: "1"}}
matrix: {rw: [randread, read], bs: [4k, 64k], iodepth: [1, 8, 64], numjobs: [1, 2], cache: [none, directsync]}
protocol: {blocks: 4, iterations: 2, runtime: 5s, ramp: 500ms, seed: 7, margin: 2%, alpha: 0.05}
timeouts: {boot: 2m, agent: 10s}
"""

_YAML_CHUNKS = (
    b"&a [*a]", b"*a", b"&a ", b"<<: *a\n", b"!!int ", b"!!binary aGk=", b"? ", b"- ", b"|\n ", b">-\n ", b"%YAML 1.1\n",
    b"---\n", b"...\n", b"0x10", b"0o17", b"1:30", b"NO", b"~", b"1_000", b".inf", b".nan", b"1e400", b"2026-01-01",
    b"a: &a [1,1]\nb: &b [*a,*a,*a]\nc: &c [*b,*b,*b]\nd: &d [*c,*c,*c]\ne: [*d,*d,*d]\n",
    b'"\\ud800"', b'"\\U00110000"', b"\xc2\x85", b"\xe2\x80\xa8", b"\t",
)  # fmt: skip


def mutate(data: bytes, random: Random) -> bytes:
    """Change the document, or the text."""
    if random.random() < 0.65:
        try:
            tree = yaml.load(data, Loader=_Fast)  # noqa: S506 - a safe one
            tree = mutate_tree(_plain(tree), random)
        except (yaml.YAMLError, ValueError, RecursionError, TypeError):
            pass
        else:
            return _written(tree, random)
    if random.random() < 0.3:
        at = random.randrange(len(data) + 1)
        return data[:at] + random.choice(_YAML_CHUNKS) + data[at:]
    return mutate_bytes(data, random)


def _plain(tree: Any) -> Any:
    """Return a tree with text for keys, as JSON wants them."""
    if isinstance(tree, dict):
        return {str(key): _plain(value) for key, value in tree.items()}
    return [_plain(item) for item in tree] if isinstance(tree, list) else tree


def _written(tree: Any, random: Random) -> bytes:
    if random.random() < 0.5 or _odd(tree):
        # JSON is YAML, but for what is none.
        return write(tree)
    return str(yaml.dump(tree, Dumper=_FastDumper, allow_unicode=True, sort_keys=False)).encode(
        errors="replace"
    )


def _odd(tree: Any) -> bool:
    if isinstance(tree, Raw | Pairs):
        return True
    if isinstance(tree, str):
        return not tree.isprintable()
    values = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    return any(map(_odd, values)) or (isinstance(tree, dict) and not all(k.isprintable() for k in tree))


TARGET = Target("experiment", "experiment loader", check, seeds, mutate)
