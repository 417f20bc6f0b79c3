"""A bad experiment file: every error at once, where it is, in plain words, with a remedy."""

from __future__ import annotations

import pytest

from harness.core.errors import InputError, Problem
from harness.core.experiment import load_experiment

HEAD = "name: t\nbuilds: {OLD: {path: /old}, NEW: {path: /new}}\nbaseline: OLD\n"


def problems(text: str) -> tuple[Problem, ...]:
    with pytest.raises(InputError) as caught:
        load_experiment(text, "t.yml")
    assert caught.value.exit_code == 2
    return caught.value.problems


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("", "t.yml", "the file is empty"),
        ("# nothing\n", "t.yml", "the file is empty"),
        ("- a\n", "t.yml", "a list instead of an experiment's keys"),
        ("hello", "t.yml", "'hello' instead of"),
        ("name: [a\nb: c", "t.yml: line 2, column 2", "not valid YAML"),
        ("name:\n\tt: x", "t.yml: line 2, column 1", "not valid YAML"),
        ("a: \x00", "t.yml: line 1, column 4", "not valid YAML"),
        ("a: 1\n---\nb: 1\n", "t.yml: line 2, column 1", "not valid YAML"),
        ("x: *nowhere", "t.yml: line 1, column 4", "undefined alias"),
        ("[" * 1000, "t.yml: line 1, column 32", "nested too deeply"),
        ("a" * 300_000, "t.yml", "too large"),
    ],
)
def test_no_experiment_at_all(text: str, where: str, message: str) -> None:
    (problem,) = problems(text)
    assert problem.where == where
    assert message in problem.message
    assert problem.remedy


