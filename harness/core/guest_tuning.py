"""The CPU of a guest and the command line of its kernel: what of them depends on the accelerator.

Emulated, a boot and each start of fio are dear: what takes long there, and is not measured, is left out.
"""

from __future__ import annotations

from harness.core.errors import InputError
from harness.core.model import Accel

__all__ = ["cpu_model", "cpu_without", "kernel_cmdline"]

_CMDLINE = "console=ttyS0 quiet panic=-1 cryptomgr.notests"
"""The guest kernel's command line before the experiment's own additions.

The kernel's tests of its ciphers take a quarter of an emulated boot, and nothing here enciphers.
"""

_EMULATED = "no_timer_check"
"""On a busy host the check finds an emulated timer dead, and the kernel panics; guests of KVM skip it."""

_LEFT_OUT = (
    "crypto_kdf108_init",
    "init_encrypted",
    "init_kprobe_trace,trace_eval_init,init_blk_tracer,tracer_init_tracefs",
    "cubictcp_register,bpf_tcp_ca_kfunc_init",
    "bpf_rstat_kfunc_init,bpf_key_sig_kfuncs_init,kfunc_init,bpf_prog_test_run_init",
)
"""Initial calls that take a fifth of a boot, and that nothing here asks for.

A cipher's test that cryptomgr.notests does not turn off, and keys that are kept enciphered; tracing, whose
tables are gone through and each of whose events gets a directory; and all those that declare functions to
BPF: the first of them, whichever it is, reads the types of the whole kernel.
"""

_EMULATED_MICRO = (
    "norandmaps lpj=20000000 cpu_init_udelay=0 ipv6.disable=1"
    " rcutree.jiffies_till_first_fqs=0 rcutree.jiffies_till_next_fqs=1"
    f" initcall_blacklist={','.join(_LEFT_OUT)}"
)
"""For the micro guest, whose programs and kernel are the harness's own choice.

QEMU before 8.0 translates a program by its virtual addresses: where each start of fio has others, all of its
code is translated anew, which takes a third of the time of a short start, and goes on while fio measures.
Delays are not gauged anew by each virtual CPU, a tenth of a second each: at 250 ticks a second ``lpj`` is
right for 5 GHz. On a slower host, and in a kernel with more ticks (Fedora's), they take longer than asked
for: even 64 times as long is not seen in a boot. An emulated CPU needs no rest before it starts; the kernel
leaves that out for every CPU that is not as old as the emulated one claims to be. It has no network.
When fio ends, it waits for two of RCU's grace periods (``io_destroy``), eight ticks as a rule: looked for at
each tick (``fqs``), they end some ticks earlier.
"""

_SLOW_WHEN_EMULATED = ("erms", "fsrm")
"""Repeated string moves that are promised to be quick: TCG emulates them a byte a round.

Kernel and libc clear and copy pages by them where the CPU has them; without, eight bytes and more a step.
"""


def kernel_cmdline(accel: Accel, *further: str, is_micro: bool) -> str:
    """Return the command line of a kernel that the harness boots itself.

    Args:
        accel: the decided one.
        further: additions; empty ones are left out.
        is_micro: whether kernel and programs are the micro guest's, not the experiment's own.
    """
    emulated = (_EMULATED, _EMULATED_MICRO if is_micro else "") if accel is Accel.TCG else ()
    return " ".join(part for part in (_CMDLINE, *emulated, *further) if part)


def cpu_model(model: str, accel: Accel) -> str:
    """Return the CPU that an experiment's ``guest.cpu`` means.

    Args:
        model: ``auto``, or what `DomainSpec.cpu` may be.
        accel: the decided one.

    Raises:
        InputError: the accelerator has no such CPU.
    """
    if model == "auto":
        return "host-passthrough" if accel is Accel.KVM else "maximum"
    if model == "host-passthrough" and accel is Accel.TCG:
        raise InputError.single(
            "guest.cpu",
            "host-passthrough needs KVM, and this host's guests run under TCG",
            "write cpu: auto or maximum",
        )
    return model


def cpu_without(model: str, accel: Accel) -> tuple[str, ...]:
    """Return the features that a guest's CPU is not to have, by libvirt's names.

    Args:
        model: of `cpu_model`; one by name keeps all that it has.
        accel: the decided one.
    """
    return _SLOW_WHEN_EMULATED if (model, accel) == ("maximum", Accel.TCG) else ()
