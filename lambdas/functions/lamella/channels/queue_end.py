"""What channels share whose messages end in an SQS queue: how they are received, and sent in batches."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from lamella.channels.base import Channel, Delivery, Place, Source
from lamella.channels.objects import Objects
from lamella.channels.packing import BATCH_ENTRIES
from lamella.channels.wire import DATA
from lamella.errors import CloudError
from lamella.usage import Count, Usage

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

# Of what is acknowledged when it has come.
VISIBILITY_S = 10
# Of what is held until a checkpoint has it: if the worker dies, it comes again after so long.
HELD_VISIBILITY_S = 6
SENDERS = 8  # batches of one post that are sent at a time
DELETE_WITHIN_S = 4  # and one long poll more, if nothing arrives meanwhile
# Between two receives for the same place: peers' messages come within tens of ms of each other, and each
# receive is billed.
GATHER_S = 0.015


class QueueEnd(Channel):
    """The receiving half of a channel; what sends is a subclass's.

    Parameters
    ----------
    queue_url
        Of this worker's own queue.
    objects
        Where what is longer than a message goes.
    held
        Whether messages are held for long and then acknowledged together, not each when it has come.
    """

    def __init__(
        self, sqs: SQSClient, queue_url: str, objects: Objects | None, *, held: bool = False
    ) -> None:
        self.objects = objects
        self._visibility_s = HELD_VISIBILITY_S if held else VISIBILITY_S
        # What was held would come again before others made its batch full.
        self._delete_within_s = 0.0 if held else DELETE_WITHIN_S
        self._sqs, self._queue_url = sqs, queue_url
        self._senders = ThreadPoolExecutor(SENDERS, thread_name_prefix="batches")
        self._to_delete: list[str] = []
        self._delete_by_s: float | None = None
        self._asked_for: set[Place] = set()

    def receive(self, wanted: Collection[Source], wait_s: float) -> list[Delivery]:
        places = {place for place, _ in wanted}
        if places and places == self._asked_for and len(wanted) > 1:
            # A receive ends with the first message that comes: so that others come with it, a moment later.
            time.sleep(min(GATHER_S, max(wait_s, 0)))
        self._asked_for = places
        try:
            answer = self._sqs.receive_message(
                QueueUrl=self._queue_url,
                MaxNumberOfMessages=BATCH_ENTRIES,
                # Whole seconds, and at least one: a shorter poll would only be a busier one.
                WaitTimeSeconds=max(1, math.floor(wait_s)) if wait_s > 0 else 0,
                VisibilityTimeout=self._visibility_s,
                MessageAttributeNames=[DATA],
            )
        except (BotoCoreError, ClientError) as error:
            raise CloudError(f"receiving from {self._queue_url} failed: {error}") from error
        return [
            Delivery(_data(message), message["ReceiptHandle"], message.get("MessageId", ""))
            for message in answer.get("Messages", [])
        ]

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Deletions are billed by the call: they are gathered to full batches, well within the visibility."""
        self._to_delete += [delivery.receipt for delivery in deliveries]
        if self._to_delete and self._delete_by_s is None:
            self._delete_by_s = time.monotonic() + self._delete_within_s
        while len(self._to_delete) >= BATCH_ENTRIES:
            self._delete()
        if self._delete_by_s is not None and time.monotonic() >= self._delete_by_s:
            self._delete()

    def keep(self, deliveries: Sequence[Delivery]) -> None:
        for start in range(0, len(deliveries), BATCH_ENTRIES):
            try:
                # Of an entry that fails, the message comes again, with another receipt.
                self._sqs.change_message_visibility_batch(
                    QueueUrl=self._queue_url,
                    Entries=[
                        {
                            "Id": str(i),
                            "ReceiptHandle": delivery.receipt,
                            "VisibilityTimeout": self._visibility_s,
                        }
                        for i, delivery in enumerate(deliveries[start : start + BATCH_ENTRIES])
                    ],
                )
            except (BotoCoreError, ClientError) as error:
                raise CloudError(f"keeping messages of {self._queue_url} failed: {error}") from error

    def leaving(self, deliveries: int) -> Usage:
        calls = -(-(len(self._to_delete) + deliveries) // BATCH_ENTRIES)
        return Usage({"sqs.delete_message_batch": Count(calls, calls)} if calls else {})

    def close(self) -> None:
        while self._to_delete:
            self._delete()
        self._leave()

    def abort(self) -> None:
        self._to_delete, self._delete_by_s = [], None
        self._leave()

    def _leave(self) -> None:
        self._senders.shutdown(wait=False, cancel_futures=True)
        if isinstance(self.objects, Objects):
            self.objects.close()

    def _send_batches(self, batches: Sequence[Callable[[], None]]) -> None:
        """Send several batches, some at a time; returns when all are taken, raises what one raises."""
        if len(batches) == 1:
            batches[0]()
            return
        for sent in [self._senders.submit(copy_context().run, batch) for batch in batches]:
            sent.result()

    def _delete(self) -> None:
        batch, self._to_delete = self._to_delete[:BATCH_ENTRIES], self._to_delete[BATCH_ENTRIES:]
        self._delete_by_s = time.monotonic() + self._delete_within_s if self._to_delete else None
        try:
            # One that fails comes again, and is dropped as already had.
            self._sqs.delete_message_batch(
                QueueUrl=self._queue_url,
                Entries=[{"Id": str(i), "ReceiptHandle": receipt} for i, receipt in enumerate(batch)],
            )
        except (BotoCoreError, ClientError) as error:
            raise CloudError(f"deleting from {self._queue_url} failed: {error}") from error


def _data(message: MessageTypeDef) -> bytes:
    """A message's bytes; none if it isn't one of ours."""
    attribute = message.get("MessageAttributes", {}).get(DATA)
    return attribute.get("BinaryValue", b"") if attribute else b""
