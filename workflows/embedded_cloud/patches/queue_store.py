"""Messages of a standard queue, in time that does not depend on how many there are."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

_REMEMBERED_DELETIONS = 100_000
_DISCONNECT_CHECK_S = 1.0


@dataclass
class Stored:
    """A message of moto's, and where it is.

    Attributes
    ----------
    version
        Counts changes of visibility, so that outdated entries of the heap are recognised.
    """

    message: Any
    state: str = "ready"  # or "delayed", "in flight", "gone"
    version: int = 0
    handles: list[str] = field(default_factory=list)


class QueueStore:
    """What is in a queue: ready in order of arrival, delayed or in flight by the time they are ready (again).

    Receivers wait on one condition: a message wakes one of them at once, and waiting costs nothing.

    Parameters
    ----------
    deliveries
        What arrives of a message that is sent with a delay, and after how long.
    """

    def __init__(self, deliveries: Callable[[Any, float], Sequence[tuple[Any, float]]] | None = None) -> None:
        self._deliveries = deliveries or (lambda message, delay_s: [(message, delay_s)])
        self._changed = threading.Condition()
        self._ready: deque[Stored] = deque()
        self._later: list[tuple[float, int, int, Stored]] = []
        self._by_handle: dict[str, Stored] = {}
        self._deleted: set[str] = set()
        self._deleted_order: deque[str] = deque()
        self._counts = {"ready": 0, "delayed": 0, "in flight": 0}
        self._sequence = itertools.count()

    def counts(self) -> dict[str, int]:
        """Number of messages per state."""
        with self._changed:
            self._promote()
            return dict(self._counts)

    def ready_messages(self) -> list[Any]:
        """Messages that a receiver would get now."""
        with self._changed:
            self._promote()
            return [stored.message for stored in self._ready if stored.state == "ready"]

    def add(self, message: Any, delay_s: float) -> None:
        """Put a message in."""
        for arriving, late_s in self._deliveries(message, delay_s):
            stored = Stored(arriving, "gone")
            with self._changed:
                if late_s > 0:
                    self._postpone(stored, "delayed", late_s)
                else:
                    self._make_ready(stored)
                self._changed.notify()

    def receive(
        self,
        count: int,
        wait_s: float,
        visibility_s: float,
        retention_s: float,
        to_dead_letters: Callable[[Any], bool],
        still_wanted: Callable[[], bool],
    ) -> list[Any]:
        """Take up to ``count`` messages, waiting for the first.

        Parameters
        ----------
        to_dead_letters
            Told of each message before it is handed out; takes it if it was received too often.
        still_wanted
            Whether the receiver is still there: one that hung up must not swallow a message.
        """
        deadline = time.monotonic() + wait_s
        with self._changed:
            while True:
                self._promote()
                if self._ready:
                    if not still_wanted():
                        self._changed.notify()
                        return []
                    taken = self._take(count, visibility_s, retention_s, to_dead_letters)
                    if taken:
                        if self._ready:
                            self._changed.notify()
                        return taken
                now = time.monotonic()
                if now >= deadline or not still_wanted():
                    return []
                wake = min(deadline, now + _DISCONNECT_CHECK_S)
                if self._later:
                    wake = min(wake, max(self._later[0][0], now + 0.001))
                self._changed.wait(wake - now)

    def delete(self, handle: str) -> bool:
        """Delete by any receipt handle the message ever had; False if there never was such a handle."""
        with self._changed:
            stored = self._by_handle.get(handle)
            if stored is None:
                return handle in self._deleted
            self._forget(stored)
            return True

    def change_visibility(self, handle: str, timeout_s: float) -> bool:
        """Set when a message in flight is ready again; False if the handle is unknown."""
        with self._changed:
            stored = self._by_handle.get(handle)
            if stored is None:
                return False
            if stored.state == "in flight":
                if timeout_s > 0:
                    self._postpone(stored, "in flight", timeout_s)
                else:
                    self._make_ready(stored)
                self._changed.notify()
            return True

    def purge(self) -> None:
        """Remove everything."""
        with self._changed:
            for stored in {id(s): s for s in (*self._ready, *(entry[3] for entry in self._later))}.values():
                self._forget(stored)
            self._ready.clear()
            self._later.clear()

    # with the lock held

    def _move(self, stored: Stored, state: str) -> None:
        if stored.state in self._counts:
            self._counts[stored.state] -= 1
        if state in self._counts:
            self._counts[state] += 1
        stored.state = state
        stored.version += 1

    def _make_ready(self, stored: Stored) -> None:
        self._move(stored, "ready")
        self._ready.append(stored)

    def _postpone(self, stored: Stored, state: str, seconds: float) -> None:
        self._move(stored, state)
        entry = (time.monotonic() + seconds, next(self._sequence), stored.version, stored)
        heapq.heappush(self._later, entry)

    def _promote(self) -> None:
        now = time.monotonic()
        while self._later and self._later[0][0] <= now:
            _, _, version, stored = heapq.heappop(self._later)
            if stored.version == version:
                self._make_ready(stored)

    def _take(
        self, count: int, visibility_s: float, retention_s: float, to_dead_letters: Callable[[Any], bool]
    ) -> list[Any]:
        taken: list[Any] = []
        now_ms = int(time.time() * 1000)
        while self._ready and len(taken) < count:
            stored = self._ready.popleft()
            if stored.state != "ready":
                continue
            message = stored.message
            if message.sent_timestamp < now_ms - retention_s * 1000 or to_dead_letters(message):
                self._forget(stored)
                continue
            message.receipt_handle = uuid.uuid4().hex + uuid.uuid4().hex
            message.approximate_receive_count += 1
            message.approximate_first_receive_timestamp = (
                message.approximate_first_receive_timestamp or now_ms
            )
            stored.handles.append(message.receipt_handle)
            self._by_handle[message.receipt_handle] = stored
            taken.append(message)
            if visibility_s > 0:
                self._postpone(stored, "in flight", visibility_s)
            else:
                self._move(stored, "ready")
        if visibility_s <= 0:
            self._ready.extend(self._by_handle[message.receipt_handle] for message in taken)
        return taken

    def _forget(self, stored: Stored) -> None:
        self._move(stored, "gone")
        stored.message = None  # an outdated entry of the heap may hold on to it for hours
        for handle in stored.handles:
            self._by_handle.pop(handle, None)
            self._deleted.add(handle)
            self._deleted_order.append(handle)
        while len(self._deleted_order) > _REMEMBERED_DELETIONS:
            self._deleted.discard(self._deleted_order.popleft())
