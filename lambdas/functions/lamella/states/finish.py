"""Finish: end a run, whatever came of it: workers leave, slots are given back, the summary is written.

It may be called again for the same run at any time: by a retry, or by the rule on stopped executions.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Mapping
from typing import Any

from botocore.exceptions import ClientError

from lamella.cost import Architecture, cost, load_book
from lamella.errors import GangIncomplete
from lamella.events import FailedAnswer, FinishEvent
from lamella.failures import WorkerFailure, death_of, message_of, repeated_attempts, root_failure
from lamella.gang import TURNED_AWAY, turned_away
from lamella.layout import RunKeys
from lamella.leaving import end_workers, endings_of
from lamella.records import Collected, PlanRecord, from_json
from lamella.report import Report, build_report, failure_of, page
from lamella.reservation import release, release_after_failure
from lamella.run_metrics import count_run
from lamella.runtime import Runtime
from lamella.sealing import with_own_write
from lamella.storage import Bucket
from lamella.summary import failed_status, failed_summary, summarize
from lamella.timeline import Timeline, timeline
from lamella.usage import Count, Usage, merge, step_functions_usage

HISTORY_EVENTS = 10_000
INCOMPLETE = GangIncomplete.__name__
JSON = "application/json"
# Of what only workers needed: it comes after the summary that counts it.
REMOVAL = Usage({"s3.delete_objects": Count(calls=1)})
# The report and its page tell what all else cost, so their bytes, which are not billed, are not in it.
REPORTS = Usage({"s3.put_object": Count(calls=2, billed=2)})


def finish_run(event: FinishEvent, runtime: Runtime) -> dict[str, Any]:
    """End a run; its summary, or for a failed one what the Fail state shows."""
    bucket, keys = runtime.bucket, RunKeys(event.run)
    summary = _written(bucket, keys.summary)
    if summary is None:
        summary = (
            _succeed(event, runtime, keys) if event.status == "SUCCEEDED" else _fail(event, runtime, keys)
        )
    if summary["status"] == "SUCCEEDED":
        return {name: summary[name] for name in summary if name != "workers_detail"}
    return FailedAnswer(error=summary["error"], cause=summary["cause"]).model_dump()


def _written(bucket: Bucket, key: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(bucket.read(key))
    except FileNotFoundError:
        return None
    return found


def _succeed(event: FinishEvent, runtime: Runtime, keys: RunKeys) -> dict[str, Any]:
    bucket = runtime.bucket
    record = from_json(PlanRecord, bucket.read(keys.plan), keys.plan)
    found = from_json(Collected, bucket.read(keys.collected), keys.collected)
    began_s = time.time()
    release(runtime, keys, record, objects_left=any(worker.objects_left for worker in found.workers))
    used = [
        Usage.from_json(usage) for usage in (record.usage, found.usage, *(w.usage for w in found.workers))
    ]
    before = merge([*used, step_functions_usage(record.plan.workers), REMOVAL])
    drawn = timeline(
        record,
        event.status,
        found.workers,
        collected_s=(found.started_s, found.ended_s) if found.ended_s else None,
        finish_s=(began_s, time.time()),
    )
    bucket.write(keys.timeline, drawn.model_dump_json().encode(), JSON)
    summary = _write_summary(
        event,
        runtime,
        keys,
        lambda usage: summarize(record, found, bucket.bucket, keys, usage, time.time()),
        before,
        lambda summary: build_report(
            summary, record, drawn, found.workers, timeline=bucket.location(keys.timeline)
        ),
        drawn,
    )
    # Last: whoever finishes this run again needs the summary, or all that it is made of.
    _remove_work(bucket, keys, record)
    return summary


def _fail(event: FinishEvent, runtime: Runtime, keys: RunKeys) -> dict[str, Any]:
    bucket = runtime.bucket
    failures, silent = end_workers(bucket, keys, event.status)
    record = _plan_record(bucket, keys)
    release_after_failure(runtime, keys, record, staying=bool(silent))
    root = root_failure(failures, silent)
    answer = _explain(event, root, runtime, keys, record)
    endings = endings_of(bucket, keys, record.plan.workers) if record else []
    drawn = None
    if record:
        drawn = timeline(record, failed_status(event), (), endings)
        bucket.write(keys.timeline, drawn.model_dump_json().encode(), JSON)
    summary = _write_summary(
        event,
        runtime,
        keys,
        lambda usage: failed_summary(event, answer, record, usage, time.time()),
        REMOVAL,
        lambda summary: build_report(
            summary,
            record,
            drawn,
            [ending.report for ending in endings],
            failure_of(answer.error, answer.cause, root.worker if root else None, endings),
            timeline=bucket.location(keys.timeline) if record else None,
        ),
        drawn,
    )
    if record and not silent:
        _remove_work(bucket, keys, record)
    return summary


def _write_summary(
    event: FinishEvent,
    runtime: Runtime,
    keys: RunKeys,
    build: Callable[[Usage], dict[str, Any]],
    before: Usage,
    told: Callable[[Mapping[str, Any]], Report],
    drawn: Timeline | None,
) -> dict[str, Any]:
    """The run's summary: of two who write it at a time, the first one's; who also has the run counted."""
    book = load_book()
    architecture: Architecture = "arm64" if platform.machine() == "aarch64" else "x86_64"

    def body(usage: Usage) -> bytes:
        dollars = cost(usage, book, architecture)
        return json.dumps(build(usage) | {"cost_usd": dollars, "prices": book.name}).encode()

    data = with_own_write(merge([before, REPORTS, runtime.usage()]), body)
    _write_report(runtime, keys, lambda: told(json.loads(data)), drawn)
    if not runtime.bucket.create(keys.summary, data, JSON):
        data = runtime.bucket.read(keys.summary)
    elif runtime.config.metrics:
        count_run(json.loads(data), repeated_attempts(_history(runtime, event.execution)))
    summary: dict[str, Any] = json.loads(data)
    return summary


def _write_report(
    runtime: Runtime, keys: RunKeys, build: Callable[[], Report], drawn: Timeline | None
) -> None:
    """The run's report and its page: before the summary, with which the run is over."""
    try:
        report = build()
        shown = page(report, drawn)
    except Exception:
        # Better a run without a picture of it than none.
        runtime.logger.exception("the report could not be made")
        return
    runtime.bucket.write(keys.report, report.model_dump_json().encode(), JSON)
    runtime.bucket.write(keys.report_page, shown.encode(), "text/html; charset=utf-8")


