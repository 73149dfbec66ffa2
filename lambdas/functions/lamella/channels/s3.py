"""S3: one object for all that a worker sends to one place. This is the paper's FSD-Inf-Object."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence

from lamella.channels.base import Channel, Delivery, Place, Source
from lamella.channels.object_format import object_path
from lamella.channels.objects import Objects
from lamella.channels.patience import Patience

AT_ONCE = 16


class S3Channel(Channel):
    """One worker's end.

    Parameters
    ----------
    left
        What the workers of this run and attempt leave for each other.
    """

    kind = "s3"
    forgets = False
    # A receiver holds it in memory, and a PUT takes five times as much.
    max_message_bytes = 1 << 30

    def __init__(
        self,
        left: Objects,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._left, self._clock, self._sleep = left, clock, sleep
        self._patience = Patience()
        self._acknowledged: set[str] = set()

    def send(self, place: Place, messages: Sequence[tuple[int, bytes]]) -> None:
        self._left.write(place, messages)

    def receive(self, wanted: Collection[Source], wait_s: float) -> list[Delivery]:
        """Ask for one object until it is there, and only then for the others, some at a time.

        All of them are needed, and a miss is billed like a hit. Without a wait, all are asked for.
        """
        sources = [source for source in wanted if object_path(source) not in self._acknowledged]
        if wait_s <= 0:
            return self._read(sources)
        if not sources:
            self._sleep(wait_s)
            return []
        first, *others = self._patience.ordered(sources)
        began_s = self._clock()
        missed_s: float | None = None
        for pause_s in self._patience.pauses_s():
            left_s = began_s + wait_s - self._clock()
            if left_s <= 0:
                return []
            if pause_s > 0:
                self._sleep(min(pause_s, left_s))
            found = self._read([first])
            waited_s = self._clock() - began_s
            if found:
                break
            missed_s = waited_s
        self._patience.came(first, waited_s, missed_s)
        # Where many are still to come, those that are missing would be asked for again and again.
        for start in range(0, len(others), AT_ONCE):
            some = others[start : start + AT_ONCE]
            more = self._read(some)
            found += more
            if len({delivery.receipt for delivery in more}) < len(some):
                break
        return found

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        self._acknowledged.update(delivery.receipt for delivery in deliveries)

    def close(self) -> None:
        self._left.close()

    def abort(self) -> None:
        self._left.close()

    def _read(self, sources: Iterable[Source]) -> list[Delivery]:
        """Those that are there."""
        sources = list(sources)
        return [
            Delivery(data, object_path(source))
            for source, found in zip(sources, self._left.read(sources), strict=True)
            for data in found or ()
        ]