@pytest.mark.parametrize(
    ("text", "where", "message", "remedy"),
    [
        # single values
        ("matrix: {bs: [4k, 4q]}", "matrix.bs[1]", "'4q' is not a size", "4k"),
        ("matrix: {bs: 4q}", "matrix.bs", "'4q' is not a size", "4k"),
        ("matrix: {bs: [700]}", "matrix.bs[0]", "no multiple of 512", "4k"),
        ("matrix: {bs: []}", "matrix.bs", "empty", "at least one"),
        ("matrix: {bs: [4k, 4096]}", "matrix.bs", "'4k' is there twice", "once"),
        ("tuning: [ksm, ksm]", "tuning", "'ksm' is there twice", "once"),
        ("matrix: {iodepth: 0}", "matrix.iodepth", "0 is less than 1", "from 1"),
        ("matrix: {iodepth: [1, 2.5]}", "matrix.iodepth[1]", "2.5 is not a whole number", "number"),
        ("matrix: {iodepth: [010]}", "matrix.iodepth[0]", "'010' is text", "leading zeros"),
        ("matrix: {numjobs: true}", "matrix.numjobs", "true is not a whole number", "number"),
        ("matrix: {rw: ranread}", "matrix.rw", "'ranread' is not one of", "did you mean randread?"),
        # Engines of libraries that are hollow in the micro guest.
        ("matrix: {ioengine: rbd}", "matrix.ioengine", "'rbd' is not one of", "libaio"),
        ("matrix: {ioengine: [libaio, libpmem]}", "matrix.ioengine[1]", "'libpmem' is not one of", "libaio"),
        ("matrix: {ioengine: windowsaio}", "matrix.ioengine", "is not one of", "libaio"),
        ("matrix: {bs: {a: 1}}", "matrix.bs", "a mapping", "list of values"),
        ("disk: {queue_size: 100}", "disk.queue_size", "100 is no power of two", "256"),
        ("disk: {queue_size: 2}", "disk.queue_size", "2 is less than 4", "1024"),
        ("disk: {iothread_mapping: maybe}", "disk.iothread_mapping", "neither true nor false", "true"),
        ("disk: {latency: soon}", "disk.latency", "'soon' is not a duration", "500ms"),
        ("disk: {size: 0}", "disk.size", "0 is not a possible size", "1GiB"),
        ("disk: null", "disk", "nothing (null) where keys are expected", "remove disk"),
        ("disk: [a]", "disk", "a list where keys are expected", "keys"),
        ("disk: {poll: {max_ns: -1}}", "disk.poll.max_ns", "-1 is less than 0", "number"),
        ("guest: {memory: 1q}", "guest.memory", "'1q' is not a size", "1GiB"),
        ("guest: {memory: 1m}", "guest.memory", "too little", "64MiB"),
        ("guest: {cmdline: 5}", "guest.cmdline", "5 is not text", "quotes"),
        ('guest: {cmdline: "a\\x07"}', "guest.cmdline", "control characters", "plain"),
        ("guest: {kernel: boot/k, initrd: /i}", "guest.kernel", "not an absolute path", "from /"),
        ("libvirt: test:///default", "libvirt", "a libvirt address", "qemu:///embed"),
        ("libvirt: xen:///system", "libvirt", "a libvirt address", "qemu:///embed"),
        ("accel: hvf", "accel", "'hvf' is not one of", "kvm"),
        ("workload: pool", "workload", "'pool' is not one of", "fio-matrix"),
        ("protocol: {margin: 2}", "protocol.margin", "2 is not between", "2%"),
        ("protocol: {runtime: 0s}", "protocol.runtime", "measures nothing", "5s"),
        ("placement: {emulatorpin: 3-1}", "placement.emulatorpin", "runs backwards", "0-3"),
        ("placement: {vcpupin: {0: a}}", "placement.vcpupin.0", "'a' is not a list of CPUs", "0-3"),
        ("placement: {vcpupin: {x: 1}}", "placement.vcpupin.x", "'x' is not a number", "0, 1"),
        ("placement: {numa: {mode: strict}}", "placement.numa.nodeset", "is missing", "add nodeset"),
        ("placement: {hugepages: 3m}", "placement.hugepages", "no huge page size", "2m"),
        # keys
        ("desc: x", "desc", "unknown key", "did you mean description?"),
        ("disk: {cach: none}", "disk.cach", "unknown key", "did you mean cache?"),
        ("guest: {iothreads: 1}", "guest.iothreads", "unknown key", "under disk"),
        ("disk: {accel: tcg}", "disk.accel", "unknown key", "top level"),
        ("disk: {zzz: 1}", "disk.zzz", "unknown key", "backend, path"),
        ("disk: {queues: 1, queues: 2}", "disk.queues", "twice, in lines 4 and 4", "one of them"),
        ("disk: {[a]: 2}", "disk", "a key is a list", "plain words"),
        ("disk: !!python/object:os.system {}", "disk", "means nothing", "plain value"),
        # contradictions
        ("disk: {backend: block}", "disk.path", "needs the path of a device", "/dev"),
        ("disk: {backend: block, path: sda}", "disk.path", "not an absolute path", "from /"),
        ("disk: {backend: nvme, path: /dev/nvme0}", "disk.path", "no PCI address", "0000:01:00.0"),
        ("disk: {path: /x}", "disk.path", "null-co stores nothing", "backend"),
        ("disk: {backend: file, latency: 1s}", "disk.latency", "only null-co", "null-co"),
        ("disk: {backend: file, cache: writeback}", "disk.aio", "native needs direct I/O", "directsync"),
        ("disk: {format: qcow2}", "disk.format", "a format of files", "file"),
        (
            "disk: {iothreads: 0, iothread_mapping: true}",
            "disk.iothread_mapping",
            "no IOThread",
            "iothreads: 1",
        ),
        (
            "disk: {iothreads: 4, queues: 2, iothread_mapping: true}",
            "disk.queues",
            "2 queues cannot",
            "queues: 4",
        ),
        ("disk: {iothreads: 4}", "disk.iothreads", "uses one", "iothread_mapping: true"),
        ("disk: {iothreads: 0, poll: {max_ns: 0}}", "disk.poll", "there is none", "iothreads: 1"),
        ("matrix: {aio: [native, threads]}", "disk.backend", "aio has no effect on null-co", "file"),
        ("matrix: {ioengine: psync, iodepth: 8}", "matrix.ioengine", "one request in flight", "libaio"),
        ("disk: {size: 4k}\nmatrix: {bs: [4k, 8k]}", "matrix.bs[1]", "larger than the disk", "disk.size"),
        ("placement: {vcpupin: {2: 1}}", "placement.vcpupin.2", "there is no vCPU 2", "0 to 1"),
        ("placement: {iothreadpin: {0: 1}}", "placement.iothreadpin.0", "there is no IOThread 0", "1 to 1"),
        (
            "placement: {hugepages: 1g}\nguest: {memory: 1536MiB}",
            "placement.hugepages",
            "no whole number",
            "round",
        ),
        ("guest: {kernel: /k}", "guest.kernel", "without an initrd", "guest.initrd"),
        ("guest: {initrd: /k}", "guest.initrd", "without a kernel", "guest.kernel"),
        ("accel: tcg\nguest: {cpu: host-passthrough}", "guest.cpu", "needs KVM", "maximum"),
        ("protocol: {until: 1%, max_blocks: 5}", "protocol.max_blocks", "less than the 20", "raise"),
        # data
        (
            "disk: {backend: block, path: /dev/sdx}\nmatrix: {rw: [read, randrw]}",
            "matrix.rw[1]",
            "would overwrite what /dev/sdx holds",
            "disk.destroy_data: /dev/disk/by-id/...",
        ),
        (
            "disk: {backend: file, path: /my.img}\nmatrix: {rw: write}",
            "matrix.rw[0]",
            "would overwrite",
            "destroy_data",
        ),
        (
            "disk: {backend: block, path: /dev/sdx, destroy_data: /dev/sdx}\nmatrix: {rw: write}",
            "disk.destroy_data",
            "'/dev/sdx' may be another device after the next boot",
            "/dev/disk/by-id/...",
        ),
        (
            "disk: {backend: block, path: /dev/sdx, destroy_data: /dev/disk/by-id/a}\nmatrix: {rw: write}",
            "disk.destroy_data",
            "is not the disk's path",
            "path and destroy_data: /dev/disk/by-id/a",
        ),
        (
            "disk: {backend: block, path: /dev/disk/by-id/b, destroy_data: /dev/disk/by-id/a}",
            "disk.destroy_data",
            "is not the disk's path",
            "path and destroy_data: /dev/disk/by-id/a",
        ),
        (
            "disk: {backend: block, path: /dev/sda, destroy_data: /dev/disk/by-id/../../sda}",
            "disk.destroy_data",
            "may be another device",
            "by its id",
        ),
        (
            "disk: {backend: nvme, path: '0000:01:00.0', destroy_data: '0000:01:00.0'}\nmatrix: {rw: write}",
            "disk.destroy_data",
            "'0000:01:00.0' may be another device after the next boot",
            "/dev/disk/by-id/...",
        ),
        (
            "disk: {backend: file, path: /a.img, destroy_data: /b.img}\nmatrix: {rw: write}",
            "disk.destroy_data",
            "'/b.img' is not the disk's path '/a.img'",
            "destroy_data: /a.img",
        ),
    ],
)
def test_one_problem(text: str, where: str, message: str, remedy: str) -> None:
    (problem,) = problems(HEAD + text)
    assert problem.where == f"t.yml: {where}"
    assert message in problem.message
    assert remedy in (problem.remedy or "")


