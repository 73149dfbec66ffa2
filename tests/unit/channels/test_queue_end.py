"""How often a queue is asked."""

from __future__ import annotations

import time
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lamella.channels import Delivery
from lamella.channels.packing import BATCH_ENTRIES
from lamella.channels.queue_end import GATHER_S, HELD_VISIBILITY_S
from lamella.channels.sqs import SqsChannel
from lamella.errors import CloudError
from lamella.held import RENEW_AFTER_S
from lamella.plan import SqsAddress
from lamella.usage import Count


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


class Held:
    """A queue of which one end holds messages."""

    def __init__(self) -> None:
        self.kept: list[list[dict[str, Any]]] = []
        self.deleted: list[list[str]] = []
        self.asked: dict[str, Any] = {}
        self.refuses = False

    def receive_message(self, **asked: Any) -> dict[str, Any]:
        self.asked = asked
        return {"Messages": [{"MessageId": "m", "ReceiptHandle": "r"}]}

    def change_message_visibility_batch(self, QueueUrl: str, Entries: list[dict[str, Any]]) -> None:  # noqa: N803
        assert QueueUrl == "mine"
        if self.refuses:
            raise ClientError({"Error": {"Code": "AccessDenied"}}, "ChangeMessageVisibilityBatch")
        self.kept.append(Entries)

    def delete_message_batch(self, QueueUrl: str, Entries: list[dict[str, Any]]) -> None:  # noqa: N803
        assert QueueUrl == "mine"
        self.deleted.append([entry["ReceiptHandle"] for entry in Entries])


def test_what_is_held_is_kept_in_batches_and_deleted_at_once() -> None:
    queue: Any = Held()
    channel = SqsChannel(queue, SqsAddress(("mine",)), 0, None, held=True)
    assert channel.receive([], 1) == [Delivery(b"", "r", "m")]
    assert queue.asked["VisibilityTimeout"] == HELD_VISIBILITY_S
    # A wait may last a second longer than the time until it is due to be kept.
    assert RENEW_AFTER_S + 1 < HELD_VISIBILITY_S
    deliveries = [Delivery(b"", str(i)) for i in range(BATCH_ENTRIES + 3)]
    channel.keep(deliveries)
    assert [len(batch) for batch in queue.kept] == [BATCH_ENTRIES, 3]
    assert queue.kept[1][0] == {
        "Id": "0",
        "ReceiptHandle": str(BATCH_ENTRIES),
        "VisibilityTimeout": HELD_VISIBILITY_S,
    }
    assert channel.leaving(len(deliveries)).count("sqs.delete_message_batch") == Count(2, 2)
    channel.acknowledge(deliveries)
    assert [len(batch) for batch in queue.deleted] == [BATCH_ENTRIES, 3]
    assert channel.leaving(0).counts == {}
    queue.refuses = True
    with pytest.raises(CloudError, match="keeping messages of mine failed"):
        channel.keep(deliveries)
    channel.close()
