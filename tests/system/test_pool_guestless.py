"""The abort in seconds: no guest, no libvirt, the driver of the counts asks for the rounds."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, harness

pytestmark = pytest.mark.system

IN_FLIGHT = 4096


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, dict[str, Any]]:
    place = tmp_path_factory.mktemp("guestless")
    run, experiment = place / "run", place / "pool.yml"
    text = (ROOT / "fio/pool-guestless.yml").read_text()
    assert "latency: 200ms" in text
    # QEMU 7.2 takes 0.4 s of CPU to begin as many requests: if the first are done before the last is begun,
    # fewer coroutines are in flight.
    experiment.write_text(text.replace("latency: 200ms", "latency: 1s"))
    done = harness("run", str(experiment), "--to-the-limit", "--run-dir", str(run))
    assert done.returncode == 0, done.stderr
    shown = json.loads(harness("show", str(run), "--json").stdout)
    return run, done.stdout, shown


def test_each_round_hoards_just_what_was_in_flight_until_qemu_aborts(
    finished: tuple[Path, str, dict[str, Any]],
) -> None:
    old = finished[2]["pool"]["OLD"]
    coroutines = [entry["coroutines"] for entry in old["rounds"]]
    # To the last coroutine, however busy the host is.
    assert {after - before for before, after in pairwise(coroutines)} == {IN_FLIGHT}
    assert (old["growth"], old["outcome"]["state"]) == ("unbounded", "aborted")
    assert "Cannot allocate memory" in old["outcome"]["message"]
    limit = int(Path("/proc/sys/vm/max_map_count").read_text())
    assert old["rounds"][-1]["vmas"] + 2 * IN_FLIGHT > limit >= old["outcome"]["vmas"]


def test_the_capped_pool_keeps_what_the_first_round_left(finished: tuple[Path, str, dict[str, Any]]) -> None:
    new = finished[2]["pool"]["NEW"]
    assert len(new["rounds"]) == 10
    assert (new["growth"], new["outcome"]["state"]) == ("bounded", "survived")
    assert max(e["coroutines"] for e in new["rounds"]) - min(e["coroutines"] for e in new["rounds"]) <= 2


def test_the_evidence_is_kept_and_no_guest_is_claimed(finished: tuple[Path, str, dict[str, Any]]) -> None:
    run, out, shown = finished
    (old,) = (session for session in shown["sessions"] if session["variant"] == "OLD")
    assert old["state"] == "crashed"
    (log,) = (run / "sessions").glob("*-OLD/qemu.log")
    assert "Cannot allocate memory" in log.read_text()
    assert "No guest: a driver outside" in out
    assert "guest     " not in harness("show", str(run)).stdout
    assert not list(Path("/tmp").glob("ab-scratch-*")), "nothing is left behind"  # noqa: S108


def test_a_run_that_lost_a_session_goes_on_with_it(
    finished: tuple[Path, str, dict[str, Any]], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished[0], run)
    (new,) = (run / "sessions").glob("*-NEW")
    shutil.rmtree(new)
    done = harness("run", "--resume", str(run))
    assert done.returncode == 0, done.stderr
    assert "NEW survived 10 rounds" in done.stdout
