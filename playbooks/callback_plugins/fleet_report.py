# ruff: noqa: INP001 - Ansible takes each file here for a plugin: there can be no __init__.py
"""Ansible callback: at the end of benchmark.yml say how each host stands, and keep it in fleet.json.

A play cannot do this: hosts that failed or disappeared are no longer in it, and when all have, it is not run.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible import context
from ansible.plugins.callback import CallbackBase

if TYPE_CHECKING:
    from collections.abc import Mapping

DOCUMENTATION = r"""
name: fleet_report
type: aggregate
short_description: How each host of a fleet stands
description: Heard only by playbooks that name a fleet with set_stats; others say and write nothing.
"""

FORMAT_VERSION = 1
SHOWN_LINES = 6
_STREAMS = ("stderr", "module_stderr", "stdout", "module_stdout")


def plain(text: object) -> str:
    """Return what a host said without anything a terminal would act on."""
    lines = str(text).splitlines()
    return "\n".join("".join(c if c.isprintable() or c == "\t" else "?" for c in line) for line in lines)


def reason_of(result: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Return why a task failed in one line, and the last lines of what was said."""
    message, *more = plain(result.get("msg") or "failed without a message").strip().splitlines() or [""]
    for stream in _STREAMS:
        if said := plain(result.get(stream) or "").strip():
            more += said.splitlines()
            break
    return message, more[-SHOWN_LINES:]


def host_entry(
    known: Mapping[str, Any], trouble: Mapping[str, Any] | None, *, unreachable: bool
) -> dict[str, Any]:
    """Return how a host stands.

    Args:
        known: what the plays said of it (``run_state``, ``run_dir``).
        trouble: the task that failed last, and why; None if none did.
        unreachable: whether it could not be reached in the end.
    """
    entry = {"run_state": known.get("run_state", "unknown"), "run_dir": known.get("run_dir")}
    if unreachable:
        return {"state": "unreachable", **entry, **(trouble or {})}
    if trouble is not None:
        return {"state": "failed", **entry, **trouble}
    if entry["run_state"] == "finished" and entry["run_dir"]:
        return {"state": "done", **entry}
    return {"state": "not run", **entry}


def report(fleet: Mapping[str, Any], hosts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the lines for the terminal."""
    done = sum(entry["state"] == "done" for entry in hosts.values())
    lines = [f"fleet {fleet['id']}: {done} of {len(hosts)} hosts done"]
    width = max((len(name) for name in hosts), default=0)
    for name, entry in hosts.items():
        where = f"  {entry['run_dir']}" if entry["run_dir"] else ""
        why = f"  {entry['task']}: {entry['reason']}" if entry.get("reason") else ""
        lines.append(f"  {name:<{width}}  {entry['state']:<11}{why or where}")
        lines += [f"  {'':<{width}}    {line}" for line in entry.get("said", ())]
    if done < len(hosts):
        lines.append("The same command goes on where each host stopped; done hosts are left alone.")
    if done > 1:
        lines.append(f"The answer: harness compare --fleet {fleet['directory']}")
    return lines


class CallbackModule(CallbackBase):  # type: ignore[misc] # Ansible ships no types
    """Hears what fails and where, and says at the end how the fleet stands."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "fleet_report"

    def __init__(self) -> None:
        super().__init__()
        self.trouble: dict[str, dict[str, Any]] = {}

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:  # noqa: FBT001, FBT002 - Ansible's
        """Remember why a task failed."""
        if not ignore_errors:
            self._remember(result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Remember why a host could not be reached."""
        self._remember(result)

    def _remember(self, result: Any) -> None:
        reason, said = reason_of(result.result)
        task = str(result.task.get_name()).strip()
        self.trouble[result.host.get_name()] = {"task": task, "reason": reason, "said": said}

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Say how each host stands, and keep it."""
        fleet = stats.custom.get("_run", {}).get("fleet")
        if not fleet:
            return
        directory = Path(fleet["directory"])
        hosts: dict[str, dict[str, Any]] = _known_hosts(directory)
        for name in fleet["hosts"]:
            summary = stats.summarize(name)
            bad = summary["failures"] or summary["unreachable"]
            known = stats.custom.get(name, {}).get("fleet_host", {})
            entry = host_entry(
                {**hosts.get(name, {}), **known},
                self.trouble.get(name) if bad else None,
                unreachable=bool(summary["unreachable"]),
            )
            hosts[name] = entry
        hosts = dict(sorted(hosts.items()))
        for line in ["", *report(fleet, hosts)]:
            self._display.display(line)
        document = {
            "format_version": FORMAT_VERSION,
            "fleet": fleet["id"],
            "experiment": fleet["experiment"],
            "hosts": hosts,
        }
        # Check mode changes nothing here either.
        if directory.is_dir() and not context.CLIARGS.get("check"):
            temporary = directory / f".fleet.json.{os.getpid()}"
            temporary.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
            temporary.replace(directory / "fleet.json")


def _known_hosts(directory: Path) -> dict[str, dict[str, Any]]:
    """Return what is known of the fleet's hosts from before: with --limit, not all are asked again."""
    with contextlib.suppress(OSError, ValueError, KeyError, AttributeError):
        return dict(json.loads((directory / "fleet.json").read_text(encoding="utf-8"))["hosts"])
    return {}
