"""The moment by which something has to have ended, on a clock that never jumps.

Between machines a moment goes as Unix time; each turns it once into one of its own monotonic clock, so that
a correction of the wall clock neither ends a wait early nor lets it outlast what it is bounded by.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import TypeVar

from lamella.errors import DeadlineExceeded

LOOK_S = 0.5  # between two looks whether to go on waiting

Clock = Callable[[], float]
_T = TypeVar("_T")


@dataclass(frozen=True)
class Deadline:
    """A moment, and the clocks it is read from.

    Attributes
    ----------
    moment_s
        On ``clock``.
    clock
        Seconds, of any beginning; never set back or forth.
    wall
        Unix time: what other machines are told, and tell, moments in.
    """

    moment_s: float
    clock: Clock = time.monotonic
    wall: Clock = time.time

    @classmethod
    def after(cls, left_s: float, clock: Clock = time.monotonic, wall: Clock = time.time) -> Deadline:
        """So many seconds from now."""
        return cls(clock() + left_s, clock, wall)

    @classmethod
    def at(cls, unix_s: float, clock: Clock = time.monotonic, wall: Clock = time.time) -> Deadline:
        """At a Unix time, as this machine's clock shows it now."""
        return cls.after(unix_s - wall(), clock, wall)

    @property
    def left_s(self) -> float:
        """Seconds until then; negative once it has passed."""
        return self.moment_s - self.clock()

    @property
    def passed(self) -> bool:
        return self.left_s <= 0

    @property
    def unix_s(self) -> float:
        """Unix time of it, for other machines."""
        return self.wall() + self.left_s

    def sooner(self, other: Deadline) -> Deadline:
        """The first of two of the same clock."""
        return other if other.moment_s < self.moment_s else self

    def earlier(self, by_s: float) -> Deadline:
        """So much before this one: what is kept back for what comes after."""
        return Deadline(self.moment_s - by_s, self.clock, self.wall)

    def sooner_at(self, unix_s: float) -> Deadline:
        """The first of this one and a Unix time."""
        return self.sooner(Deadline.at(unix_s, self.clock, self.wall))

    def check(self, explain: str) -> None:
        """Raise if it has passed.

        Parameters
        ----------
        explain
            What was not done by then, and what to do about it.

        Raises
        ------
        DeadlineExceeded
            With that text.
        """
        if self.passed:
            raise DeadlineExceeded(explain)


def wait_for(future: Future[_T], check: Callable[[], None], look_s: float = LOOK_S) -> _T:
    """The result of what another thread does.

    Parameters
    ----------
    check
        Called every ``look_s`` seconds while it takes; what it raises ends the wait, and nothing else does.
    """
    while not wait([future], look_s).done:
        check()
    return future.result()
