"""Recover: end an attempt at a run that failed, and have the workers launched once more if that may help.

The next attempt computes what the first was to: the same plan, tasks and inputs, with another number, other
queues, and what is left of the run's one deadline. Doing it again, even at the same time, gives the same.
"""

from __future__ import annotations

import dataclasses
import time
from concurrent.futures import ThreadPoolExecutor

from lamella.attempts import is_worth_another
from lamella.errors import LeaseError
from lamella.events import FailedAnswer, PlanAnswer, RecoverEvent, StateError
from lamella.explaining import explain
from lamella.failures import WorkerFailure, may_pass, root_failure
from lamella.layout import MAX_ATTEMPTS, RunKeys
from lamella.leaving import end_attempt, failures_of
from lamella.plan import Address, parse_assignment
from lamella.records import FailedAttempt, PlanRecord, from_json, to_json
from lamella.reservation import release_attempt, reserve
from lamella.runtime import Runtime
from lamella.sealing import with_own_write
from lamella.spent import spent
from lamella.states.launching import launch
from lamella.storage import Bucket
from lamella.usage import Usage

WRITERS = 16
JSON = "application/json"


def recover_run(event: RecoverEvent, runtime: Runtime) -> PlanAnswer | StateError:
    """The next attempt at a run, planned; or the error that the run is to fail by.

    Raises
    ------
    RunAborted
        If the run was ended meanwhile.
    CloudError
        As `reserve`.
    """
    failed_s = time.time()
    bucket, keys = runtime.bucket, RunKeys(event.run, event.attempt)
    if event.attempt >= MAX_ATTEMPTS:
        return event.error
    record = from_json(PlanRecord, bucket.read(keys.plan), keys.plan)
    if record.attempt > event.attempt:
        return launch(runtime, keys.next_attempt, record.plan)
    seen = root_failure(failures_of(bucket, keys)) or _told(event)
    if not may_pass(seen.error):
        return event.error
    departure = end_attempt(bucket, keys)
    root = root_failure(departure.failures, departure.staying) or seen
    left_s = record.deadline_s - time.time()
    if not is_worth_another(event.attempt, root.error, record.started_s, failed_s, left_s):
        runtime.logger.info("not launched again", error=root.error, left_s=round(left_s, 1))
        return event.error
    why = explain(root, runtime, keys, event.execution, record.plan.workers)
    runtime.logger.warning("launching the workers again", error=why.error, cause=why.cause)
    release_attempt(runtime, keys)
    try:
        channel = reserve(runtime, keys.next_attempt, record.plan, record.deadline_s)
    except LeaseError as less:
        # The account may run fewer functions than it did: why the first attempt failed says more.
        runtime.logger.warning("not launched again", error=root.error, lease=str(less))
        return event.error
    _write_tasks(bucket, keys, record, channel, runtime.config.start_deadline_s)
    answer = launch(runtime, keys.next_attempt, record.plan)
    workers = spent(bucket, keys, record, departure)
    # Last: it says that all of the attempt is there.
    _write_record(runtime, keys, record, why, failed_s, workers)
    return answer


def _told(event: RecoverEvent) -> WorkerFailure:
    """The failure as the Map told it, where no worker's own error could be written."""
    return WorkerFailure(0, event.error.Error, event.error.Cause)


def _write_tasks(
    bucket: Bucket, keys: RunKeys, record: PlanRecord, channel: Address | None, start_within_s: float
) -> None:
    """The workers' tasks, as they were but for what is the attempt's own."""
    start_by_s = time.time() + start_within_s

    def write(worker: int) -> None:
        path = keys.task(worker)
        assignment = parse_assignment(bucket.read(path), bucket.location(path))
        again = dataclasses.replace(
            assignment,
            attempt=keys.next_attempt.attempt,
            channel=channel,
            start_by_s=start_by_s,
            start_within_s=start_within_s,
        )
        bucket.write(keys.next_attempt.task(worker), again.to_bytes())

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(write, range(record.plan.workers)))


def _write_record(
    runtime: Runtime,
    keys: RunKeys,
    record: PlanRecord,
    why: FailedAnswer,
    failed_s: float,
    workers: Usage,
) -> None:
    failed = FailedAttempt(why.error, why.cause, failed_s - record.started_s, workers.to_json())

    def body(usage: Usage) -> bytes:
        return to_json(
            dataclasses.replace(
                record,
                attempt=keys.next_attempt.attempt,
                usage=(Usage.from_json(record.usage) + usage).to_json(),
                failed=(*record.failed, failed),
            )
        )

    runtime.bucket.write(keys.plan, with_own_write(runtime.usage(), body), JSON)
