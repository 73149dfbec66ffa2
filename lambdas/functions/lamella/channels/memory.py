"""Workers that are threads of one process; for tests, and as the contract's plainest form."""

from __future__ import annotations

import queue
import time
import uuid
from collections.abc import Collection, Sequence

from lamella.channels.base import Channel, Delivery, Place, Source


class MemoryHub:
    """What the workers of one run share."""

    def __init__(self, workers: int) -> None:
        self.queues: list[queue.Queue[tuple[str, bytes]]] = [queue.Queue() for _ in range(workers)]


class MemoryChannel(Channel):
    """One worker's end.

    Parameters
    ----------
    visibility_s
        After how long a message that was not acknowledged comes again.
    """

    kind = "memory"

    def __init__(
        self, hub: MemoryHub, worker: int, max_message_bytes: int = 256 << 10, visibility_s: float = 10
    ) -> None:
        self.max_message_bytes = max_message_bytes
        self._hub, self._mine, self._visibility_s = hub, hub.queues[worker], visibility_s
        self._held: dict[str, tuple[float, str, bytes]] = {}
        self._receipts = 0

    def send(self, place: Place, messages: Sequence[tuple[int, bytes]]) -> None:
        del place  # the message says it
        for target, data in messages:
            assert len(data) <= self.max_message_bytes
            self._hub.queues[target].put((uuid.uuid4().hex, data))

    def receive(self, wanted: Collection[Source], wait_s: float) -> list[Delivery]:
        del wanted  # a queue gives what comes first
        self._return_unacknowledged()
        try:
            identity, data = self._mine.get(timeout=wait_s) if wait_s > 0 else self._mine.get_nowait()
        except queue.Empty:
            return []
        self._receipts += 1
        delivery = Delivery(data, str(self._receipts), identity)
        self._held[delivery.receipt] = (time.monotonic(), identity, data)
        return [delivery]

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            self._held.pop(delivery.receipt, None)

    def keep(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            if delivery.receipt in self._held:
                self._held[delivery.receipt] = (time.monotonic(), delivery.identity, delivery.data)

    def abort(self) -> None:
        """What is held comes again to whoever takes over, as from a queue that outlives its reader."""
        for _, identity, data in self._held.values():
            self._mine.put((identity, data))
        self._held.clear()

    def _return_unacknowledged(self) -> None:
        now = time.monotonic()
        for receipt, (since, identity, data) in list(self._held.items()):
            if now - since >= self._visibility_s:
                del self._held[receipt]
                self._mine.put((identity, data))