def _plan_record(bucket: Bucket, keys: RunKeys) -> PlanRecord | None:
    try:
        return from_json(PlanRecord, bucket.read(keys.plan), keys.plan)
    except FileNotFoundError:
        return None


def _remove_work(bucket: Bucket, keys: RunKeys, record: PlanRecord) -> None:
    """What only workers needed: deleting is free, and the lifecycle rule would do it only days later."""
    workers = range(record.plan.workers)
    kinds = (keys.task, keys.input, keys.part, keys.started, keys.ended)
    shared = [keys.collected, keys.items, keys.dealt, keys.ids]
    bucket.delete([*shared, *(kind(worker) for kind in kinds for worker in workers)])


def _explain(
    event: FinishEvent, root: WorkerFailure | None, runtime: Runtime, keys: RunKeys, record: PlanRecord | None
) -> FailedAnswer:
    if root and root.error == INCOMPLETE:
        return FailedAnswer(error=INCOMPLETE, cause=root.message)
    if root and record and root.error == TURNED_AWAY:
        cause = turned_away(root.worker, runtime.bucket, keys, record.plan.workers)
        return FailedAnswer(error=INCOMPLETE, cause=cause)
    if root:
        events = _history(runtime, root.execution or event.execution) if root.error == "WorkerError" else []
        root = death_of(root.worker, events) or root
        return FailedAnswer(
            error="WorkerError", cause=f"worker {root.worker} failed: {root.error}: {root.message}"
        )
    if event.error and event.error.Error:
        return FailedAnswer(error=event.error.Error, cause=message_of(event.error.Cause))
    what = {"ABORTED": "was stopped", "TIMED_OUT": "ran out of time"}.get(event.status, "failed")
    return FailedAnswer(error="RunAborted", cause=f"run {event.run} {what} before it was done")


def _history(runtime: Runtime, execution: str) -> list[Mapping[str, Any]]:
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
