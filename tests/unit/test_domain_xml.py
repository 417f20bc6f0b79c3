"""Domain XML: what each setting becomes, held by golden files."""

from __future__ import annotations

from typing import Any, get_args

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

import domain_goldens
from harness.core.domain_xml import METADATA_NAMESPACE, domain_spec, render_domain
from harness.core.errors import InputError
from harness.core.experiment import Disk, Experiment, Guest, Placement, Section, load_experiment
from harness.core.model import Accel, Backend, Machine

GOLDENS = domain_goldens.golden_specs()
EXPERIMENTS = domain_goldens.experiments()

# Settings of these sections that are no part of the domain, each with the reason.
NOT_IN_XML = {
    "guest.prepare": "what is done to the image before any guest of it is measured",
    "guest.ssh.user": "how the harness talks to the guest once it runs",
    "guest.ssh.key": "likewise",
    "guest.ssh.host_key": "likewise",
    "disk.destroy_data": "permission, checked before anything runs",
}


@pytest.mark.parametrize("name", GOLDENS)
def test_golden(name: str, *, regenerate: bool) -> None:
    golden = domain_goldens.DIRECTORY / f"{name}.xml"
    xml = render_domain(GOLDENS[name])
    if regenerate:
        golden.write_text(xml)
    assert xml == golden.read_text(), f"{golden} differs: look at it, then pytest --regenerate"


def test_no_golden_is_left_over() -> None:
    assert {path.stem for path in domain_goldens.DIRECTORY.glob("*.xml")} == set(GOLDENS)


def _inner(annotation: object) -> type[Section] | None:
    candidates = (annotation, *get_args(annotation))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, Section)), None)


def _settings(section: type[Section], prefix: str) -> list[str]:
    found: list[str] = []
    for name, field in section.model_fields.items():
        inner = _inner(field.annotation)
        found += _settings(inner, f"{prefix}.{name}") if inner else [f"{prefix}.{name}"]
    return found


SETTINGS = [
    setting
    for name, section in (("guest", Guest), ("disk", Disk), ("placement", Placement))
    for setting in _settings(section, name)
]


def _get(experiment: Experiment, setting: str) -> Any:
    here: Any = experiment
    for part in setting.split("."):
        here = getattr(here, part, None)
    return here


def _with_default(section: Section, path: list[str]) -> Section:
    name, *rest = path
    if rest:
        value: Any = _with_default(getattr(section, name), rest)
    else:
        field = type(section).model_fields[name]
        value = "63" if field.is_required() else field.default
    return section.model_copy(update={name: value})


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_setting_is_varied_by_a_golden_and_reaches_the_xml(setting: str) -> None:
    if setting in NOT_IN_XML:
        return
    changed = []
    for name, experiment in EXPERIMENTS.items():
        if _get(experiment, setting.rpartition(".")[0]) is None:
            continue
        if setting == "disk.path" and experiment.disk.backend is Backend.NVME:
            continue  # The harness never makes one, so there is no guest without it.
        default = _with_default(experiment, setting.split("."))
        assert isinstance(default, Experiment)
        if _get(default, setting) != _get(experiment, setting):
            changed.append(name)
            assert render_domain(domain_goldens.spec_of(default)) != render_domain(GOLDENS[name]), (
                f"{setting} has no effect in {name}"
            )
    assert changed, f"no golden varies {setting}: add one to {domain_goldens.DIRECTORY}"


def test_the_settings_left_out_exist() -> None:
    assert set(NOT_IN_XML) <= set(SETTINGS)


def _tree(name: str = "null-co") -> Any:
    return etree.fromstring(render_domain(GOLDENS[name]).encode())


def test_the_domain_carries_the_mark_of_its_run() -> None:
    mark = _tree().find(f"metadata/{{{METADATA_NAMESPACE}}}run")
    assert mark is not None
    assert mark.get("id") == "20260101"


def test_a_guest_that_ends_is_not_started_again() -> None:
    tree = _tree()
    assert [tree.findtext(tag) for tag in ("on_poweroff", "on_reboot", "on_crash")] == ["destroy"] * 3


def test_the_accelerator_decides_the_type_and_the_cpu() -> None:
    assert (_tree().get("type"), _tree().find("cpu").get("mode")) == ("qemu", "maximum")
    assert (_tree("placement").get("type"), _tree("placement").find("cpu").get("mode")) == (
        "kvm",
        "host-passthrough",
    )


@pytest.mark.parametrize("guest", ["", "guest: {cpu: maximum}"])
def test_an_emulated_cpu_has_no_string_moves_that_are_slow_to_emulate(guest: str) -> None:
    spec = _spec(_experiment(guest), Accel.TCG)
    features = etree.fromstring(render_domain(spec).encode()).findall("cpu/feature")
    assert [tuple(feature.attrib.values()) for feature in features] == [
        ("disable", "erms"),
        ("disable", "fsrm"),
    ]


