"""Empty the queues that a run leaves."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from lamella.channels.packing import BATCH_ENTRIES
from lamella.channels.queue_end import VISIBILITY_S

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.literals import QueueAttributeNameType

_COUNTS: tuple[QueueAttributeNameType, ...] = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)


def drain(
    sqs: SQSClient,
    queue_urls: Sequence[str],
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> None:
    """Delete every message, also those that a dead worker had received: they come again.

    PurgeQueue would do it in one call, but it goes on deleting for up to 60 s, also what the next run sends.
    The wait is bounded: a later run drops what is left as another's. A queue that somebody has deleted is
    empty: the run that it was taken from has failed for want of it, and has to end all the same.
    """
    until_s = clock() + VISIBILITY_S + 2

    def empty(url: str) -> None:
        with contextlib.suppress(sqs.exceptions.QueueDoesNotExist):
            empty_one(url)

    def empty_one(url: str) -> None:
        while clock() < until_s:
            answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=BATCH_ENTRIES, WaitTimeSeconds=0)
            messages = answer.get("Messages", [])
            if messages:
                sqs.delete_message_batch(
                    QueueUrl=url,
                    Entries=[
                        {"Id": str(i), "ReceiptHandle": message["ReceiptHandle"]}
                        for i, message in enumerate(messages)
                    ],
                )
                continue
            counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=_COUNTS)["Attributes"]
            if not any(int(counts[name]) for name in _COUNTS):
                return
            sleep(0.5)

    if queue_urls:
        with ThreadPoolExecutor(len(queue_urls)) as pool:
            list(pool.map(empty, queue_urls))
