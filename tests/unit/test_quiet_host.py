"""What the doctor says of a noisy host, and of an experiment on it: value, wanted value, why, command."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from harness.adapters.disks import image_path
from harness.adapters.host import tuning
from harness.adapters.host.settings import HostSettings
from harness.adapters.host.surroundings import disk_state, surroundings
from harness.adapters.workspace import Workspace
from harness.core.experiment import Experiment, load_experiment
from harness.core.quiet.findings import Finding, Health, Section
from harness.core.quiet.surroundings import Surroundings, fit_findings, surrounding_findings
from harness.shell import quiet_host
from harness.shell.cli.main import run_cli
from harness.shell.quiet_host import examine_fit, examine_noise
from made_up_host import CPU, PATHS, made_up_host, put

if TYPE_CHECKING:
    from pathlib import Path

EXPERIMENT = """\
name: fit
builds: {OLD: {path: /old}, NEW: {path: /new}}
baseline: OLD
"""


@pytest.fixture(autouse=True)
def nobody_asks_for_wakeups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet_host, "wakeup_limit_us", lambda: 2_000_000_000)


def noise(host: HostSettings) -> dict[str, Finding]:
    return {finding.what: finding for finding in examine_noise(host)}


@pytest.mark.parametrize(
    ("what", "found", "should", "tuning"),
    [
        ("governor", "powersave", "performance", "governor"),
        ("intel_no_turbo", "0", "1", "turbo"),
        ("deep_idle_disabled", "0", "1", "cstates"),
        ("kernel.numa_balancing", "1", "0", "numa_balancing"),
        ("ksm", "1", "0 or 2", "ksm"),
        ("transparent_hugepage", "madvise", "never or always", "thp"),
    ],
)
def test_a_noisy_setting_is_told_with_its_value_and_its_cure(
    tmp_path: Path, what: str, found: str, should: str, tuning: str
) -> None:
    finding = noise(made_up_host(tmp_path))[what]
    assert (finding.health, finding.found, finding.should) == (Health.NOTE, found, should)
    assert finding.tuning == tuning
    assert finding.why
    assert finding.remedy
    assert should.split(maxsplit=1)[0] in finding.remedy or "cpupower" in finding.remedy


def test_a_quiet_host_has_nothing_to_note(tmp_path: Path) -> None:
    quiet = {"governor": "performance", "idle": "1", "no_turbo": "1", "numa": "0", "ksm": "0", "thp": "never"}
    findings = noise(made_up_host(tmp_path, **quiet))
    settings = set(findings) - {"load", "swap", "other guests", "mitigations"}
    assert {findings[name].health for name in settings} == {Health.OK, Health.RECORDED, Health.UNREAD}
    assert findings["kvm_halt_poll_ns"].health is Health.RECORDED


def test_what_this_host_does_not_have_is_not_guessed(tmp_path: Path) -> None:
    findings = noise(HostSettings(tmp_path))
    governor = findings["governor"]
    assert governor.health is Health.UNREAD
    assert governor.found.startswith("not readable here: /sys/devices/system/cpu/cpu[0-9]*/cpufreq/")
    assert governor.remedy is None
    assert {"intel_no_turbo", "boost"} < set(findings)


def test_of_the_two_names_of_turbo_only_the_one_that_is_there_is_told(tmp_path: Path) -> None:
    findings = noise(made_up_host(tmp_path))
    assert "boost" not in findings


def test_cpus_that_differ_are_told_apart(tmp_path: Path) -> None:
    host = made_up_host(tmp_path, governor="performance")
    put(tmp_path, f"{CPU}/cpu2/cpufreq/scaling_governor", "powersave")
    assert noise(host)["governor"].found == "performance (cpu0-1, cpu3), powersave (cpu2)"


def test_idle_states_that_nobody_may_enter_are_quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet_host, "wakeup_limit_us", lambda: 10)
    idle = noise(made_up_host(tmp_path))["deep_idle_disabled"]
    assert (idle.health, idle.remedy) == (Health.OK, None)
    assert "within 10 us" in idle.found


def test_shallow_idle_states_alone_are_quiet(tmp_path: Path) -> None:
    put(tmp_path, f"{CPU}/cpu0/cpuidle/state1/latency", "1")
    put(tmp_path, f"{CPU}/cpu0/cpuidle/state1/disable", "0")
    idle = noise(HostSettings(tmp_path))["deep_idle_disabled"]
    assert (idle.health, idle.found) == (Health.OK, "no idle state takes more than 10 us to leave")


def test_irqbalance_is_seen_by_the_socket_of_a_process_that_lives(tmp_path: Path) -> None:
    host = made_up_host(tmp_path)
    put(tmp_path, "run/irqbalance/irqbalance123.sock", "")
    assert noise(host)["irqbalance"].health is Health.OK, "its process is gone"
    put(tmp_path, "proc/123/comm", "irqbalance")
    finding = noise(host)["irqbalance"]
    assert (finding.health, finding.found, finding.should) == (Health.NOTE, "active", "inactive")
    put(tmp_path, "proc/123/environ", "PATH=/bin\0IRQBALANCE_BANNED_CPULIST=2-7\0")
    told = noise(host)["irqbalance"]
    assert (told.health, told.found.partition(":")[0]) == (Health.RECORDED, "active, and kept off CPUs 2-7")
    (tmp_path / "proc/123/comm").unlink()
    put(tmp_path, "sys/fs/cgroup/system.slice/irqbalance.service/cgroup.procs", "99")
    assert noise(host)["irqbalance"].found == "active"


def test_what_else_goes_on_is_told() -> None:
    around = Surroundings(
        load=3.5,
        cpus=4,
        swap_bytes=64 * 2**20,
        guests=("web (process 12)",),
        mitigations={"a": "Mitigation: x", "b": "Not affected", "c": "Vulnerable"},
    )
    load, swap, guests, mitigations = surrounding_findings(around)
    assert [finding.health for finding in (load, swap, guests)] == [Health.NOTE] * 3
    assert (load.found, load.should) == ("3.50 on 4 CPUs over the last minute", "below 0.4")
    assert (swap.found, guests.found) == ("64 MiB in use", "web (process 12)")
    assert (mitigations.health, mitigations.found) == (Health.RECORDED, "1 of 3 active; vulnerable: c")


def test_what_cannot_be_read_of_the_surroundings_is_said() -> None:
    findings = surrounding_findings(Surroundings(None, 4, None, (), {}))
    assert [finding.health for finding in findings] == [
        Health.UNREAD,
        Health.UNREAD,
        Health.OK,
        Health.UNREAD,
    ]


def test_another_guest_is_seen_by_its_name(tmp_path: Path) -> None:
    binary = tmp_path / "qemu-system-test"
    shutil.copy("/bin/sh", binary)
    # To the shell these are arguments of its script.
    script = ["-c", "echo; read -r _", "-name", "guest=neighbour,debug-threads=on"]
    pipe = subprocess.PIPE
    with subprocess.Popen([str(binary), *script], stdin=pipe, stdout=pipe) as process:
        try:
            # Before it says something it may still have its parent's name.
            assert process.stdout
            process.stdout.readline()
            told = [guest for guest in surroundings().guests if str(process.pid) in guest]
            own = [guest for guest in surroundings(own=("neighbour",)).guests if str(process.pid) in guest]
        finally:
            process.kill()
    assert (told, own) == ([f"neighbour (process {process.pid})"], [])


# The disk


def of_disk(tmp_path: Path, text: str) -> dict[str, Finding]:
    experiment = load(text)
    return {f.what: f for f in fit_findings(experiment, disk_state(experiment, tmp_path))}


def load(text: str) -> Experiment:
    return load_experiment(EXPERIMENT + text, "fit.yml")


def test_a_file_with_holes_is_told(tmp_path: Path) -> None:
    image = tmp_path / "disk.raw"
    with image.open("wb") as file:
        file.write(os.urandom(2**20))
        file.truncate(4 * 2**20)
    text = f"disk: {{backend: file, path: {image}}}\n"
    disk = of_disk(tmp_path, text)["disk"]
    assert (disk.health, disk.should) == (Health.NOTE, "100%")
    assert "25% of 0.0 GiB is stored" in disk.found
    image.write_bytes(os.urandom(4 * 2**20))
    assert of_disk(tmp_path, text)["disk"].health is Health.OK


@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img makes the image")
def test_a_qcow2_image_is_looked_into(tmp_path: Path) -> None:
    image = tmp_path / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(image), "4M"], check=True)
    text = f"disk: {{backend: file, format: qcow2, path: {image}}}\n"
    disk = of_disk(tmp_path, text)["disk"]
    assert disk.health is Health.NOTE
    assert "0% of" in disk.found
    image.write_text("no image")
    assert of_disk(tmp_path, text)["disk"].health is Health.UNREAD


def test_a_device_is_not_readable_and_is_to_be_preconditioned(tmp_path: Path) -> None:
    nvme = of_disk(tmp_path, "disk: {backend: nvme, path: '0000:01:00.0'}\n")["disk"]
    assert nvme.health is Health.UNREAD
    assert nvme.found.startswith("not readable here: what 0000:01:00.0 holds")
    assert "all data there is lost" in str(nvme.remedy)


def test_an_image_that_a_run_will_make_is_full(tmp_path: Path) -> None:
    text = "disk: {backend: file, size: 1MiB}\n"
    disk = of_disk(tmp_path, text)["disk"]
    assert (disk.health, "makes it, full of data" in disk.found) == (Health.OK, True)
    assert str(image_path(load(text).disk, tmp_path)) in disk.found


def test_queues_are_held_against_vcpus(tmp_path: Path) -> None:
    queues = of_disk(tmp_path, "guest: {vcpus: 4}\ndisk: {queues: 2}\n")["queues"]
    assert (queues.health, queues.found, queues.remedy) == (Health.NOTE, "2 for 4 vCPUs", "disk.queues: 4")


def test_where_backends_are_varied_the_one_that_stores_is_looked_at(tmp_path: Path) -> None:
    text = "disk: {size: 1MiB}\nmatrix: {backend: [null-co, file]}\n"
    findings = {f.what: f for f in examine_fit(load(text), Workspace.at(tmp_path))}
    assert "makes it, full of data" in findings["disk"].found


def test_what_measures_no_time_asks_for_no_placement(tmp_path: Path) -> None:
    (only,) = examine_fit(load("workload: pool-growth\n"), Workspace.at(tmp_path))
    assert (only.health, only.found) == (Health.RECORDED, "no matter to pool-growth, which measures no time")


# The command


def test_the_command_has_a_section_each_and_the_same_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "fit.yml"
    path.write_text(EXPERIMENT)
    state = ["--state-dir", str(tmp_path)]
    run_cli(["doctor", str(path), *state])
    out = capsys.readouterr().out
    for section in ("Can this host measure?", "Is it quiet?", "Does the experiment fit it?"):
        assert f"{section}\n" in out
    run_cli(["doctor", str(path), "--json", *state])
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    assert [*dict.fromkeys(entry["section"] for entry in found)] == [section.value for section in Section]
    assert {"what", "health", "found", "should", "why", "remedy", "tuning"} < set(found[0])


def test_tuning_that_is_refused_touches_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    made_up_host(root)
    monkeypatch.setattr(HostSettings, "writable", lambda _self, path: "ksm" not in path)
    arguments = ["--set", "ksm", "--set", "governor", "--root", str(root), "--state-dir", str(tmp_path / "s")]
    assert run_cli(["tune", *arguments]) == 2
    assert "ksm: /sys/kernel/mm/ksm/run cannot be changed by this user" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()
    assert (root / PATHS["ksm"]).read_text().strip() == "1"


def test_a_run_that_may_not_tune_ends_before_anything_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    host = made_up_host(tmp_path / "root")
    monkeypatch.setattr(tuning, "plan", functools.partial(tuning.plan, host=host))
    monkeypatch.setattr(HostSettings, "writable", lambda _self, _path: False)
    path = tmp_path / "t.yml"
    path.write_text(f"{EXPERIMENT}tuning: [ksm, thp]\n")
    state, run = tmp_path / "state", tmp_path / "run"
    assert run_cli(["run", str(path), "--state-dir", str(state), "--run-dir", str(run)]) == 2
    said = capsys.readouterr().err
    assert f"{path}: tuning: ksm: /sys/kernel/mm/ksm/run cannot be changed by this user" in said
    assert "transparent_hugepage" in said
    assert "run as root, or leave it out of tuning" in said
    assert not state.exists()
    assert not run.exists()


def test_tune_says_what_it_would_do_does_it_and_takes_it_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    made_up_host(root)
    place = ["--root", str(root), "--state-dir", str(tmp_path / "state")]

    def tune(*arguments: str) -> str:
        assert run_cli(["tune", *arguments, *place]) == 0
        return capsys.readouterr().out

    told = f"set governor from powersave to performance (/{CPU}/cpu0/cpufreq/scaling_governor and 3 more)\n"
    assert tune("--set", "governor", "--dry-run") == f"would {told}"
    assert tune("--set", "governor") == told
    assert tune("--set", "governor") == "nothing to change\n"
    assert tune("--restore").startswith("set governor from performance to powersave")
    assert tune("--restore") == "nothing to change\n"
    assert run_cli(["tune", *place]) == 2
    assert "name an experiment" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("tuning", "words"),
    [
        ("[none, ksm]", "none beside settings"),
        ("[all, ksm]", "all includes ksm"),
        ("govenor", "did you mean governor?"),
        ("ksm\nworkload: instructions", "do not depend on the host's settings"),
    ],
)
def test_tuning_that_contradicts_itself_is_refused(
    tmp_path: Path, tuning: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.yml"
    path.write_text(f"{EXPERIMENT}tuning: {tuning}\n")
    assert run_cli(["check", str(path)]) == 2
    assert words in capsys.readouterr().err
