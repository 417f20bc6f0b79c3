"""What QEMU said, and none of what libvirt wrote around it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.core.qemu_log import last_words, qemu_said

START = """\
2026-11-25 22:20:20.404+0000: starting up libvirt version: 9.0.0, package: 9.0.0-4 (Debian), kernel: 6.1
LC_ALL=C \\
PATH=/usr/bin \\
HOME=/root/secret \\
/usr/bin/qemu-system-x86_64 \\
-name guest=x \\
-msg timestamp=on
2026-11-25 22:20:20.405+0000: Domain id=1 is tainted: custom-argv
"""
ABORT = "failed to set up stack guard page: Cannot allocate memory"


def test_only_qemus_own_lines_are_kept() -> None:
    log = START + f"2026-11-25T22:20:20.446155Z qemu-system-x86_64: warning: odd\n{ABORT}\n"
    log += "2026-11-25 22:20:20.649+0000: shutting down, reason=crashed\n"
    said = qemu_said(log)
    assert said == ["qemu-system-x86_64: warning: odd", ABORT]
    assert last_words(said) == ABORT


def test_an_ordered_end_is_no_last_word() -> None:
    said = qemu_said(START + "2026-11-25T22:20:37.0Z qemu: terminating on signal 15 from pid 1 (python)\n")
    assert last_words(said) is None
    assert last_words([]) is None


def test_only_the_last_start_counts() -> None:
    assert qemu_said(START + "of the first\n" + START + "of the second\n") == ["of the second"]


def test_the_environment_stays_out_also_when_the_log_was_cut() -> None:
    cut = START[START.index("PATH") :]
    assert qemu_said(cut) == []


@given(st.lists(st.text(st.characters(codec="ascii", exclude_characters="\\\n\r"), max_size=20)))
def test_no_variable_ever_comes_through(lines: list[str]) -> None:
    said = qemu_said(START + "\n".join(lines))
    assert not any("secret" in line for line in said)
