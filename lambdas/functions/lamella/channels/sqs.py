"""SQS alone: a queue for each worker of a run, to which its peers send directly."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from lamella.channels.base import Place
from lamella.channels.batches import send_all
from lamella.channels.objects import Objects
from lamella.channels.packing import pack
from lamella.channels.queue_end import QueueEnd
from lamella.channels.wire import BODY, DATA, SQS_BATCH_BYTES, SQS_MESSAGE_BYTES, sqs_size_bytes
from lamella.errors import CloudError
from lamella.plan import SqsAddress

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import BatchResultErrorEntryTypeDef, SendMessageBatchRequestEntryTypeDef


class SqsChannel(QueueEnd):
    """One worker's end.

    Parameters
    ----------
    worker
        Whose messages are received.
    held
        As of a `QueueEnd`.
    """

    kind = "sqs"
    max_message_bytes = SQS_MESSAGE_BYTES

    def __init__(
        self,
        sqs: SQSClient,
        address: SqsAddress,
        worker: int,
        objects: Objects | None = None,
        *,
        held: bool = False,
    ) -> None:
        super().__init__(sqs, address.queue_urls[worker], objects, held=held)
        self._urls = address.queue_urls

    def send(self, place: Place, messages: Sequence[tuple[int, bytes]]) -> None:
        del place  # the message says it
        by_target: defaultdict[int, list[bytes]] = defaultdict(list)
        for target, data in messages:
            by_target[target].append(data)
        self._send_batches(
            [
                partial(self._send_batch, self._urls[target], batch)
                for target, bodies in by_target.items()
                for batch in pack(bodies, lambda data: sqs_size_bytes(len(data)), SQS_BATCH_BYTES)
            ]
        )

    def _send_batch(self, url: str, batch: Sequence[bytes]) -> None:
        def call(
            entries: list[SendMessageBatchRequestEntryTypeDef],
        ) -> Sequence[BatchResultErrorEntryTypeDef]:
            try:
                answer = self._sqs.send_message_batch(QueueUrl=url, Entries=entries)
            except (BotoCoreError, ClientError) as error:
                raise CloudError(f"sending to {url} failed: {error}") from error
            return answer.get("Failed", [])

        entries: dict[str, SendMessageBatchRequestEntryTypeDef] = {
            str(i): {
                "Id": str(i),
                "MessageBody": BODY,
                "MessageAttributes": {DATA: {"DataType": "Binary", "BinaryValue": data}},
            }
            for i, data in enumerate(batch)
        }
        send_all(entries, call, url)
