"""SNS to SQS: all publish to one topic, whose filters pass each message to the queue of the slot it names.

This is the paper's FSD-Inf-Queue.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from lamella.channels.base import Place
from lamella.channels.batches import pack, send_all
from lamella.channels.queue_end import BODY, DATA, QueueEnd
from lamella.errors import CloudError
from lamella.plan import SnsAddress
from lamella.slots import slot_name

if TYPE_CHECKING:
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sns.type_defs import BatchResultErrorEntryTypeDef, PublishBatchRequestEntryTypeDef
    from mypy_boto3_sqs import SQSClient

BATCH_BYTES = 256 << 10  # of a publish, attributes included, unless the topic's MaximumMessageSize is raised
SLOT = "slot"


def _overhead_bytes(slot: str) -> int:
    """Of a message beside its data: body, and names, types and values of its attributes."""
    return len(BODY) + len(SLOT) + len("String") + len(slot) + len(DATA) + len("Binary")


class SnsChannel(QueueEnd):
    """One worker's end.

    Parameters
    ----------
    worker
        Whose messages are received.
    """

    max_message_bytes = BATCH_BYTES - _overhead_bytes("9999")

    def __init__(self, sns: SNSClient, sqs: SQSClient, address: SnsAddress, worker: int) -> None:
        super().__init__(sqs, address.queue_urls[worker])
        self._sns, self._address = sns, address

    def send(self, place: Place, messages: Sequence[tuple[int, bytes]]) -> None:
        del place  # the message says it
        addressed = [(slot_name(self._address.slots[target]), data) for target, data in messages]
        for batch in pack(addressed, _size_bytes, BATCH_BYTES):
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
    return len(data) + _overhead_bytes(slot)