@pytest.mark.parametrize(
    ("builds", "where", "message", "remedy"),
    [
        ("builds: {OLD: {path: /a}}\nbaseline: OLD", "builds", "one build", "two builds"),
        ("builds: {}\nbaseline: OLD", "builds", "no build", "two builds"),
        ("builds: {A: {path: /a}, B: {path: /b}}\nbaseline: C", "baseline", "none of the builds", "A, B"),
        (
            "builds: {OLD: {path: /a}, NEW: {path: /b}}\nbaseline: old",
            "baseline",
            "'old'",
            "did you mean OLD?",
        ),
        ("builds: {A: {path: /a}, B: {path: /b}}", "baseline", "is missing", "add baseline"),
        ("baseline: A", "builds", "is missing", "add builds"),
        ("builds: {A: {path: /a}, B: {path: b}}\nbaseline: A", "builds.B.path", "absolute", "from /"),
        (
            "builds: {A: {path: /a}, B: {pth: /b}}\nbaseline: A",
            "builds.B",
            "where this QEMU",
            "did you mean path?",
        ),
        (
            "builds: {A: {path: /a}, B: {path: /b, package: c}}\nbaseline: A",
            "builds.B",
            "one way",
            "keep one",
        ),
        ("builds: {A: {path: /a}, B: /b}\nbaseline: A", "builds.B", "'/b' where a build", "path"),
        (
            "builds: {A: {path: /a}, B: {package: q, suit: x}}\nbaseline: A",
            "builds.B.suit",
            "unknown key",
            "did you mean suite?",
        ),
        (
            "builds: {A: {path: /a}, B: {package: q, version: 7.2}}\nbaseline: A",
            "builds.B.version",
            "7.2 is not text",
            "quotes",
        ),
        ("builds: {A: {path: /a}, B: {package: -y}}\nbaseline: A", "builds.B.package", "'-y'", "qemu-system"),
        (
            "builds: {A: {path: /a}, a/b: {path: /b}}\nbaseline: A",
            "builds['a/b']",
            "not a usable name",
            "letters",
        ),
        (
            "builds: {A: {path: /a}, a: {path: /b}}\nbaseline: A",
            "builds.a",
            "upper and lower case",
            "distinct",
        ),
        ("builds: {A: {path: /a}, 7.2: {path: /b}}\nbaseline: 7.2", "baseline", "7.2 is not text", "quotes"),
    ],
)
def test_builds(builds: str, where: str, message: str, remedy: str) -> None:
    (problem,) = problems(f"name: t\n{builds}")
    assert problem.where == f"t.yml: {where}"
    assert message in problem.message
    assert remedy in (problem.remedy or "")