@pytest.mark.parametrize(
    ("cpu", "accel"), [("maximum", Accel.KVM), ("auto", Accel.KVM), ("Nehalem", Accel.TCG)]
)
def test_no_other_cpu_loses_a_feature(cpu: str, accel: Accel) -> None:
    spec = _spec(_experiment(f"guest: {{cpu: {cpu}}}"), accel)
    assert not etree.fromstring(render_domain(spec).encode()).findall("cpu/feature")


def test_an_undecided_accelerator_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="not decided"):
        _spec(EXPERIMENTS["null-co"], Accel.AUTO)


def test_host_passthrough_is_refused_where_auto_fell_back_to_tcg() -> None:
    experiment = _experiment("guest: {cpu: host-passthrough}")
    assert _spec(experiment, Accel.KVM).cpu == "host-passthrough"
    with pytest.raises(InputError, match="host-passthrough needs KVM"):
        _spec(experiment, Accel.TCG)


@pytest.mark.parametrize("count", [14, 15, 40, 112])
@pytest.mark.parametrize("machine", Machine)
def test_null_disks_never_share_a_pci_address(count: int, machine: Machine) -> None:
    experiment = _experiment(f"guest: {{machine: {machine}}}")
    devices = [
        arg for arg in domain_goldens.many_disks(experiment, count).qemu_args if arg.startswith("virtio")
    ]
    addresses = [next(o for o in device.split(",") if o.startswith("addr=")) for device in devices]
    assert len(addresses) == len(set(addresses)) == count
    bus = {"q35": "pcie.0", "pc": "pci.0"}[machine]
    assert all(f",bus={bus}," in device for device in devices)
    # Where slots are shared, function 0 has to say so.
    assert all(("multifunction=on" in device) == (count > 14) for device in devices)


def test_too_many_null_disks_are_refused() -> None:
    with pytest.raises(InputError, match="113 disks"):
        domain_goldens.many_disks(EXPERIMENTS["null-co"], 113)


def test_pins_of_threads_the_guest_lacks_are_left_out() -> None:
    experiment = _experiment(
        "placement: {vcpupin: {0: 0, 3: 3}, iothreadpin: {1: 1}}\nmatrix: {iothreads: [0, 1], vcpus: [1, 4]}"
    )
    small = _spec(experiment.for_guest((("iothreads", 0), ("vcpus", 1)))).placement
    large = _spec(experiment.for_guest((("iothreads", 1), ("vcpus", 4)))).placement
    assert (small.vcpupin, small.iothreadpin) == (((0, "0"),), ())
    assert (large.vcpupin, large.iothreadpin) == (((0, "0"), (3, "3")), ((1, "1"),))


def test_a_file_disk_uses_the_users_path_before_the_one_the_harness_made() -> None:
    assert _spec(_experiment("disk: {backend: file, path: /my.img}")).disks[0].path == "/my.img"
    assert _spec(_experiment("disk: {backend: file}")).disks[0].path == "/made.img"


def test_a_template_of_ones_own_with_an_unknown_name_fails_loudly() -> None:
    with pytest.raises(jinja2.UndefinedError, match="no attribute 'memory_gib'"):
        render_domain(GOLDENS["null-co"], "{{ guest.memory_gib }}")


# What text holds after an XML parser read it back is what went in, so nothing can break out of its element.
@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Zl", "Zp"]), min_size=1).map(str.strip))
def test_any_text_is_escaped(text: str) -> None:
    experiment = EXPERIMENTS["null-co"]
    guest = experiment.guest.model_copy(update={"cmdline": text, "kernel": f"/{text}", "initrd": "/i"})
    spec = _spec(experiment.model_copy(update={"guest": guest}))
    tree = etree.fromstring(render_domain(spec).encode())
    assert tree.findtext("os/kernel") == f"/{text}"
    assert tree.findtext("os/cmdline") == spec.cmdline


def _experiment(text: str) -> Experiment:
    head = "name: t\nbuilds: {OLD: {path: /old}, NEW: {path: /new}}\nbaseline: OLD\n"
    return load_experiment(head + text, "t.yml")


def _spec(experiment: Experiment, accel: Accel = Accel.TCG) -> Any:
    return domain_spec(
        experiment,
        name="n",
        uuid="u",
        run_id="r",
        emulator="/q",
        accel=accel,
        kernel="/k",
        initrd="/i",
        console_log="/c",
        disk_path="/made.img",
    )
