"""How long beyond its due time a program takes to start and to end, learnt from those before it."""

from __future__ import annotations

from collections import deque

__all__ = ["Lateness"]

_REMEMBERED = 10
_SURELY = 0.9
"""Of the least lateness known: until then nobody asks whether a program ended."""
_PERHAPS = 0.8
"""Of the lateness of one that had ended when first asked for: it was less, nobody knows by how much."""


class Lateness:
    """The latenesses of the last programs on one build, in seconds.

    fio takes as long beyond its runtime each time, to a few hundredths of a second. Whoever knows how long
    need not ask before: each answer costs the guest time, and the first questions would fall into what fio
    measures.
    """

    def __init__(self) -> None:
        self._last: deque[float] = deque(maxlen=_REMEMBERED)

    @property
    def quiet_seconds(self) -> float:
        """How long beyond its due time the next program surely does not end; 0 while nothing is known."""
        return _SURELY * min(self._last, default=0.0)

    def learn(self, seconds: float, *, first_look: bool) -> None:
        """Remember one program's lateness.

        Args:
            seconds: beyond its due time, when it was seen to have ended.
            first_look: whether it had ended when it was first looked for.
        """
        late = max(0.0, seconds)
        self._last.append(_PERHAPS * late if first_look else late)
