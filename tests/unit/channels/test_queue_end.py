"""How often a queue is asked."""

from __future__ import annotations

import time
from typing import Any

import pytest

from lamella.channels.queue_end import GATHER_S
from lamella.channels.sqs import SqsChannel
from lamella.plan import SqsAddress


class Queue:
    """A queue whose messages come one after the other; a receive ends with the first that is there."""

    def __init__(self, moments_s: list[float]) -> None:
        self._began, self._moments_s = time.monotonic(), moments_s
        self.receives = 0

    def receive_message(self, **_: Any) -> dict[str, Any]:
        self.receives += 1
        while self._moments_s and self._moments_s[0] > time.monotonic() - self._began:
            time.sleep(0.0005)
        now = time.monotonic() - self._began
        come = [moment for moment in self._moments_s if moment <= now]
        self._moments_s = self._moments_s[len(come) :]
        return {"Messages": [{"ReceiptHandle": str(moment)} for moment in come]}


@pytest.mark.parametrize("peers", [1, 7])
def test_what_comes_within_a_moment_is_received_together(peers: int) -> None:
    queue: Any = Queue([GATHER_S / 10 * i for i in range(peers)])
    channel = SqsChannel(queue, SqsAddress(("mine",)), 0, None)
    missing = [((3, 0), peer) for peer in range(peers)]
    while missing:
        missing = missing[len(channel.receive(missing, 1)) :]
    channel.close()
    # The first alone, and all others.
    assert queue.receives == min(peers, 2)
