"""The one family of errors; a class an exit code, a cause and, where there is one, a remedy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

if TYPE_CHECKING:
    from harness.core.records import CrashRecord


class HarnessError(Exception):
    """The run failed.

    Args:
        message: what happened, the cause first.
        remedy: what the user can do about it.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with something the user gave.

    Attributes:
        where: the file and, inside it, the key (``quick.yml: matrix.bs[1]``).
        message: what is wrong.
        remedy: how to put it right.
    """

    where: str
    message: str
    remedy: str | None = None


class InputError(HarnessError):
    """The user's input is invalid; nothing was touched. Carries every problem, not only the first."""

    exit_code = 2

    def __init__(self, problems: list[Problem]) -> None:
        if not problems:
            raise ValueError("an InputError without a problem")
        super().__init__("\n".join(f"{p.where}: {p.message}" for p in problems))
        self.problems = tuple(problems)

    @classmethod
    def single(cls, where: str, message: str, remedy: str | None = None) -> Self:
        """Return the error for one problem."""
        return cls([Problem(where, message, remedy)])


class DamagedError(InputError):
    """A file of a run directory is not what was written: torn, or edited."""


class NothingMeasuredError(InputError):
    """A run directory holds nothing yet that could be judged."""


class ProvisionError(HarnessError):
    """A playbook failed: names the task, the host and the message."""


class BuildFailedError(ProvisionError):
    """The source of a build is to blame: it does not compile, or what it makes is no QEMU that starts.

    Attributes:
        cause: the compiler's words, without where they were said.
    """

    def __init__(self, message: str, cause: str, *, remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.cause = cause


class GuestError(HarnessError):
    """The guest did not boot, answer or survive."""


class GuestDiedError(GuestError):
    """The guest's QEMU process ended by itself.

    Attributes:
        crash: what is known of its end.
    """

    def __init__(self, message: str, crash: CrashRecord) -> None:
        super().__init__(message)
        self.crash = crash


class HypervisorError(HarnessError):
    """libvirt refused or failed."""


class BusyError(HarnessError):
    """Another run holds the host: a measurement must be alone."""


class Interrupted(HarnessError):  # noqa: N818 - an interruption is nobody's error
    """The user stopped the run; what was measured is kept."""

    exit_code = 130
