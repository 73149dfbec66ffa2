"""Why an attempt at a run failed, in the words that its user sees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from lamella.errors import GangIncomplete
from lamella.events import FailedAnswer
from lamella.failures import WorkerFailure, death_of
from lamella.gang import TURNED_AWAY, turned_away
from lamella.layout import RunKeys
from lamella.runtime import Runtime

HISTORY_EVENTS = 10_000
INCOMPLETE = GangIncomplete.__name__


def explain(
    root: WorkerFailure, runtime: Runtime, keys: RunKeys, execution: str, workers: int | None
) -> FailedAnswer:
    """An attempt's failure, by the error that the others follow from.

    Parameters
    ----------
    execution
        ARN of the run's.
    workers
        How many were launched, if that is known.
    """
    if root.error == INCOMPLETE:
        return FailedAnswer(error=INCOMPLETE, cause=root.message)
    if workers and root.error == TURNED_AWAY:
        cause = turned_away(root.worker, runtime.bucket, keys, workers)
        return FailedAnswer(error=INCOMPLETE, cause=cause)
    events = execution_history(runtime, root.execution or execution) if root.error == "WorkerError" else []
    root = death_of(root.worker, events, keys.attempt) or root
    return FailedAnswer(
        error="WorkerError", cause=f"worker {root.worker} failed: {root.error}: {root.message}"
    )


def execution_history(runtime: Runtime, execution: str) -> list[Mapping[str, Any]]:
    """The execution's events, oldest first; what can't be read is only missed in a message."""
    events: list[Mapping[str, Any]] = []
    pages = runtime.stepfunctions.get_paginator("get_execution_history").paginate(
        executionArn=execution, PaginationConfig={"MaxItems": HISTORY_EVENTS, "PageSize": 1000}
    )
    try:
        for page in pages:
            events += page["events"]
    except ClientError as error:
        runtime.logger.warning("the execution's history can't be read", error=str(error))
    return events
