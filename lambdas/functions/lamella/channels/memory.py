"""Workers that are threads of one process; for tests, and as the contract's plainest form."""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Collection, Sequence

from lamella.channels.base import Channel, Delivery, Place, Source


class MemoryHub:
    """What the workers of one run share; it outlives their ends."""

    def __init__(self, workers: int) -> None:
        self.queues = [_Queue() for _ in range(workers)]


class _Queue:
    """One worker's messages; those that are received and not deleted come again."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._ready: deque[tuple[str, bytes]] = deque()
        self._received: dict[str, tuple[float, str, bytes]] = {}
        self._numbers = itertools.count()

    def put(self, data: bytes) -> None:
        with self._changed:
            self._ready.append((str(next(self._numbers)), data))
            self._changed.notify_all()

    def get(self, wait_s: float, visibility_s: float) -> Delivery | None:
        """The next message, if there is one within ``wait_s``."""
        until_s = time.monotonic() + wait_s
        with self._changed:
            while True:
                now_s = time.monotonic()
                self._bring_back(now_s)
                if self._ready:
                    identity, data = self._ready.popleft()
                    receipt = str(next(self._numbers))
                    self._received[receipt] = (now_s + visibility_s, identity, data)
                    return Delivery(data, receipt, identity)
                if now_s >= until_s:
                    return None
                due_s = min([until_s, *(back_s for back_s, _, _ in self._received.values())])
                self._changed.wait(max(due_s - now_s, 0.001))

    def keep(self, receipts: Sequence[str], visibility_s: float) -> None:
        with self._changed:
            for receipt in receipts:
                if receipt in self._received:
                    _, identity, data = self._received[receipt]
                    self._received[receipt] = (time.monotonic() + visibility_s, identity, data)

    def delete(self, receipts: Sequence[str]) -> None:
        with self._changed:
            for receipt in receipts:
                self._received.pop(receipt, None)

    def _bring_back(self, now_s: float) -> None:
        for receipt, (back_s, identity, data) in list(self._received.items()):
            if now_s >= back_s:
                del self._received[receipt]
                self._ready.append((identity, data))


class MemoryChannel(Channel):
    """One worker's end.

    Parameters
    ----------
    visibility_s
        After how long a message that was neither acknowledged nor kept comes again.
    """

    kind = "memory"

    def __init__(
        self, hub: MemoryHub, worker: int, max_message_bytes: int = 256 << 10, visibility_s: float = 10
    ) -> None:
        self.max_message_bytes = max_message_bytes
        self._hub, self._mine, self._visibility_s = hub, hub.queues[worker], visibility_s

    def send(self, place: Place, messages: Sequence[tuple[int, bytes]]) -> None:
        del place  # the message says it
        for target, data in messages:
            assert len(data) <= self.max_message_bytes
            self._hub.queues[target].put(data)

    def receive(self, wanted: Collection[Source], wait_s: float) -> list[Delivery]:
        del wanted  # a queue gives what comes first
        delivery = self._mine.get(wait_s, self._visibility_s)
        return [] if delivery is None else [delivery]

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        self._mine.delete([delivery.receipt for delivery in deliveries])

    def keep(self, deliveries: Sequence[Delivery]) -> None:
        self._mine.keep([delivery.receipt for delivery in deliveries], self._visibility_s)
