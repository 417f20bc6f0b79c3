"""What the doctor says of a host's noise, and of an experiment on it; nothing here changes anything."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from harness.adapters.host.cpus import cpu_topology
from harness.adapters.host.settings import HostSettings
from harness.adapters.host.surroundings import disk_state, surroundings, wakeup_limit_us
from harness.adapters.lab import DOMAIN_PREFIX
from harness.core.model import Backend, Tuning, Workload
from harness.core.quiet.findings import Finding, Health, Section, judge
from harness.core.quiet.placement import placement_findings
from harness.core.quiet.settings import DEEP_IDLE_US, MAX_MAP_COUNT, SETTINGS
from harness.core.quiet.surroundings import fit_findings, surrounding_findings

if TYPE_CHECKING:
    from harness.adapters.workspace import Workspace
    from harness.core.experiment import Experiment

_TURBO = ("intel_no_turbo", "boost")
"""One setting under two names, of which a host has one at most."""


def examine_noise(host: HostSettings | None = None, *, running: bool = False) -> list[Finding]:
    """Look at everything that makes a measurement on this host noisy.

    Args:
        host: whose settings; this host's if absent.
        running: whether a run is going on: its own load and guest are then no noise.
    """
    host = host or HostSettings()
    found = {
        setting.name: judge(setting, host.values([setting])[setting.name])
        for setting in SETTINGS
        # Whether mappings can be exhausted is no matter of noise.
        if setting.name != MAX_MAP_COUNT
    }
    if any(found[name].health is not Health.UNREAD for name in _TURBO):
        found = {
            name: finding
            for name, finding in found.items()
            if name not in _TURBO or finding.health is not Health.UNREAD
        }
    idle = next(setting for setting in SETTINGS if setting.tuning is Tuning.CSTATES)
    if host.only_shallow(idle):
        awake = f"no idle state takes more than {DEEP_IDLE_US} us to leave"
        found[idle.name] = replace(found[idle.name], health=Health.OK, found=awake)
    found[idle.name] = _kept_awake(found[idle.name])
    found["irqbalance"] = _kept_off(found["irqbalance"], host)
    around = surrounding_findings(surroundings(own=(DOMAIN_PREFIX,) if running else ()))
    return [*found.values(), *(entry for entry in around if not (running and entry.what == "load"))]


def examine_fit(experiment: Experiment, workspace: Workspace) -> list[Finding]:
    """Look at how an experiment fits this host: its placement, its disk, its queues."""
    if experiment.workload is not Workload.FIO_MATRIX:
        found = f"no matter to {experiment.workload}, which measures no time"
        return [Finding("placement and disk", Health.RECORDED, found, section=Section.FITS)]
    backends = experiment.matrix.backend or (experiment.disk.backend,)
    # Where the backend is varied, the one that stores something is what there is to look at.
    backend = next((name for name in backends if name is not Backend.NULL_CO), Backend.NULL_CO)
    disk = experiment.disk.model_copy(update={"backend": backend})
    looked_at = experiment.model_copy(update={"disk": disk})
    state = disk_state(looked_at, workspace.disks)
    return [
        *placement_findings(looked_at, cpu_topology(), state.node),
        *fit_findings(looked_at, state),
    ]


def _kept_off(irqbalance: Finding, host: HostSettings) -> Finding:
    """Judge irqbalance by the CPUs that it was told to leave alone."""
    banned = host.service_variable("irqbalance", "IRQBALANCE_BANNED_CPULIST")
    if irqbalance.health is not Health.NOTE or not banned:
        return irqbalance
    found = f"active, and kept off CPUs {banned}: vCPUs and IOThreads belong there"
    return replace(irqbalance, health=Health.RECORDED, found=found, remedy=None, should="", tuning=None)


def _kept_awake(idle: Finding) -> Finding:
    """Judge deep idle states by what somebody may ask of the kernel, beside what is switched off."""
    limit = wakeup_limit_us()
    if idle.health is Health.NOTE and limit is not None and limit <= DEEP_IDLE_US:
        found = f"not used: a process asks for wake-ups within {limit} us (/dev/cpu_dma_latency)"
        return replace(idle, health=Health.OK, found=found, remedy=None, should="")
    return idle
