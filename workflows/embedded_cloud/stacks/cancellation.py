"""How a running stack operation is told to stop: by DeleteStack while it creates, by CancelUpdateStack."""

from __future__ import annotations

import threading
from contextvars import ContextVar

from workflows.embedded_cloud.stacks.failures import ResourceFailed

CANCELLED = "Resource creation cancelled"
_current: ContextVar[threading.Event | None] = ContextVar("cancelled", default=None)


def operate_under(cancelled: threading.Event) -> None:
    """Have the operation that this thread runs stop when the event is set."""
    _current.set(cancelled)


def is_cancelled() -> bool:
    """Whether this thread's operation is to stop."""
    event = _current.get()
    return event is not None and event.is_set()


def raise_if_cancelled() -> None:
    """Stop before the next resource.

    Raises
    ------
    ResourceFailed
        If the operation of this thread is to stop.
    """
    if is_cancelled():
        raise ResourceFailed(CANCELLED)
