"""CloudFormation's custom resources: doing what it asks, and giving the answer that it waits for.

Of the standard library alone: what can't be imported is answered too, and not with an hour's silence.
docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref.html
"""

from __future__ import annotations

import json
import logging
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, Protocol

ENDING_S = 45.0  # kept back of the function's time for the answer and its retries
REASON_CHARACTERS = 1000  # the whole answer may have 4,096 bytes
TRIES = 5
ANSWER_TIMEOUT_S = 5.0

_logger = logging.getLogger(__name__)


class TimeLimited(Protocol):
    """What is needed of Lambda's context."""

    def get_remaining_time_in_millis(self) -> int: ...


def serve(
    event: Mapping[str, Any],
    context: TimeLimited,
    physical_id: str,
    delete: Callable[[Mapping[str, Any]], None],
) -> None:
    """Answer a request of CloudFormation, whatever happens: only ``Delete`` has something done.

    Parameters
    ----------
    physical_id
        Always the same, so that no update replaces, and so deletes, the resource.
    delete
        May be called again after it failed. What it raises becomes the reason of the failure.
    """
    reason = ""
    if event["RequestType"] == "Delete":
        reason = _failure(delete, event, context.get_remaining_time_in_millis() / 1000 - ENDING_S)
    answer = {
        "Status": "FAILED" if reason else "SUCCESS",
        "Reason": reason[:REASON_CHARACTERS],
        "PhysicalResourceId": physical_id,
        **{name: event[name] for name in ("StackId", "RequestId", "LogicalResourceId")},
    }
    _put(event["ResponseURL"], json.dumps(answer).encode())


def _failure(delete: Callable[[Mapping[str, Any]], None], event: Mapping[str, Any], seconds: float) -> str:
    """What went wrong; nothing if nothing did."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            delete(event)
        except BaseException as error:
            _logger.exception("deletion failed")
            raised.append(error)

    # A thread, as a call to AWS may outlast the function. It is left behind: what it does may be done twice.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(max(seconds, 0.0))
    if thread.is_alive():
        return f"not done within {seconds:.0f} s: delete the stack again, it goes on where it stopped"
    return f"{type(raised[0]).__name__}: {raised[0]}" if raised else ""


def _put(url: str, body: bytes) -> None:
    for attempt in range(TRIES):
        # Signed without a content type; urllib would add one.
        request = urllib.request.Request(  # noqa: S310 (CloudFormation's own URL)
            url, data=body, method="PUT", headers={"Content-Type": ""}
        )
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_TIMEOUT_S):  # noqa: S310
                return
        except OSError:
            if attempt == TRIES - 1:
                raise
            time.sleep(0.5 * 2**attempt)
