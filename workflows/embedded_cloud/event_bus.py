"""The default event bus, for what AWS services send to it."""

from __future__ import annotations

import copy
import logging
import queue
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from moto.events.models import events_backends

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServiceEvent:
    """An event of an AWS service.

    Attributes
    ----------
    source
        "aws.s3", say.
    time_s
        Seconds since the epoch.
    """

    source: str
    detail_type: str
    account: str
    region: str
    resources: tuple[str, ...]
    detail: dict[str, Any]
    time_s: float = field(default_factory=time.time)

    def as_sent(self) -> dict[str, Any]:
        """Return the event as moto's rules take it."""
        return {
            "version": "0",
            "id": str(uuid.uuid4()),
            "detail-type": self.detail_type,
            "source": self.source,
            "account": self.account,
            "time": self.time_s,
            "region": self.region,
            "resources": list(self.resources),
            "detail": self.detail,
            "ingestion-time": time.time(),
        }


class EventBus:
    """Takes events at once and gives them to the rules one after the other, in a thread of its own."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[ServiceEvent] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="event-bus", daemon=True).start()

    def publish(self, event: ServiceEvent) -> None:
        """Send an event to the rules that match it, without waiting for their targets."""
        self._waiting.put(event)

    def _run(self) -> None:
        while True:
            event = self._waiting.get()
            bus = events_backends[event.account][event.region].describe_event_bus("default")
            sent = event.as_sent()
            for rule in list(bus.rules.values()):
                try:
                    rule.send_to_targets(copy.deepcopy(sent))
                except Exception:
                    _log.exception("rule %s", rule.name)
