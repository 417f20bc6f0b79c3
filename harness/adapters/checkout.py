"""Which commit of this project runs, where it runs from a checkout."""

from __future__ import annotations

from pathlib import Path

from harness.adapters.process import run
from harness.core.errors import HarnessError

_ROOT = Path(__file__).resolve().parents[2]


def checkout_commit() -> str | None:
    """Return the commit, with ``-dirty`` behind it when files differ from it; None outside a checkout."""
    if not (_ROOT / ".git").exists():
        return None
    argv = ["git", f"--git-dir={_ROOT / '.git'}", f"--work-tree={_ROOT}"]
    argv += ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        # Looking must not write: somebody may be committing.
        done = run(argv, timeout=5, check=False, env={"GIT_OPTIONAL_LOCKS": "0"})
    except HarnessError:
        return None
    return done.stdout.strip() or None
