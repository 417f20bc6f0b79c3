"""A good experiment file: what it means."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from pydantic import ValidationError

from harness.core.errors import InputError
from harness.core.experiment import Experiment, load_experiment
from harness.core.model import Accel, Aio, Backend, Cell, Workload

ROOT = Path(__file__).parents[2]
HEAD = "name: t\nbuilds: {OLD: {path: /old}, NEW: {package: qemu, suite: sid}}\nbaseline: OLD\n"


def load(text: str) -> Experiment:
    return load_experiment(HEAD + text, "t.yml")


def test_three_keys_are_enough() -> None:
    experiment = load("")
    assert experiment.workload is Workload.FIO_MATRIX
    assert experiment.accel is Accel.AUTO
    assert experiment.disk.backend is Backend.NULL_CO
    assert experiment.cells() == (Cell("randread", "4k", 1),)
    assert experiment.guest_configs() == ((),)
    assert experiment.varied_factors() == ("rw", "bs", "iodepth")


def test_the_seeds_matrix_in_the_seeds_order() -> None:
    path = ROOT / "fio" / "coroutine-pool.yml"
    experiment = load_experiment(path.read_text(), str(path))
    assert [(c.rw, c.bs, c.iodepth) for c in experiment.cells()] == [
        ("randread", bs, depth) for bs in ("4k", "128k") for depth in (1, 8, 16, 32, 64)
    ]
    assert [build.kind for build in experiment.builds.values()] == ["package", "package"]


def test_the_quick_experiment_ends_within_five_minutes_and_can_give_a_verdict() -> None:
    path = ROOT / "fio" / "quick.yml"
    experiment = load_experiment(path.read_text(), str(path))
    protocol = experiment.protocol
    assert (len(experiment.matrix.bs), len(experiment.matrix.iodepth)) == (2, 2)
    # Boot under TCG 6.5 s, and per iteration 0.3 s beyond fio's own time (facts.md).
    session = 6.5 + len(experiment.cells()) * (protocol.runtime + protocol.ramp + 0.3)
    assert protocol.blocks * len(experiment.variants) * session < 270
    # A sign test's smallest p-value, over all cells, must get below alpha.
    assert 2 * 0.5**protocol.blocks * len(experiment.cells()) <= protocol.alpha


def test_the_baseline_comes_first_whatever_the_files_order() -> None:
    text = "name: t\nbuilds: {A: {path: /a}, B: {path: /b}, C: {path: /c}}\nbaseline: B\n"
    experiment = load_experiment(text, "t.yml")
    assert experiment.variants == ("B", "A", "C")
    assert experiment.contenders == ("A", "C")


def test_units_are_taken_off() -> None:
    experiment = load(
        "guest: {memory: 512MiB}\ndisk: {size: 2g, latency: 1.5ms}\nmatrix: {bs: [4096, 8K, 1m]}\n"
        "protocol: {runtime: 500ms, ramp: 0, margin: 2%, alpha: 0.1, until: 1.5%}\n"
    )
    assert experiment.guest.memory == 2**29
    assert experiment.disk.size == 2**31
    assert experiment.disk.latency == pytest.approx(0.0015)
    assert experiment.matrix.bs == ("4k", "8k", "1m")
    protocol = experiment.protocol
    assert (protocol.runtime, protocol.ramp) == (0.5, 0)
    assert (protocol.margin, protocol.alpha, protocol.until) == (0.02, 0.1, 0.015)


@pytest.mark.parametrize("percent", [f"{n}%" for n in range(1, 100)])
def test_percentages_are_exact(percent: str) -> None:
    experiment = load(f"protocol: {{margin: {percent}}}")
    assert experiment.protocol.margin == int(percent[:-1]) / 100
    assert f"margin: {percent}" in experiment.to_yaml()


def test_guest_factors_are_outermost_and_make_configurations() -> None:
    experiment = load(
        "disk: {backend: file}\n"
        "matrix: {rw: [readwrite, read], iodepth: [8, 1], iothreads: [1, 0], aio: [io_uring, native],"
        " numjobs: 2}\n".replace("readwrite, read", "randread, read")
    )
    assert experiment.guest_configs() == tuple(
        (("aio", aio), ("iothreads", n)) for aio in ("io_uring", "native") for n in (1, 0)
    )
    cells = experiment.cells()
    assert len(cells) == 16
    assert cells[0] == Cell("randread", "4k", 8, 2, "libaio", (("aio", "io_uring"), ("iothreads", 1)))
    assert [cell.guest for cell in cells] == [c for c in experiment.guest_configs() for _ in range(4)]
    assert [(c.rw, c.iodepth) for c in cells[:4]] == [
        ("randread", 8),
        ("randread", 1),
        ("read", 8),
        ("read", 1),
    ]
    assert experiment.varied_factors() == ("rw", "bs", "iodepth", "numjobs", "aio", "iothreads")


def test_every_guest_factor_overrides_its_setting() -> None:
    experiment = load(
        "disk: {backend: file, queues: 16}\n"
        "matrix: {backend: [file], format: [raw, qcow2], cache: [none], aio: [threads], iothreads: [1],"
        " queues: [8], queue_size: [256], iothread_mapping: [on], poll_max_ns: [0, 5], vcpus: [3],"
        " memory: [2g], machine: [pc]}\n"
    )
    *_, config = experiment.guest_configs()
    assert dict(config) == {
        "backend": "file",
        "format": "qcow2",
        "cache": "none",
        "aio": "threads",
        "iothreads": 1,
        "queues": 8,
        "queue_size": 256,
        "iothread_mapping": "on",
        "poll_max_ns": 5,
        "vcpus": 3,
        "memory": "2g",
        "machine": "pc",
    }
    one = experiment.for_guest(config)
    assert (one.disk.format, one.disk.aio, one.disk.queues, one.disk.queue_size) == (
        "qcow2",
        Aio.THREADS,
        8,
        256,
    )
    assert (one.disk.iothread_mapping, one.disk.poll.max_ns) == (True, 5)
    assert (one.guest.vcpus, one.guest.memory, one.guest.machine) == (3, 2**31, "pc")


def test_the_cells_of_the_guests_are_the_cells_of_the_experiment() -> None:
    experiment = load("disk: {queues: 4}\nmatrix: {bs: [4k, 8k], queues: [1, 4], vcpus: [1, 2]}")
    parts = [experiment.for_guest(config).cells() for config in experiment.guest_configs()]
    assert tuple(cell for part in parts for cell in part) == experiment.cells()


def test_a_guest_nobody_planned_is_still_checked() -> None:
    with pytest.raises(InputError, match=r"matrix \(iothread_mapping=on, iothreads=0\)"):
        load("").for_guest((("iothread_mapping", "on"), ("iothreads", 0)))


def test_cells_are_plain_values() -> None:
    experiment = load("disk: {backend: file}\nmatrix: {aio: [native, threads], ioengine: [io_uring]}")
    for cell in experiment.cells():
        values = [*dataclasses.astuple(cell)[:5], *(value for _, value in cell.guest)]
        assert {type(value) for value in values} <= {str, int}


@pytest.mark.parametrize("name", ["NO", "off", "7.2", "10.10", "010", "null", "1e3", "2026-01-01", "a+b_c-d"])
def test_variants_may_be_called_what_yaml_1_1_would_mangle(name: str) -> None:
    text = f'name: t\nbuilds: {{{name}: {{path: /a}}, B: {{path: /b}}}}\nbaseline: "{name}"\n'
    experiment = load_experiment(text, "t.yml")
    assert experiment.variants == (name, "B")
    assert load_experiment(experiment.to_yaml(), "again.yml") == experiment


@pytest.mark.parametrize(
    "path", sorted([*ROOT.glob("fio/*.yml"), *ROOT.glob("tests/data/domain/*.yml")]), ids=str
)
def test_round_trips(path: Path) -> None:
    experiment = load_experiment(path.read_text(), str(path))
    assert load_experiment(experiment.to_yaml(), "again.yml") == experiment
    assert Experiment.model_validate(experiment.model_dump()) == experiment
    assert Experiment.model_validate(experiment.model_dump(mode="json")) == experiment


def test_what_was_not_varied_stays_so_on_the_round_trip() -> None:
    again = load_experiment(load("").to_yaml(), "again.yml")
    assert again.varied_factors() == ("rw", "bs", "iodepth")


def test_what_older_versions_wrote_out_as_defaults_is_read() -> None:
    """Runs with --aa keep their experiment with every default: those of the version that ran them."""
    written = "instructions: {load: virtio-blk, disks: 1, requests: 800, repeats: 3, timeout: 120}\n"
    assert load(written).instructions.timeout == 120


def test_an_experiment_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        load("").name = "other"


def test_booting_may_take_longer_under_emulation() -> None:
    timeouts = load("").timeouts
    assert timeouts.boot_seconds(Accel.TCG) > timeouts.boot_seconds(Accel.KVM)
    assert load("timeouts: {boot: 5s}").timeouts.boot_seconds(Accel.TCG) == 5
