"""Why a run failed: pure functions over what workers, states and the execution's history left."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lamella.errors import LamellaError

# Errors that follow from another worker's.
WAITED = "DeadlineExceeded"
_CONSEQUENCES = {"RunAborted", "Superseded", WAITED}
# After these a worker is started again. Without checkpoints it then finds that it had begun before.
DEATHS = frozenset({"Runtime.ExitError", "Runtime.OutOfMemory", "Sandbox.Timedout", "Lambda.Unknown"})
PASSING = frozenset({"CloudError", "MessageError", "Superseded"})
"""A worker's own errors of which the same may not happen again."""
NO_ANSWER = "NoAnswer"
# Of the host, of a service or on the way to it; none that the model, the input or the account's quota causes.
_MAY_PASS = DEATHS | {
    NO_ANSWER,
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "ClientError",
    "ConnectTimeoutError",
    "ConnectionClosedError",
    "EndpointConnectionError",
    "ReadTimeoutError",
    "ResponseStreamingError",
}


@dataclass(frozen=True)
class WorkerFailure:
    """A worker's own error, as its Catch wrote it.

    Attributes
    ----------
    failed_at
        When, as Step Functions writes it: sorts by time.
    execution
        ARN of the execution that the worker was started by: a Distributed Map's workers have one each.
    """

    worker: int
    error: str
    message: str
    failed_at: str = ""
    execution: str = ""


def parse_failure(worker: int, data: bytes) -> WorkerFailure:
    """Read ``runs/ID/errors/ATTEMPT/WORKER.json``; what is no such thing is shown as it is."""
    try:
        body = json.loads(data)
        error, cause = str(body["error"]["Error"]), str(body["error"].get("Cause", ""))
        failed_at, execution = str(body.get("failed_at", "")), str(body.get("execution", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        error, cause, failed_at, execution = "Unknown", data.decode(errors="replace"), "", ""
    return WorkerFailure(worker, error, message_of(cause), failed_at, execution)


def message_of(cause: str) -> str:
    """The message in a Lambda error's Cause, on one line; the cause itself where it holds none."""
    try:
        body = json.loads(cause)
    except ValueError:
        body = None
    text = body.get("errorMessage", cause) if isinstance(body, dict) else cause
    return " ".join(str(text).split())


def root_failure(failures: Iterable[WorkerFailure], silent: Collection[int] = ()) -> WorkerFailure | None:
    """The one that the others follow from, as far as their kinds and times tell.

    Parameters
    ----------
    silent
        Workers that had begun and neither ended nor failed: where others waited in vain, it was for them.
    """
    ordered = sorted(failures, key=lambda f: (f.error in _CONSEQUENCES, f.failed_at, f.worker))
    if not ordered:
        return None
    root = ordered[0]
    if root.error == WAITED and silent:
        return WorkerFailure(min(silent), NO_ANSWER, f"worker {root.worker}, at {root.message}")
    return root


def may_pass(error: str) -> bool:
    """Whether an attempt that failed by an error, named as Step Functions does, may succeed once more."""
    return error in _MAY_PASS or any(
        kind.__name__ == error and kind.may_pass for kind in _kinds(LamellaError)
    )


def _kinds(kind: type[LamellaError]) -> Iterable[type[LamellaError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _kinds(below)


def death_of(worker: int, events: Sequence[Mapping[str, Any]], attempt: int = 1) -> WorkerFailure | None:
    """Why a worker was started again at first in an attempt, from the history of who started it.

    Parameters
    ----------
    events
        Of GetExecutionHistory.
    """
    by_id = {event["id"]: event for event in events}
    for event in events:
        details = event.get("taskFailedEventDetails") or event.get("lambdaFunctionFailedEventDetails") or {}
        if details.get("error") not in DEATHS | PASSING:
            continue
        scheduled: Mapping[str, Any] | None = event
        while scheduled is not None and "taskScheduledEventDetails" not in scheduled:
            scheduled = by_id.get(scheduled.get("previousEventId", 0))
        if scheduled is not None and _scheduled(scheduled) == (attempt, worker):
            return WorkerFailure(worker, details["error"], message_of(details.get("cause", "")))
    return None


def repeated_attempts(events: Iterable[Mapping[str, Any]]) -> int:
    """How often a worker was started again within an attempt, from the execution's history.

    A Distributed Map's workers have executions, and histories, of their own: they aren't seen here.

    Parameters
    ----------
    events
        Of GetExecutionHistory.
    """
    started = [worker for event in events if (worker := _scheduled(event)) is not None]
    return len(started) - len(set(started))


def _scheduled(event: Mapping[str, Any]) -> tuple[int, int] | None:
    """Attempt and worker whose function a TaskScheduled event calls; None for any other event."""
    try:
        payload = json.loads(event["taskScheduledEventDetails"]["parameters"])["Payload"]
        return int(payload["attempt"]), int(payload["worker"])
    except (ValueError, KeyError, TypeError):
        return None
