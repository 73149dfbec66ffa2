"""The abort mark, and looking now and then whether it is there: one clock for all of a worker's waits.

There is one object per run. It says either up to which attempt the workers are to leave, which Recover writes
unless there is one; or, by any other text, that all are, which whoever ends the run writes over it. So a run
that was ended is never gone on with, whichever of the two comes first.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from lamella.errors import RunAborted
from lamella.layout import RunKeys
from lamella.storage import Bucket

LOOK_EVERY_S = 5.0
_ATTEMPTS = re.compile(rb"attempts up to (\d{1,9})")


def end_attempts(bucket: Bucket, keys: RunKeys) -> None:
    """Tell the workers up to this attempt to leave, and no later ones.

    Raises
    ------
    RunAborted
        If the run was ended.
    """
    if not bucket.create(keys.abort, b"attempts up to %d" % keys.attempt, "text/plain"):
        check_run(bucket, keys.next_attempt)


def check_run(bucket: Bucket, keys: RunKeys) -> None:
    """Whether an attempt is still to be made.

    Raises
    ------
    RunAborted
        If it isn't.
    """
    if is_ended(bucket, keys):
        raise RunAborted(f"run {keys.run} was stopped while it was being planned")


def is_ended(bucket: Bucket, keys: RunKeys) -> bool:
    """Whether the mark is there, and for this attempt; costs a request."""
    try:
        mark = bucket.read(keys.abort)
    except FileNotFoundError:
        return False
    earlier = _ATTEMPTS.fullmatch(mark)
    return earlier is None or keys.attempt <= int(earlier[1])


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
