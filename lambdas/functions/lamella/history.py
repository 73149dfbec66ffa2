"""The runs that a stack has had, whoever started them: by hand, by a schedule or upload, or from here."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

from botocore.exceptions import ClientError

from lamella.client import RunHandle, Stack, explained
from lamella.errors import CloudError, InputError
from lamella.events import RUN_ID
from lamella.layout import RunKeys

_READERS = 16
_PAGE = 100


@dataclass(frozen=True)
class PastRun:
    """A run as a list shows it.

    Attributes
    ----------
    started_s
        Unix time.
    seconds
        From start to end of the execution; None while it runs.
    strategy, workers, cost_usd
        As its summary says; None where there is none (it runs, or the summary has expired), and where the
        run failed before that was planned.
    """

    run_id: str
    status: str
    started_s: float
    seconds: float | None
    strategy: str | None
    workers: int | None
    cost_usd: float | None


def recent_runs(stack: Stack, limit: int) -> list[PastRun]:
    """The latest ``limit`` runs of the last 90 days, the newest first."""
    with explained(f"listing the runs of stack {stack.name}"):
        pages = stack.clients.stepfunctions.get_paginator("list_executions").paginate(
            stateMachineArn=stack.state_machine_arn, PaginationConfig={"PageSize": min(limit, _PAGE)}
        )
        listed = list(islice((item for page in pages for item in page["executions"]), limit))
        with ThreadPoolExecutor(_READERS) as pool:
            summaries = pool.map(lambda item: _summary(stack, item["name"]), listed)
            return [_past(dict(item), summary) for item, summary in zip(listed, summaries, strict=True)]


def find_run(stack: Stack, run_id: str) -> RunHandle:
    """A run of the stack by its id, which is its execution's name.

    Raises
    ------
    InputError
        If there is none.
    """
    absent = InputError(f"stack {stack.name} has no run {run_id!r}: see 'lamella runs'")
    if not re.fullmatch(RUN_ID, run_id):
        raise absent
    arn = RunHandle(stack, run_id, 0.0).execution_arn
    try:
        with explained(f"looking for run {run_id}"):
            found = stack.clients.stepfunctions.describe_execution(executionArn=arn)
    except CloudError as error:
        cause = error.__cause__
        if isinstance(cause, ClientError) and cause.response["Error"].get("Code") == "ExecutionDoesNotExist":
            raise absent from error
        raise
    return RunHandle(stack, run_id, found["startDate"].timestamp())


def _summary(stack: Stack, run_id: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(stack.files().read(RunKeys(run_id).summary))
    except FileNotFoundError:
        return {}
    return found


def _past(execution: dict[str, Any], summary: dict[str, Any]) -> PastRun:
    started, ended = execution["startDate"], execution.get("stopDate")
    return PastRun(
        execution["name"],
        execution["status"],
        started.timestamp(),
        round((ended - started).total_seconds(), 3) if ended else None,
        summary.get("strategy"),
        summary.get("workers"),
        summary.get("cost_usd", {}).get("total"),
    )
