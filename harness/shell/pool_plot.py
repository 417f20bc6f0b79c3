"""The rounds of pool-growth as a picture, for documents and merge requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.core.errors import HarnessError, InputError

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.ticker import MaxNLocator

    from harness.analysis.pool_tables import PoolReport

_KINDS = (".svg", ".png", ".pdf")
# Okabe and Ito's colours, which differ for every kind of colour vision.
_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = "osD^vP"


def check_plot(path: Path) -> None:
    """Refuse a file name that says no kind of picture.

    Raises:
        InputError: names the kinds.
    """
    if path.suffix.lower() not in _KINDS:
        raise InputError.single(
            str(path), "is no kind of picture known here", f"name it *{', *'.join(_KINDS)}"
        )


def write_pool_plot(report: PoolReport, path: Path) -> None:
    """Draw VMAs against rounds, a line a variant, a cross where QEMU died, and the limit.

    Raises:
        InputError: the file's name says no kind of picture.
        HarnessError: it cannot be written.
    """
    check_plot(path)
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # Text stays text: it can be read aloud, searched and copied. The salt makes the same run the same bytes.
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "qemu-ab-harness"})
    figure = Figure(figsize=(7.2, 4.0), layout="constrained")
    _draw(report, figure.subplots())
    try:
        figure.savefig(path, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)
    except OSError as error:
        raise HarnessError(f"cannot write {path}: {error.strerror}") from error


def _draw(report: PoolReport, axes: Axes) -> None:
    for number, variant in enumerate(report.variants):
        colour, marker = _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)]
        rounds = range(1, len(variant.rounds) + 1)
        vmas = [mappings.vmas for mappings in variant.rounds]
        axes.plot(rounds, vmas, label=variant.name, color=colour, marker=marker)
        fatal = variant.fatal
        if fatal is not None and report.limit is not None:
            axes.plot([variant.round], [report.limit], "X", color=colour, markersize=12)
            axes.annotate(
                f"{variant.name}: {(fatal.death or '').partition(' ')[0]}",
                (variant.round, report.limit),
                textcoords="offset points",
                xytext=(-10, -14),
                ha="right",
            )
    if report.limit is not None:
        axes.axhline(report.limit, linestyle="--", color="black", linewidth=1)
        axes.annotate(f"vm.max_map_count = {report.limit:,}", (1, report.limit), xytext=(0, 4),
                      textcoords="offset points")  # fmt: skip
    axes.set(xlabel="round", ylabel="memory mappings (VMAs) of QEMU")
    axes.margins(y=0.1)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(_whole_numbers())
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.grid(visible=True, alpha=0.3)
    axes.legend()


def _whole_numbers() -> MaxNLocator:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(integer=True)
