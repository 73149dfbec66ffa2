"""Messages that a worker has received and not acknowledged.

Until a checkpoint has them, they must be able to come again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lamella.channels import Channel, Delivery

RENEW_AFTER_S = 4.0
"""How long a message is held before it is kept from coming again; a wait adds a second at most."""


@dataclass
class _Message:
    delivery: Delivery
    since_s: float


class Held:
    """What one worker holds of a channel.

    Parameters
    ----------
    clock
        Seconds, never set back.
    """

    def __init__(self, channel: Channel, clock: Callable[[], float]) -> None:
        self._channel, self._clock = channel, clock
        self._messages: dict[str, _Message] = {}

    def __len__(self) -> int:
        return len(self._messages)

    def add(self, deliveries: Sequence[Delivery]) -> None:
        """Hold these too; one that has come again is known by its last receipt alone."""
        now_s = self._clock()
        for delivery in deliveries:
            self._messages[delivery.identity or delivery.receipt] = _Message(delivery, now_s)

    def acknowledge(self) -> None:
        """None of them need come again."""
        if self._messages:
            self._channel.acknowledge([message.delivery for message in self._messages.values()])
            self._messages.clear()

    def renew(self, may: Callable[[], None]) -> float:
        """Keep those from coming again that have been held for long.

        Parameters
        ----------
        may
            Called before; what it raises is raised: who may not go on must let them come to whoever may.

        Returns
        -------
        float
            In how many seconds it is time to do so again; infinite if nothing is held.
        """
        now_s = self._clock()
        old = [message for message in self._messages.values() if now_s - message.since_s >= RENEW_AFTER_S]
        if old:
            may()
            self._channel.keep([message.delivery for message in old])
            for message in old:
                message.since_s = now_s
        oldest_s = min((message.since_s for message in self._messages.values()), default=math.inf)
        return oldest_s + RENEW_AFTER_S - now_s
