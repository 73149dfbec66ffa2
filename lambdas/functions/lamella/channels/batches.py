"""Messages in batch calls: packed to a service's limits, and sent until each entry is taken."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NotRequired, TypedDict, TypeVar

from lamella.errors import CloudError

_TRIES = 6


class Failure(TypedDict):
    """An entry that was not taken, as SNS and SQS tell of it."""

    Id: str
    SenderFault: bool
    Code: str
    Message: NotRequired[str]


_Entry = TypeVar("_Entry")


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
