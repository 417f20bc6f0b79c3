"""Whatever text comes in, the loader answers with an experiment or an InputError."""

from __future__ import annotations

import contextlib
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.errors import InputError
from harness.core.experiment import (
    Disk,
    Experiment,
    Guest,
    Matrix,
    Placement,
    Protocol,
    Section,
    Timeouts,
    load_experiment,
)
from harness.core.experiment.yaml_text import read_yaml, write_yaml

SECTIONS: dict[str, type[Section]] = {
    "guest": Guest,
    "disk": Disk,
    "placement": Placement,
    "matrix": Matrix,
    "protocol": Protocol,
    "timeouts": Timeouts,
}
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(
        ["4k", "0", "-1", "1GiB", "5s", "2%", "on", "native", "file", "randrw", "io_uring", "/x", "0-3", ""]
    )
    | st.text(max_size=8)
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCALARS, inner, max_size=3)
)


def _written(value: Any) -> str:
    # Writing by the C library, where PyYAML has it, is ten times as fast; reading is what is tested.
    return str(yaml.dump(value, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), allow_unicode=True))


def _survives(text: str) -> Experiment | None:
    with contextlib.suppress(InputError):
        return load_experiment(text, "t.yml")
    return None


_TEXT = st.text(st.characters(exclude_categories=["Cs"])) | st.text(
    alphabet=" \n\t:-[]{},#&*!|>'\"%@`?~<=0123456789.+_eExoaNnyYtTruflsO\\\x07\x85\xa0\u2028\ufeff"
)


@given(st.dictionaries(_TEXT, _TEXT | st.lists(_TEXT, max_size=3), min_size=1, max_size=3))
def test_any_text_that_is_written_is_read_back(document: dict[str, Any]) -> None:
    assert read_yaml(write_yaml(document)) == (document, [])


@given(st.text())
def test_any_text(text: str) -> None:
    _survives(text)


@given(st.text(alphabet=" \n\t:-[]{},#&*!|>'\"%@`?~<0123456789.eExaNn\\uU\ud800\x00\x85"))
def test_text_that_looks_like_yaml(text: str) -> None:
    _survives(text)


@given(VALUES)
def test_any_yaml(value: Any) -> None:
    _survives(_written(value))


@given(st.data())
def test_an_experiment_with_any_values(data: st.DataObject) -> None:
    document: dict[str, Any] = {
        "name": "t",
        "builds": {"OLD": {"path": "/a"}, "NEW": {"path": "/b"}},
        "baseline": "OLD",
    }
    for name, section in SECTIONS.items():
        keys = st.sampled_from(list(section.model_fields)) | st.text(max_size=3)
        document[name] = data.draw(st.dictionaries(keys, VALUES, max_size=3))
    key = data.draw(st.sampled_from(["name", "builds", "baseline", "libvirt", "accel", "workload", "x"]))
    if data.draw(st.booleans()):
        document[key] = data.draw(VALUES)
    experiment = _survives(_written(document))
    if experiment is not None:
        assert load_experiment(experiment.to_yaml(), "again.yml") == experiment


@settings(max_examples=50)
@given(
    rw=st.lists(st.sampled_from(["read", "randread"]), min_size=1, unique=True),
    sizes=st.lists(st.integers(1, 4096).map(lambda n: n * 512), min_size=1, max_size=4, unique=True),
    depths=st.lists(st.integers(1, 1024), min_size=1, max_size=4, unique=True),
    queues=st.none() | st.lists(st.integers(1, 64), min_size=1, max_size=3, unique=True),
    runtime=st.floats(0.001, 1e5),
    margin=st.floats(0.0001, 0.9999),
)
def test_good_experiments_round_trip(
    *,
    rw: list[str],
    sizes: list[int],
    depths: list[int],
    queues: list[int] | None,
    runtime: float,
    margin: float,
) -> None:
    matrix: dict[str, Any] = {"rw": rw, "bs": sizes, "iodepth": depths}
    if queues:
        matrix["queues"] = queues
    document = {
        "name": "t",
        "builds": {"OLD": {"path": "/a"}, "NEW": {"path": "/b"}},
        "baseline": "OLD",
        "matrix": matrix,
        "protocol": {"runtime": runtime, "margin": margin},
    }
    experiment = load_experiment(_written(document), "t.yml")
    assert len(experiment.cells()) == len(rw) * len(sizes) * len(depths) * len(queues or [1])
    assert len(set(experiment.cells())) == len(experiment.cells())
    again = load_experiment(experiment.to_yaml(), "again.yml")
    assert again == experiment
    assert again.cells() == experiment.cells()
