"""When to ask for an object that somebody else is still to write.

An answer costs the same whether or not it is there, and the sooner one asks after it is, the better. A worker
waits about as long for one layer as for the one before: it asks for the first time shortly before that, then
the more rarely the longer it has waited; and it asks first for the object of whoever was late most often,
since all are needed and the others can then be expected to be there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lamella.channels.base import Source

SHORTEST_S, LONGEST_S = 0.01, 0.25
_LEAD = 0.8  # of the usual wait, before one asks for the first time
_STEP = 0.3  # of what one has waited so far, before one asks again
_HASTE = 0.7  # how the usual wait shrinks where one could have asked earlier
_MEMORY = 0.5  # of the usual wait, and of who was late, when a new one is learnt


class Patience:
    """What one receiver knows of its senders."""

    def __init__(self) -> None:
        self._usual_s = 0.0
        self._lateness: dict[int, float] = {}

    def ordered(self, sources: Iterable[Source]) -> list[Source]:
        """Whom to ask for first: who is usually late, first."""
        return sorted(sources, key=lambda source: (-self._lateness.get(source[1], 0.0), source))

    def pauses_s(self) -> Iterator[float]:
        """How long to wait before each time that one asks."""
        waited_s = _LEAD * self._usual_s
        yield waited_s if waited_s >= SHORTEST_S else 0.0
        while True:
            pause_s = min(max(SHORTEST_S, _STEP * waited_s), LONGEST_S)
            yield pause_s
            waited_s += pause_s

    def came(self, source: Source, waited_s: float, missed_s: float | None) -> None:
        """Learn of an object that came.

        Parameters
        ----------
        waited_s
            Since when it was wanted.
        missed_s
            How long one had waited when it was last not there; None if it was there at once.
        """
        late = 0.0 if missed_s is None else 1.0
        self._lateness[source[1]] = _MEMORY * self._lateness.get(source[1], 0.0) + (1 - _MEMORY) * late
        if missed_s is None:
            self._usual_s = min(_HASTE * self._usual_s, waited_s)
        else:
            self._usual_s = _MEMORY * self._usual_s + (1 - _MEMORY) * min(
                (waited_s + missed_s) / 2, 4 * LONGEST_S
            )
