"""A clock that stands still while anybody works, and jumps to the next moment when all sleep."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable, Sequence


class SimulatedTime:
    """Time for threads that do nothing but compute and `sleep`."""

    def __init__(self) -> None:
        self._now_s = 0.0
        self._changed = threading.Condition()
        self._sleeping: list[tuple[float, int]] = []
        self._numbers = itertools.count()
        self._awake = 0

    def clock(self) -> float:
        with self._changed:
            return self._now_s

    def sleep(self, seconds: float) -> None:
        with self._changed:
            me = (self._now_s + seconds, next(self._numbers))
            heapq.heappush(self._sleeping, me)
            self._awake -= 1
            self._advance()
            while me in self._sleeping:
                self._changed.wait()

    def run(self, works: Sequence[Callable[[], None]]) -> float:
        """Do all of it at the same time; the seconds that it took."""
        self._awake = len(works)

        def work_through(work: Callable[[], None]) -> None:
            try:
                work()
            finally:
                with self._changed:
                    self._awake -= 1
                    self._advance()

        threads = [threading.Thread(target=work_through, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        return self._now_s

    def _advance(self) -> None:
        if not self._awake and self._sleeping:
            self._now_s, _ = heapq.heappop(self._sleeping)
            self._awake += 1
            self._changed.notify_all()