def test_all_at_once_contradictions_beside_bad_values() -> None:
    text = (
        "name: a b\n"
        "builds: {OLD: {path: old}, NEW: {path: /n}}\n"
        "baseline: OLDD\n"
        "guest: {vcpus: 0, kernel: /k}\n"
        "disk: {backend: file, aio: natve, cache: writeback, latency: 1s}\n"
        "matrix: {bs: [4q, 4k, 4096], iodepth: [0]}\n"
        "protocol: {blocks: x}\n"
        "whatever: 1\n"
    )
    assert sorted(p.where.removeprefix("t.yml: ") for p in problems(text)) == sorted(
        [
            "name",
            "builds.OLD.path",
            "baseline",
            "guest.vcpus",
            "guest.kernel",
            "disk.aio",
            "disk.latency",
            "matrix.bs[0]",
            "matrix.bs",
            "matrix.iodepth[0]",
            "protocol.blocks",
            "whatever",
        ]
    )


def test_nothing_is_said_of_what_depends_on_a_bad_value() -> None:
    # Whether the pin exists cannot be known, nor whether there is a baseline among broken builds.
    wheres = {
        p.where
        for p in problems("name: t\nbuilds: 5\nbaseline: X\nguest: {vcpus: x}\nplacement: {vcpupin: {9: 1}}")
    }
    assert wheres == {"t.yml: builds", "t.yml: guest.vcpus"}


def test_an_impossible_combination_is_named_once() -> None:
    text = HEAD + (
        "disk: {backend: file}\nmatrix: {aio: [native, threads], cache: [none, writeback], vcpus: [1, 2, 4]}"
    )
    (problem,) = problems(text)
    assert problem.where == "t.yml: matrix.cache"
    assert "cache=writeback, aio=native is impossible: aio native needs direct I/O" in problem.message


def test_a_matrix_nobody_could_measure_is_refused_at_once() -> None:
    values = list(range(1, 200))
    text = HEAD + f"matrix: {{iodepth: {values}, numjobs: {values}, queues: {values}}}"
    (problem,) = problems(text)
    assert "7880599 cells" in problem.message


