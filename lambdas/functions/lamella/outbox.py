"""Sending in the background, so that what a worker posts is on its way while it computes on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

# What may be under way: one post beside the one that is being sent, and no more bytes, unless one alone has.
MOST_POSTS = 2
MOST_BYTES = 32 << 20
LEAVE_S = 2.0  # for what is being sent at the moment when all is given up
_LOOK_S = 0.5


class Outbox:
    """Sends what is put into it, one after the other, by a thread of its own.

    What goes wrong is raised by the next call of any method but `abort`, and nothing is sent after it.

    Parameters
    ----------
    check
        Called now and then while one waits; what it raises ends the wait.
    """

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="outbox")
        self._under_way: deque[tuple[int, Future[None]]] = deque()
        self._failure: BaseException | None = None

    @property
    def busy(self) -> bool:
        """Whether anything is under way."""
        return any(not sent.done() for _, sent in self._under_way)

    def put(self, size_bytes: int, send: Callable[[], None]) -> None:
        """Have ``send`` called after all that was put before; waits while too much is under way."""
        self.raise_failure()
        while self._under_way and (
            len(self._under_way) >= MOST_POSTS
            or sum(size for size, _ in self._under_way) + size_bytes > MOST_BYTES
        ):
            self._wait()
        self._under_way.append((size_bytes, self._thread.submit(self._unless_failed, send)))

    def flush(self) -> None:
        """Wait until all is sent."""
        self.raise_failure()
        while self._under_way:
            self._wait()

    def raise_failure(self) -> None:
        """Raise what went wrong, if anything did."""
        while self._under_way and self._under_way[0][1].done():
            self._under_way.popleft()
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Send all, and end; may be called twice."""
        self.flush()
        self._thread.shutdown()

    def abort(self) -> None:
        """End without sending what waits; what is being sent is given a moment."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        wait([future for _, future in self._under_way if not future.cancelled()], LEAVE_S)
        self._under_way.clear()

    def _wait(self) -> None:
        """For the oldest that is under way, a little."""
        wait([self._under_way[0][1]], _LOOK_S)
        self.raise_failure()
        if self._under_way:
            self._check()

    def _unless_failed(self, send: Callable[[], None]) -> None:
        if self._failure is not None:
            return
        try:
            send()
        except BaseException as error:  # it is raised where the worker looks next
            self._failure = error
