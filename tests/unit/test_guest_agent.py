"""The guest agent's answers, as a program's end; a fake domain in place of libvirt's."""

from __future__ import annotations

import base64
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import pytest

from harness.adapters.guest import agent as guest
from harness.adapters.guest.agent import AgentConnection
from harness.adapters.guest.lateness import Lateness
from harness.adapters.waiting import Stop, Waiter
from harness.core.errors import GuestError, HypervisorError, Interrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.adapters.domain import Domain

Answer = dict[str, Any] | Exception
STARTED: dict[str, Any] = {"pid": 42}
RUNNING: dict[str, Any] = {"exited": False}
LONG = 30.0


@pytest.fixture(autouse=True)
def no_news_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most guests here are alive: who waits to hear that they died waits in vain."""
    monkeypatch.setattr(guest, "NEWS_SECONDS", 0.01)


def ended(out: bytes = b"", err: bytes = b"") -> dict[str, Any]:
    data = {"out-data": base64.b64encode(out).decode(), "err-data": base64.b64encode(err).decode()}
    return {"exited": True, "exitcode": 0, **data}


class FakeDomain:
    """Answers the agent's commands from a list, and keeps what it was asked."""

    def __init__(self, *answers: Answer) -> None:
        self.agent_connected = threading.Event()
        self.stopped = threading.Event()
        self.asked: list[tuple[float, dict[str, Any]]] = []
        self._answers = list(answers)

    def answer(self, *answers: Answer) -> None:
        self._answers += answers

    def agent(self, command: dict[str, Any], timeout: float) -> Any:
        assert timeout > 0
        self.asked.append((time.monotonic(), command))
        answer = self._answers.pop(0) if self._answers else RUNNING
        if isinstance(answer, Exception):
            raise answer
        return answer


class Bench:
    """A connection to a fake guest, with what can end it."""

    def __init__(self, *answers: Answer, lateness: Lateness | None = None) -> None:
        self.domain = FakeDomain(*answers)
        self.stop = Stop()
        self.lateness = lateness or Lateness()
        self.waiter = Waiter(
            self.stop,
            self.domain.stopped,
            lambda: GuestError("the guest on NEW stopped by itself; Kernel panic"),
        )
        self.agent = AgentConnection(cast("Domain", self.domain), self.waiter, 5.0, self.lateness)

    def connect(self) -> None:
        self.domain.agent_connected.set()
        self.waiter.wake()

    def die(self) -> None:
        self.domain.stopped.set()
        self.waiter.wake()


@contextmanager
def soon(action: Callable[[], None]) -> Iterator[None]:
    """Do something while the block waits, and see that it did not wait to its end."""
    began = time.monotonic()
    timer = threading.Timer(0.05, action)
    timer.start()
    yield
    timer.join()
    assert time.monotonic() - began < LONG / 3


def test_a_program_runs_to_its_end_with_its_output() -> None:
    bench = Bench(STARTED, RUNNING, ended(b'{"jobs": []}\n', b"note: \xff\n"))
    execution = bench.agent.run(["/bin/sh", "-s", "--", "--bs", "4k"], stdin="echo ü\n", grace=LONG)
    assert (execution.exit_code, execution.stdout, execution.stderr) == (0, '{"jobs": []}\n', "note: �\n")
    (_, start), *questions = bench.domain.asked
    assert start["execute"] == "guest-exec"
    assert start["arguments"] | {"input-data": None} == {
        "path": "/bin/sh",
        "arg": ["-s", "--", "--bs", "4k"],
        "input-data": None,
        "capture-output": True,
    }
    assert base64.b64decode(start["arguments"]["input-data"]).decode() == "echo ü\n"
    assert [question for _, question in questions] == [
        {"execute": "guest-exec-status", "arguments": {"pid": 42}}
    ] * 2


@pytest.mark.parametrize(
    ("status", "code"),
    [({"exitcode": 1}, 1), ({"exitcode": 64}, 64), ({"signal": 9}, 137), ({"signal": 11}, 139)],
)
def test_an_exit_code_and_a_signal_read_as_in_a_shell(status: dict[str, int], code: int) -> None:
    bench = Bench(STARTED, {"exited": True, **status})
    execution = bench.agent.run(["/bin/false"], grace=LONG)
    assert (execution.exit_code, execution.stdout, execution.stderr) == (code, "", "")


