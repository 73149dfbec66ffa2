"""SNS to SQS: all publish to one topic, whose filters pass each message to the queue of the slot it names.

This is the paper's FSD-Inf-Queue. A message's bytes are a binary attribute; its body, which must not be
empty, is one character.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from lamella.channels.base import Channel, Delivery
from lamella.errors import CloudError
from lamella.plan import SnsAddress

if TYPE_CHECKING:
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sns.type_defs import PublishBatchRequestEntryTypeDef
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

BATCH_ENTRIES = 10
BATCH_BYTES = 256 << 10  # of a publish, attributes included, unless the topic's MaximumMessageSize is raised
SLOT, DATA = "slot", "data"
BODY = "."
VISIBILITY_S = 10
DELETE_WITHIN_S = 4  # and one long poll more, if nothing arrives meanwhile
_TRIES = 6


def _overhead(slot: str) -> int:
    """Bytes of a message beside its data: body, and names, types and values of its attributes."""
    return len(BODY) + len(SLOT) + len("String") + len(slot) + len(DATA) + len("Binary")


class SnsChannel(Channel):
    """One worker's end.

    Parameters
    ----------
    worker
        Whose messages are received.
    """

    max_message_bytes = BATCH_BYTES - _overhead("9999")

    def __init__(self, sns: SNSClient, sqs: SQSClient, address: SnsAddress, worker: int) -> None:
        self._sns, self._sqs, self._address = sns, sqs, address
        self._queue_url = address.queue_urls[worker]
        self._to_delete: list[str] = []
        self._delete_by_s: float | None = None

    def send(self, messages: Sequence[tuple[int, bytes]]) -> None:
        addressed = [(str(self._address.slots[target]), data) for target, data in messages]
        for batch in pack(addressed):
            self._publish(batch)

    def receive(self, wait_s: float) -> list[Delivery]:
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

    def _publish(self, batch: Sequence[tuple[str, bytes]]) -> None:
        left: dict[str, PublishBatchRequestEntryTypeDef] = {
            str(i): {
                "Id": str(i),
                "Message": BODY,
                "MessageAttributes": {
                    SLOT: {"DataType": "String", "StringValue": slot},
                    DATA: {"DataType": "Binary", "BinaryValue": data},
                },
            }
            for i, (slot, data) in enumerate(batch)
        }
        for attempt in range(_TRIES):
            try:
                answer = self._sns.publish_batch(
                    TopicArn=self._address.topic_arn, PublishBatchRequestEntries=list(left.values())
                )
            except (BotoCoreError, ClientError) as error:
                raise CloudError(f"publishing to {self._address.topic_arn} failed: {error}") from error
            refused = answer.get("Failed", [])
            for failure in refused:
                if failure["SenderFault"]:
                    why = f"{failure['Code']}: {failure.get('Message', '')}"
                    raise CloudError(f"{self._address.topic_arn} refused a message: {why}")
            if not refused:
                return
            left = {failure["Id"]: left[failure["Id"]] for failure in refused}
            time.sleep(random.uniform(0, 0.1 * 2**attempt))  # noqa: S311
        raise CloudError(f"{self._address.topic_arn} failed to take a message {_TRIES} times")


def _data(message: MessageTypeDef) -> bytes:
    """A message's bytes; none if it isn't one of ours."""
    attribute = message.get("MessageAttributes", {}).get(DATA)
    return attribute.get("BinaryValue", b"") if attribute else b""


def pack(messages: Sequence[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    """Put messages, each (slot, data), into as few publish batches as their order allows.

    A batch is billed by 64 KiB of its total, so that a full batch wastes least.
    """
    batch: list[tuple[str, bytes]] = []
    size = 0
    for slot, data in messages:
        length = len(data) + _overhead(slot)
        if batch and (len(batch) == BATCH_ENTRIES or size + length > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append((slot, data))
        size += length
    if batch:
        yield batch
