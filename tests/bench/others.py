"""Tools of others, as pip installs them, each in an environment of its own: nothing is shared with them."""

from __future__ import annotations

import subprocess
import venv
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

FIO_PLOT = "fio-plot==1.1.21"


def install_fio_plot(place: Path) -> Path:
    """Install it below a directory; return where its programs and its Python are."""
    venv.create(place / "fio-plot", with_pip=True)
    programs = place / "fio-plot" / "bin"
    subprocess.run([programs / "pip", "install", "-q", "--disable-pip-version-check", FIO_PLOT], check=True)
    return programs
