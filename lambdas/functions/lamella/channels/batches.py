"""Messages in batch calls: packed to a service's limits, and sent until each entry is taken."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NotRequired, TypedDict, TypeVar

from lamella.channels.queue_end import BATCH_ENTRIES
from lamella.errors import CloudError

_TRIES = 6


class Failure(TypedDict):
    """An entry that was not taken, as SNS and SQS tell of it."""

    Id: str
    SenderFault: bool
    Code: str
    Message: NotRequired[str]


_Message = TypeVar("_Message")
_Entry = TypeVar("_Entry")


def pack(
    messages: Sequence[_Message], size_bytes: Callable[[_Message], int], batch_bytes: int
) -> Iterator[list[_Message]]:
    """Put messages into as few batches as their order allows.

    A batch is billed by 64 KiB of its total, so that a full batch wastes least.

    Parameters
    ----------
    size_bytes
        What the service counts for a message, attributes included.
    batch_bytes
        What it takes in one call.
    """
    batch: list[_Message] = []
    size = 0
    for message in messages:
        length = size_bytes(message)
        if batch and (len(batch) == BATCH_ENTRIES or size + length > batch_bytes):
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += length
    if batch:
        yield batch


def send_all(
    entries: Mapping[str, _Entry], call: Callable[[list[_Entry]], Sequence[Failure]], where: str
) -> None:
    """Make a batch call, and again for the entries that failed on the service's side.

    Parameters
    ----------
    entries
        By their id in the batch.
    call
        Sends entries; returns those that failed.

    Raises
    ------
    CloudError
        If an entry is refused for its own fault, or was not taken after several tries.
    """
    left = dict(entries)
    for attempt in range(_TRIES):
        refused = call(list(left.values()))
        for failure in refused:
            if failure["SenderFault"]:
                why = f"{failure['Code']}: {failure.get('Message', '')}"
                raise CloudError(f"{where} refused a message: {why}")
        if not refused:
            return
        left = {failure["Id"]: left[failure["Id"]] for failure in refused}
        time.sleep(random.uniform(0, 0.1 * 2**attempt))  # noqa: S311
    raise CloudError(f"{where} failed to take a message {_TRIES} times")
