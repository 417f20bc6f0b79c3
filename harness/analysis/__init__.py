"""From samples to verdicts and tables; pure: no I/O, no clock.

Imported lazily by the command line: pandas takes long to load.
"""

from harness.analysis.comparison import compare, compare_all
from harness.analysis.device import device_bound
from harness.analysis.statistics import expected_mde
from harness.analysis.stopping import StopDecision, should_stop, widest_half_width
from harness.analysis.verdicts import Verdict

__all__ = [
    "StopDecision", "Verdict", "compare", "compare_all", "device_bound", "expected_mde", "should_stop",
    "widest_half_width",
]  # fmt: skip