def test_the_guest_is_left_alone_until_the_program_is_due() -> None:
    bench = Bench(STARTED, ended())
    bench.agent.run(["/bin/fio"], due=0.3, grace=LONG)
    (began, _), (asked, _) = bench.domain.asked
    assert asked - began >= 0.3


@pytest.fixture
def counted_time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Time that passes only when someone waits."""
    clock = Clock()
    monkeypatch.setattr(guest, "time", clock)
    return clock


class Clock:
    """Seconds since the beginning, and each wait."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.waits.append(seconds)

    def first_wait(self, bench: Bench, *answers: Answer, due: float) -> float:
        """Return how long the guest was left alone in one run of a program."""
        begin = len(self.waits)
        bench.domain.answer(STARTED, *answers)
        bench.waiter.sleep = self.sleep  # type: ignore[method-assign]
        bench.agent.run(["/bin/fio"], due=due, grace=LONG)
        return self.waits[begin]


def test_who_knows_how_long_programs_take_beyond_their_time_asks_later(counted_time: Clock) -> None:
    bench = Bench()
    assert counted_time.first_wait(bench, *[RUNNING] * 10, ended(), due=5) == 5
    late = counted_time.now - 5
    assert late > 0
    second = counted_time.first_wait(bench, ended(), due=5)
    # Nearly as long as the first took: not so long that it cannot turn out to be quicker.
    assert 5 + late / 2 < second < 5 + late


def test_the_quickest_program_says_how_late_the_next_is_asked_for(counted_time: Clock) -> None:
    bench = Bench()
    counted_time.first_wait(bench, RUNNING, ended(), due=5)
    soon_asked = counted_time.first_wait(bench, *[RUNNING] * 50, ended(), due=5)
    assert counted_time.first_wait(bench, *[RUNNING] * 50, ended(), due=5) == pytest.approx(soon_asked)


def test_one_that_had_ended_when_it_was_asked_for_has_the_next_asked_for_earlier(counted_time: Clock) -> None:
    bench = Bench()
    counted_time.first_wait(bench, *[RUNNING] * 10, ended(), due=5)
    waits = [counted_time.first_wait(bench, ended(), due=5) for _ in range(20)]
    assert waits == sorted(waits, reverse=True)
    assert 5 <= waits[-1] < 5 + (waits[0] - 5) / 10


def test_one_quick_program_is_forgotten_after_some_slower_ones(counted_time: Clock) -> None:
    bench = Bench()
    counted_time.first_wait(bench, RUNNING, ended(), due=5)
    waits = [counted_time.first_wait(bench, *[RUNNING] * 50, ended(), due=5) for _ in range(20)]
    assert waits[-1] > waits[0]


def test_what_one_boot_showed_is_known_in_the_next_boot_of_a_build(counted_time: Clock) -> None:
    first = Bench()
    counted_time.first_wait(first, *[RUNNING] * 10, ended(), due=5)
    again = Bench(lateness=first.lateness)
    assert counted_time.first_wait(again, RUNNING, ended(), due=5) > 5
    assert counted_time.first_wait(Bench(), RUNNING, ended(), due=5) == 5


def test_a_program_whose_end_is_foreseen_is_asked_for_more_often(counted_time: Clock) -> None:
    bench = Bench()
    counted_time.first_wait(bench, *[RUNNING] * 10, ended(), due=5)
    begin = len(counted_time.waits)
    assert max(counted_time.waits[1:begin]) >= 0.02
    counted_time.first_wait(bench, *[RUNNING] * 3, ended(), due=5)
    assert max(counted_time.waits[begin + 1 :]) <= 0.005


def test_a_program_of_unknown_duration_is_asked_for_at_once_and_says_nothing_of_others(
    counted_time: Clock,
) -> None:
    bench = Bench()
    assert counted_time.first_wait(bench, *[RUNNING] * 50, ended(), due=0) == 0
    assert counted_time.first_wait(bench, RUNNING, ended(), due=5) == 5
    assert counted_time.first_wait(bench, ended(), due=0) == 0


def test_a_program_that_hangs_is_given_up() -> None:
    bench = Bench(STARTED)
    with pytest.raises(GuestError, match="/bin/sh in the guest did not end within 0 s of when it was due"):
        bench.agent.run(["/bin/sh"], grace=0.2)


