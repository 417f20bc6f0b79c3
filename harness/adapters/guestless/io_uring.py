"""Keeps io_uring from the processes that one thread starts, and from nobody else.

QEMU's newer event loops wait in io_uring, and valgrind does not know that io_uring_enter blocks: all threads
wait with it, for ever. Where io_uring_setup fails, QEMU falls back to epoll. So it is made to fail, as on a
kernel without io_uring, by a seccomp filter: a thread's own, inherited by what it starts, gone with it.
"""

from __future__ import annotations

import ctypes
import errno
import struct
import threading

from harness.core.errors import HarnessError

_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, _PR_SET_NO_NEW_PRIVS = 22, 2, 38
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_IO_URING_SETUP = 425
IO_URING_ENTER = 426
"""System calls; the same numbers on every architecture."""

_INSTRUCTIONS = (
    (_LOAD, 0, 0, 0),  # the system call's number
    (_JUMP_IF_EQUAL, 0, 1, _IO_URING_SETUP),
    (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),
    (_RETURN, 0, 0, _ALLOW),
)
_done = threading.local()


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def deny_io_uring() -> None:
    """Make io_uring_setup fail in this thread, and in everything it starts from now on.

    Raises:
        HarnessError: the kernel refuses the filter.
    """
    if getattr(_done, "here", False):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in _INSTRUCTIONS)
    program = _Program(len(_INSTRUCTIONS), code)
    # Without the promise not to gain privileges an ordinary user may not install a filter.
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0
    ):
        raise HarnessError(
            f"cannot keep io_uring from the counted process: {errno.errorcode[ctypes.get_errno()]}",
            remedy="count on a kernel with CONFIG_SECCOMP_FILTER",
        )
    _done.here = True
