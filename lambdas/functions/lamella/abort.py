"""Looking now and then whether a run still goes on: one clock for all of a worker's waits and steps."""

from __future__ import annotations

from collections.abc import Callable

from lamella.errors import RunAborted

LOOK_EVERY_S = 5.0


class AbortWatch:
    """A worker's eye on its run's abort mark.

    Parameters
    ----------
    aborted
        Whether the mark is there; costs a request.
    clock
        Seconds.
    """

    def __init__(self, run: str, aborted: Callable[[], bool], clock: Callable[[], float]) -> None:
        self._run, self._aborted, self._clock = run, aborted, clock
        self._next_s = clock()

    @property
    def due_in_s(self) -> float:
        """Until the next look; not negative."""
        return max(0.0, self._next_s - self._clock())

    def check(self) -> None:
        """Look, if it is time to.

        Raises
        ------
        RunAborted
            If the run, or the worker's attempt at it, is over.
        """
        now_s = self._clock()
        if now_s < self._next_s:
            return
        self._next_s = now_s + LOOK_EVERY_S
        if self._aborted():
            raise RunAborted(f"run {self._run} was ended: another worker failed, or it was stopped")
