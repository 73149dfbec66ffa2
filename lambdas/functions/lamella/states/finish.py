"""Finish: end a run, whatever came of it: workers leave, slots are given back, the summary is written.

It may be called again for the same run at any time: by a retry, or by the rule on stopped executions.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Mapping
from typing import Any

from lamella.config import region
from lamella.cost import architecture_of, book_for, cost, load_book
from lamella.events import FailedAnswer, FinishEvent
from lamella.explaining import execution_history, explain
from lamella.failures import WorkerFailure, message_of, repeated_attempts, root_failure
from lamella.layout import MAX_ATTEMPTS, RunKeys
from lamella.leaving import Departure, departures, end_run, endings_of
from lamella.records import Collected, JsonUsage, PlanRecord, from_json
from lamella.report import Report, build_report, failure_of, page
from lamella.reservation import drain_repeated, release, release_after_failure
from lamella.run_metrics import count_run
from lamella.runtime import Runtime
from lamella.sealing import with_own_write
from lamella.spent import spent
from lamella.storage import Bucket
from lamella.summary import failed_status, failed_summary, summarize
from lamella.timeline import Timeline, timeline
from lamella.usage import Count, Usage, merge, step_functions_usage

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
    else:
        _clear(bucket, keys)
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
    keys = RunKeys(event.run, record.attempt)
    found = from_json(Collected, bucket.read(keys.collected), keys.collected)
    began_s = time.time()
    staying = False
    if record.failed:
        # Workers of the attempts before this one: they were told to leave then.
        earlier = departures(bucket, keys.attempts[:-1], wait_s=0)
        staying = any(departure.staying for departure in earlier)
        release_after_failure(runtime, keys, record, staying=staying)
    else:
        if any(worker.incarnation > 1 for worker in found.workers):
            drain_repeated(runtime, keys)
        release(runtime, keys, record, objects_left=any(worker.objects_left for worker in found.workers))
    used = [found.usage, *(worker.usage for worker in found.workers), *_planned(record)]
    transitions = step_functions_usage(record.plan.workers, record.attempt, record.looks)
    before = merge([*map(Usage.from_json, used), transitions, REMOVAL])
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
    if not staying:
        _remove_work(bucket, keys, record)
    return summary


def _fail(event: FinishEvent, runtime: Runtime, keys: RunKeys) -> dict[str, Any]:
    bucket = runtime.bucket
    attempts = end_run(bucket, keys, event.status)
    record = _plan_record(bucket, keys)
    staying = any(departure.staying for departure in attempts)
    # Recover may have been stopped in the middle of planning another attempt.
    release_after_failure(runtime, RunKeys(event.run, MAX_ATTEMPTS), record, staying=staying)
    root, before, endings, drawn = _root(record, attempts), REMOVAL, [], None
    answer = _explained(event, root, runtime, record)
    if record:
        last = RunKeys(event.run, record.attempt)
        workers = spent(bucket, last, record, attempts[record.attempt - 1])
        before = merge([*map(Usage.from_json, _planned(record)), workers, REMOVAL])
        endings = endings_of(bucket, last, record.plan.workers)
        drawn = timeline(record, failed_status(event), (), endings)
        bucket.write(keys.timeline, drawn.model_dump_json().encode(), JSON)
    summary = _write_summary(
        event,
        runtime,
        keys,
        lambda usage: failed_summary(event, answer, record, usage, time.time()),
        before,
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
    if record and not staying:
        _remove_work(bucket, RunKeys(event.run, MAX_ATTEMPTS), record)
    return summary


def _planned(record: PlanRecord) -> list[JsonUsage]:
    """What Plan, and Recover, used, and the attempts before the last."""
    return [record.usage, *(attempt.usage for attempt in record.failed)]


def _root(record: PlanRecord | None, attempts: list[Departure]) -> WorkerFailure | None:
    """The failure that the others of the last attempt follow from."""
    departure = attempts[record.attempt - 1 if record else 0]
    return root_failure(departure.failures, departure.staying)


def _explained(
    event: FinishEvent, root: WorkerFailure | None, runtime: Runtime, record: PlanRecord | None
) -> FailedAnswer:
    attempt, earlier = (record.attempt, record.failed) if record else (1, ())
    if root:
        workers = record.plan.workers if record else None
        answer = explain(root, runtime, RunKeys(event.run, attempt), event.execution, workers)
    elif event.error and event.error.Error:
        answer = FailedAnswer(error=event.error.Error, cause=message_of(event.error.Cause))
    else:
        what = {"ABORTED": "was stopped", "TIMED_OUT": "ran out of time"}.get(event.status, "failed")
        return FailedAnswer(error="RunAborted", cause=f"run {event.run} {what} before it was done")
    if earlier:
        cause = f"{answer.cause} (attempt {attempt}; attempt {attempt - 1}: {earlier[-1].cause})"
        return FailedAnswer(error=answer.error, cause=cause)
    return answer


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
    book = load_book(book_for(region()))
    architecture = architecture_of(platform.machine())

    def body(usage: Usage) -> bytes:
        dollars = cost(usage, book, architecture)
        return json.dumps(build(usage) | {"cost_usd": dollars, "prices": book.name}).encode()

    data = with_own_write(merge([before, REPORTS, runtime.usage()]), body)
    _write_report(runtime, keys, lambda: told(json.loads(data)), drawn)
    if not runtime.bucket.create(keys.summary, data, JSON):
        data = runtime.bucket.read(keys.summary)
    elif runtime.config.metrics:
        count_run(json.loads(data), repeated_attempts(execution_history(runtime, event.execution)))
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


def _clear(bucket: Bucket, keys: RunKeys) -> None:
    """Whoever wrote the summary may have died before it had removed the rest."""
    record, last = _plan_record(bucket, keys), RunKeys(keys.run, MAX_ATTEMPTS)
    if record and not any(departure.staying for departure in departures(bucket, last.attempts, wait_s=0)):
        _remove_work(bucket, last, record)


def _remove_work(bucket: Bucket, keys: RunKeys, record: PlanRecord) -> None:
    """What only workers needed: deleting is free, and the lifecycle rule would do it only days later."""
    workers = range(record.plan.workers)
    inputs = [keys.dealt, keys.ids, *map(keys.input, workers)]
    written = [path for each in keys.attempts for path in _of_attempt(each, workers)]
    bucket.delete([*inputs, *written])


def _of_attempt(keys: RunKeys, workers: range) -> list[str]:
    kinds = (keys.task, keys.part, keys.checkpoint, keys.ended)
    return [keys.collected, keys.items, *(kind(worker) for kind in kinds for worker in workers)]
