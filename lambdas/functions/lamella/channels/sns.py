"""SNS to SQS: all publish to one topic, whose filters pass each message to the queue of the slot it names.

This is the paper's FSD-Inf-Queue.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from lamella.channels.base import Place
from lamella.channels.batches import send_all
from lamella.channels.objects import Objects
from lamella.channels.packing import pack
from lamella.channels.queue_end import QueueEnd
from lamella.channels.wire import BODY, DATA, SLOT, SNS_BATCH_BYTES, SNS_MESSAGE_BYTES, sns_size_bytes
from lamella.errors import CloudError
from lamella.plan import SnsAddress
from lamella.slots import slot_name

if TYPE_CHECKING:
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sns.type_defs import BatchResultErrorEntryTypeDef, PublishBatchRequestEntryTypeDef
    from mypy_boto3_sqs import SQSClient


class SnsChannel(QueueEnd):
    """One worker's end.

    Parameters
    ----------
    worker
        Whose messages are received.
    held
        As of a `QueueEnd`.
    """

    kind = "sns"
    max_message_bytes = SNS_MESSAGE_BYTES

    def __init__(
        self,
        sns: SNSClient,
        sqs: SQSClient,
        address: SnsAddress,
        worker: int,
        objects: Objects | None = None,
        *,
        held: bool = False,
    ) -> None:
        super().__init__(sqs, address.queue_urls[worker], objects, held=held)
        self._sns, self._address = sns, address

    def send(self, place: Place, messages: Sequence[tuple[int, bytes]]) -> None:
        del place  # the message says it
        addressed = [(slot_name(self._address.slots[target]), data) for target, data in messages]
        batches = pack(addressed, _size_bytes, SNS_BATCH_BYTES)
        self._send_batches([partial(self._send_batch, batch) for batch in batches])

    def _send_batch(self, batch: Sequence[tuple[str, bytes]]) -> None:
        entries: dict[str, PublishBatchRequestEntryTypeDef] = {
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
        send_all(entries, self._publish, self._address.topic_arn)

    def _publish(
        self, entries: list[PublishBatchRequestEntryTypeDef]
    ) -> Sequence[BatchResultErrorEntryTypeDef]:
        topic = self._address.topic_arn
        try:
            answer = self._sns.publish_batch(TopicArn=topic, PublishBatchRequestEntries=entries)
        except (BotoCoreError, ClientError) as error:
            raise CloudError(f"publishing to {topic} failed: {error}") from error
        return answer.get("Failed", [])


def _size_bytes(message: tuple[str, bytes]) -> int:
    slot, data = message
    return sns_size_bytes(len(data), slot)
