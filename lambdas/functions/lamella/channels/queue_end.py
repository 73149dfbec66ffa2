"""Where messages that end in an SQS queue are received, however they were sent."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from lamella.channels.base import Channel, Delivery, Source
from lamella.errors import CloudError

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

BATCH_ENTRIES = 10
# A message's bytes are a binary attribute of this name; its body, which must not be empty, is one character.
DATA = "data"
BODY = "."
VISIBILITY_S = 10
DELETE_WITHIN_S = 4  # and one long poll more, if nothing arrives meanwhile


class QueueEnd(Channel):
    """The receiving half of a channel; what sends is a subclass's.

    Parameters
    ----------
    queue_url
        Of this worker's own queue.
    """

    def __init__(self, sqs: SQSClient, queue_url: str) -> None:
        self._sqs, self._queue_url = sqs, queue_url
        self._to_delete: list[str] = []
        self._delete_by_s: float | None = None

    def receive(self, wanted: Collection[Source], wait_s: float) -> list[Delivery]:
        del wanted  # a queue gives what comes first
        try:
            answer = self._sqs.receive_message(
                QueueUrl=self._queue_url,
                MaxNumberOfMessages=BATCH_ENTRIES,
                # Whole seconds, and at least one: a shorter poll would only be a busier one.
                WaitTimeSeconds=max(1, math.floor(wait_s)) if wait_s > 0 else 0,
                VisibilityTimeout=VISIBILITY_S,
                MessageAttributeNames=[DATA],
            )
        except (BotoCoreError, ClientError) as error:
            raise CloudError(f"receiving from {self._queue_url} failed: {error}") from error
        return [Delivery(_data(message), message["ReceiptHandle"]) for message in answer.get("Messages", [])]

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Deletions are billed by the call: they are gathered to full batches, well within the visibility."""
        self._to_delete += [delivery.receipt for delivery in deliveries]
        if self._to_delete and self._delete_by_s is None:
            self._delete_by_s = time.monotonic() + DELETE_WITHIN_S
        while len(self._to_delete) >= BATCH_ENTRIES:
            self._delete()
        if self._delete_by_s is not None and time.monotonic() >= self._delete_by_s:
            self._delete()

    def close(self) -> None:
        while self._to_delete:
            self._delete()

    def _delete(self) -> None:
        batch, self._to_delete = self._to_delete[:BATCH_ENTRIES], self._to_delete[BATCH_ENTRIES:]
        self._delete_by_s = time.monotonic() + DELETE_WITHIN_S if self._to_delete else None
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