def test_a_bomb_of_aliases_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    (problem,) = problems("\n".join(lines))
    assert "too many values" in problem.message


def test_an_alias_of_itself_is_refused() -> None:
    (problem,) = problems("a: &a [*a]")
    assert "nested too deeply" in problem.message


# -- counts of instructions ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "where", "said"),
    [
        ("matrix: {numjobs: 2}", "matrix.numjobs", "there is no guest"),
        ("matrix: {vcpus: [1, 2]}", "matrix.vcpus", "there is no guest"),
        ("matrix: {rw: randrw}", "matrix.rw[0]", "mixes reads and writes"),
        ("disk: {backend: nvme, path: '0000:01:00.0'}", "disk.backend", "nvme cannot be counted"),
        ("disk: {backend: file}\ninstructions: {disks: 2}", "instructions.disks", "share one file"),
        ("matrix: {iodepth: [1, 64]}", "matrix.iodepth[1]", "192 descriptors, a queue has 128"),
        ("instructions: {load: qemu-img}\nmatrix: {rw: randread}", "matrix.rw[0]", "not randread"),
        ("instructions: {load: qemu-img}\nmatrix: {rw: read, queues: 2}", "matrix.queues", "no device"),
        ("instructions: {load: fio}", "instructions.load", "not one of the choices"),
    ],
)
def test_what_cannot_be_counted_is_refused(text: str, where: str, said: str) -> None:
    head = "name: t\nworkload: instructions\nbuilds: {OLD: {path: /o}, NEW: {path: /n}}\nbaseline: OLD\n"
    with pytest.raises(InputError) as caught:
        load_experiment(head + text, "t.yml")
    assert len(caught.value.problems) == 1
    problem = caught.value.problems[0]
    assert problem.where == f"t.yml: {where}"
    assert said in problem.message
    assert problem.remedy


@pytest.mark.parametrize(
    ("builds", "text", "where", "said"),
    [
        ("{path: /n}", "matrix: {test: cost}", "builds.NEW", "only builds from source"),
        ("{package: qemu}", "matrix: {test: cost}", "builds.NEW", "only builds from source"),
        ("{git: /q, ref: v10}", "", "matrix.test", "which benchmarks"),
        ("{git: /q, ref: v10}", "matrix: {test: cost, bs: 8k}", "matrix.bs", "reads and writes nothing"),
        (
            "{git: /q, ref: v10}",
            "matrix: {test: cost, queues: 2}",
            "matrix.queues",
            "reads and writes nothing",
        ),
        ("{git: /q, ref: v10}", "matrix: {test: sleep}", "matrix.test", "not one of the choices"),
    ],
)
def test_benchmarks_of_coroutines_are_those_of_builds_from_source(
    builds: str, text: str, where: str, said: str
) -> None:
    head = (
        "name: t\nworkload: instructions\ninstructions: {load: test-coroutine}\nbaseline: OLD\n"
        f"builds: {{OLD: {{git: /q, ref: v9}}, NEW: {builds}}}\n"
    )
    with pytest.raises(InputError) as caught:
        load_experiment(head + text, "t.yml")
    (problem,) = caught.value.problems
    assert problem.where.startswith(f"t.yml: {where}")
    assert said in problem.message
    assert problem.remedy


def test_benchmarks_of_coroutines_mean_nothing_to_other_loads() -> None:
    text = "name: t\nbuilds: {OLD: {path: /o}, NEW: {path: /n}}\nbaseline: OLD\nmatrix: {test: cost}\n"
    with pytest.raises(InputError, match="names benchmarks of test-coroutine"):
        load_experiment(text, "t.yml")


def test_settings_of_counts_without_counting_are_refused() -> None:
    text = "name: t\nbuilds: {OLD: {path: /o}, NEW: {path: /n}}\nbaseline: OLD\ninstructions: {repeats: 5}\n"
    with pytest.raises(InputError, match="nothing is counted: the workload is fio-matrix"):
        load_experiment(text, "t.yml")