@pytest.mark.parametrize(
    "words",
    [
        "The command guest-exec has been disabled for this instance",
        "Command guest-exec has been disabled: the command is not allowed",
        "The command guest-exec has not been found",
    ],
)
def test_an_agent_that_forbids_guest_exec_is_explained(words: str) -> None:
    bench = Bench(HypervisorError(f"guest agent: {words}"))
    with pytest.raises(GuestError, match="guest-exec") as caught:
        bench.agent.run(["/bin/sh"], grace=LONG)
    assert "connection: ssh" in str(caught.value.remedy)
    assert "or allow" in str(caught.value.remedy)


def test_another_error_of_the_agent_is_passed_on_without_that_remedy() -> None:
    bench = Bench(HypervisorError("guest agent: Failed to execute child process “/x” (No such file)"))
    with pytest.raises(GuestError, match="No such file") as caught:
        bench.agent.run(["/x"], grace=LONG)
    assert caught.value.remedy is None


def test_an_agents_words_do_not_command_the_terminal() -> None:
    bench = Bench(HypervisorError("guest agent: \x1b]0;owned\x07"))
    with pytest.raises(GuestError) as caught:
        bench.agent.run(["/bin/sh"], grace=LONG)
    assert caught.value.message == "guest agent: ?]0;owned?"


@pytest.mark.parametrize("key", ["out-truncated", "err-truncated"])
def test_output_that_was_cut_off_is_an_error_and_no_result(key: str) -> None:
    bench = Bench(STARTED, ended(b"{") | {key: True})
    with pytest.raises(GuestError, match="more than the agent passes on"):
        bench.agent.run(["/bin/sh"], grace=LONG)


def test_an_interrupt_ends_a_run_at_once() -> None:
    bench = Bench(STARTED)
    with soon(bench.stop.set), pytest.raises(Interrupted):
        bench.agent.run(["/bin/sh"], due=LONG, grace=LONG)
    assert len(bench.domain.asked) == 1


def test_a_guest_that_dies_ends_a_run_at_once_with_its_consoles_words() -> None:
    bench = Bench(STARTED)
    with soon(bench.die), pytest.raises(GuestError, match="stopped by itself; Kernel panic"):
        bench.agent.run(["/bin/sh"], due=LONG, grace=LONG)


def test_an_agent_that_is_gone_with_its_guest_is_explained_by_the_guest() -> None:
    bench = Bench(STARTED, HypervisorError("guest agent: Guest agent is not responding"))
    with bench_dying_on_answer(bench), pytest.raises(GuestError, match="Kernel panic"):
        bench.agent.run(["/bin/sh"], due=0.01, grace=LONG)


def test_a_guest_whose_death_is_told_after_its_agents_is_the_explanation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """QEMU killed: the agent's socket closes at once, libvirt's event comes when the process is gone."""
    monkeypatch.setattr(guest, "NEWS_SECONDS", LONG)
    bench = Bench(STARTED, HypervisorError("guest agent: End of file from agent socket"))
    with soon(bench.die), pytest.raises(GuestError, match="stopped by itself; Kernel panic"):
        bench.agent.run(["/bin/sh"], grace=LONG)


@contextmanager
def bench_dying_on_answer(bench: Bench) -> Iterator[None]:
    """Have the guest die while the agent is being asked, as libvirt sees it."""
    ask = bench.domain.agent

    def dying(command: dict[str, Any], timeout: float) -> Any:
        if command["execute"] == "guest-exec-status":
            bench.domain.stopped.set()
        return ask(command, timeout)

    bench.domain.agent = dying  # type: ignore[method-assign]
    yield


def test_the_agents_first_answer_is_waited_for_without_asking() -> None:
    bench = Bench({})
    with soon(bench.connect):
        assert bench.agent.wait_ready(LONG)
    assert [command["execute"] for _, command in bench.domain.asked] == ["guest-ping"]


def test_an_agent_that_never_comes_is_no_answer_in_time() -> None:
    bench = Bench()
    assert not bench.agent.wait_ready(0.1)
    assert bench.domain.asked == []


def test_an_agent_that_connects_and_does_not_answer_is_not_ready() -> None:
    bench = Bench(HypervisorError("guest agent: Guest agent is not responding"))
    bench.connect()
    assert not bench.agent.wait_ready(LONG)


@pytest.mark.parametrize("how", ["die", "interrupt"])
def test_booting_ends_at_once_when_the_guest_dies_or_the_user_stops(how: str) -> None:
    bench = Bench()
    action, error = {"die": (bench.die, GuestError), "interrupt": (bench.stop.set, Interrupted)}[how]
    with soon(action), pytest.raises(error):
        bench.agent.wait_ready(LONG)
