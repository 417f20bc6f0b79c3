"""Waiting: ended at once by the user or by the guest's end, and never stuck."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from datetime import UTC, timedelta

import pytest

from harness.adapters.waiting import Stop, SystemClock, Waiter
from harness.core.errors import GuestError, Interrupted

LONG = 30.0


def died() -> GuestError:
    return GuestError("the guest on NEW stopped by itself; its console ends:\nKernel panic")


@pytest.fixture
def stop() -> Stop:
    return Stop()


@pytest.fixture
def stopped() -> threading.Event:
    return threading.Event()


@pytest.fixture
def waiter(stop: Stop, stopped: threading.Event) -> Waiter:
    return Waiter(stop, stopped, died)


def test_an_interrupt_ends_a_wait_at_once(stop: Stop, waiter: Waiter) -> None:
    began = time.monotonic()
    threading.Timer(0.05, stop.set).start()
    with pytest.raises(Interrupted):
        waiter.sleep(LONG)
    assert time.monotonic() - began < LONG / 3


def test_a_guest_that_dies_ends_a_wait_at_once_with_its_consoles_words(
    stopped: threading.Event, waiter: Waiter
) -> None:
    def die() -> None:
        stopped.set()
        waiter.wake()

    began = time.monotonic()
    threading.Timer(0.05, die).start()
    with pytest.raises(GuestError, match="Kernel panic"):
        waiter.sleep(LONG)
    assert time.monotonic() - began < LONG / 3


def test_an_interrupt_outweighs_the_guests_end(stop: Stop, stopped: threading.Event, waiter: Waiter) -> None:
    stopped.set()
    stop.set()
    with pytest.raises(Interrupted):
        waiter.check()


def test_a_wait_that_begins_too_late_ends_as_well(stop: Stop, stopped: threading.Event) -> None:
    stop.set()
    with pytest.raises(Interrupted):
        Waiter(stop, stopped, died).sleep(LONG)


def test_a_condition_is_looked_at_when_woken_and_not_between(waiter: Waiter) -> None:
    looks: list[float] = []
    arrived = threading.Event()

    def arrive() -> None:
        arrived.set()
        waiter.wake()

    def condition() -> bool:
        if not looks:
            threading.Timer(0.2, arrive).start()
        looks.append(time.monotonic())
        return arrived.is_set()

    assert waiter.until(condition, LONG)
    assert len(looks) == 2


def test_a_wait_in_vain_ends_when_its_time_is_over(waiter: Waiter) -> None:
    began = time.monotonic()
    assert not waiter.until(lambda: False, 0.1)
    assert 0.1 <= time.monotonic() - began < LONG / 3


def test_being_woken_for_nothing_does_not_shorten_a_sleep(waiter: Waiter) -> None:
    waiter.wake()
    threading.Timer(0.02, waiter.wake).start()
    began = time.monotonic()
    waiter.sleep(0.15)
    assert time.monotonic() - began >= 0.15


def test_a_closed_waiter_is_left_alone(stop: Stop, waiter: Waiter) -> None:
    woken: list[str] = []
    stop.listen(lambda: woken.append("other"))
    waiter.close()
    stop.set()
    assert woken == ["other"]


def test_who_listens_after_the_wish_is_told_at_once(stop: Stop) -> None:
    told: list[str] = []
    stop.set()
    stop.listen(lambda: told.append("told"))
    assert told == ["told"]


SIGNALLED = """
import signal, sys, threading, time
from harness.adapters.waiting import Stop, Waiter
waiter = Waiter(Stop(), threading.Event(), str)
signal.signal(signal.SIGALRM, lambda *_: waiter.wake())
signal.setitimer(signal.ITIMER_REAL, 0.0004, 0.0004)
end = time.monotonic() + 0.5
while time.monotonic() < end:
    waiter.sleep(0.0)
    waiter.wake()
signal.setitimer(signal.ITIMER_REAL, 0)
print("alive")
"""


def test_a_signal_may_come_at_any_moment() -> None:
    # A handler that took a lock the interrupted code holds would wait for itself for ever.
    done = subprocess.run(
        [sys.executable, "-c", SIGNALLED], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "alive\n"


def test_the_clock_speaks_utc_and_never_goes_back() -> None:
    clock = SystemClock()
    assert clock.now().utcoffset() == timedelta(0)
    assert clock.now().tzinfo is UTC
    assert clock.monotonic() <= clock.monotonic()
