"""Why a run failed: pure functions over what workers, states and the execution's history left."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Errors that follow from another worker's.
_CONSEQUENCES = {"RunAborted", "DeadlineExceeded"}
# After these a worker is started again, and then finds that it had begun before.
DEATHS = {"Runtime.ExitError", "Sandbox.Timedout", "Lambda.Unknown"}


@dataclass(frozen=True)
class WorkerFailure:
    """A worker's own error, as its Catch wrote it."""

    worker: int
    error: str
    message: str


def parse_failure(worker: int, data: bytes) -> WorkerFailure:
    """Read ``runs/ID/errors/WORKER.json``."""
    try:
        body = json.loads(data)
        error, cause = str(body.get("Error", "")), str(body.get("Cause", ""))
    except (ValueError, AttributeError):
        error, cause = "Unknown", data.decode(errors="replace")
    return WorkerFailure(worker, error or "Unknown", message_of(cause))


def message_of(cause: str) -> str:
    """The message in a Lambda error's Cause, on one line; the cause itself where it holds none."""
    try:
        body = json.loads(cause)
    except ValueError:
        body = None
    text = body.get("errorMessage", cause) if isinstance(body, dict) else cause
    return " ".join(str(text).split())


def root_failure(failures: Iterable[WorkerFailure]) -> WorkerFailure | None:
    """The one that the others follow from, as far as their kinds tell; the lowest worker of equals."""
    ordered = sorted(failures, key=lambda failure: (failure.error in _CONSEQUENCES, failure.worker))
    return ordered[0] if ordered else None


def death_of(worker: int, events: Sequence[Mapping[str, Any]]) -> WorkerFailure | None:
    """How a worker's function died at first, from the execution's history.

    Parameters
    ----------
    events
        Of GetExecutionHistory.
    """
    by_id = {event["id"]: event for event in events}
    for event in events:
        details = event.get("taskFailedEventDetails") or event.get("lambdaFunctionFailedEventDetails") or {}
        if details.get("error") not in DEATHS:
            continue
        scheduled: Mapping[str, Any] | None = event
        while scheduled is not None and "taskScheduledEventDetails" not in scheduled:
            scheduled = by_id.get(scheduled.get("previousEventId", 0))
        if scheduled is None:
            continue
        try:
            payload = json.loads(scheduled["taskScheduledEventDetails"]["parameters"])["Payload"]
        except (ValueError, KeyError, TypeError):
            continue
        if isinstance(payload, dict) and payload.get("worker") == worker:
            return WorkerFailure(worker, details["error"], message_of(details.get("cause", "")))
    return None
