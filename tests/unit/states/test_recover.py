"""Recover: when workers are launched once more, what they are given, and that it may be done again."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from moto import mock_aws

from lamella.attempts import is_worth_another
from lamella.errors import RunAborted
from lamella.events import PlanAnswer, RecoverEvent, StateError
from lamella.layout import RunKeys
from lamella.lease_table import Amount
from lamella.plan import Assignment, LayerPart, Link, Plan, SqsAddress, Step, Task, parse_assignment
from lamella.records import PlanRecord, Share, WorkerReport, from_json, to_json
from lamella.reservation import reserve
from lamella.runtime import Runtime
from lamella.spent import end_mark
from lamella.states.recover import recover_run
from lamella.usage import Count, Usage

BUCKET, RUN, WORKERS = "runs-bucket", "run", 3
KEYS = RunKeys(RUN)
QUEUES = "https://sqs.us-east-1.amazonaws.com/123456789012/lamella-run-"
TOLD = StateError(Error="CloudError", Cause="worker 1: busy")
PLAN = Plan("rows", "sqs", WORKERS, 1024, 5)


@dataclasses.dataclass(frozen=True)
class Context:
    """What Lambda passes to a handler."""

    memory_limit_in_mb: str = "3008"
    log_stream_name: str = "stream"
    aws_request_id: str = "00000000-0000-0000-0000-000000000000"

    def get_remaining_time_in_millis(self) -> int:
        return 60_000


def assignment(worker: int, channel: SqsAddress | None, deadline_s: float) -> Assignment:
    rows = np.arange(worker, worker + 4)
    steps = tuple(
        Step((LayerPart(0, (0, 2), (0, 4), "00"),), samples, receive=(Link(1, rows),))
        for samples in ((0, 3), (3, 5))
    )
    task = Task(worker, (0, 5), rows, steps, (0, 2))
    return Assignment(RUN, 1, WORKERS, "s3://b/m/", "ff", channel, deadline_s, task, 1.0, 120.0)


class Failed:
    """A run over sqs whose first attempt has failed."""

    def __init__(self, runtime: Runtime, *, began_s: float = 10.0, left_s: float = 100.0) -> None:
        self.runtime, now_s = runtime, time.time()
        self.deadline_s = now_s + left_s
        channel = reserve(runtime, KEYS, PLAN, self.deadline_s)
        assert isinstance(channel, SqsAddress)
        self.channel = channel
        for worker in range(WORKERS):
            task = assignment(worker, channel, self.deadline_s)
            runtime.bucket.write(KEYS.task(worker), task.to_bytes())
        shares = (Share((0, 2), (0, 5)),) * WORKERS
        usage = Usage({"s3.get_object": Count(2, 2, 20)}).to_json()
        record = PlanRecord(RUN, 1, {}, PLAN, "s3://b/m/", 0, now_s - began_s, self.deadline_s, shares, usage)
        runtime.bucket.write(KEYS.plan, to_json(record))

    def fail(self, worker: int, error: str, text: str = "busy") -> None:
        """As a worker's Catch does."""
        cause = json.dumps({"errorMessage": text})
        body = {"error": {"Error": error, "Cause": cause}, "failed_at": "2026-01-01"}
        self.runtime.bucket.write(KEYS.error(worker), json.dumps(body).encode())

    def recover(self, attempt: int = 1) -> PlanAnswer | StateError:
        self.runtime.begin(Context())
        event = RecoverEvent(execution="arn:e", run=RUN, attempt=attempt, error=TOLD)
        return recover_run(event, self.runtime)

    @property
    def record(self) -> PlanRecord:
        return from_json(PlanRecord, self.runtime.bucket.read(KEYS.plan), KEYS.plan)

    def task(self, worker: int, attempt: int) -> bytes:
        return self.runtime.bucket.read(RunKeys(RUN, attempt).task(worker))

    def queues(self) -> set[str]:
        return set(self.runtime.sqs.list_queues().get("QueueUrls", []))


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "LAMELLA_BUCKET": BUCKET,
        "LAMELLA_RUN_QUEUES": QUEUES,
        "LAMELLA_WORKERS": "1024=arn:small",
        "LAMELLA_START_DEADLINE_S": "60",
    }.items():
        monkeypatch.setenv(name, value)
    # moto has no GetAccountSettings.
    monkeypatch.setattr("lamella.reservation.room", lambda runtime: Amount(WORKERS, 0))
    with mock_aws():
        made = Runtime()
        made.s3.create_bucket(Bucket=BUCKET)
        yield made


def test_the_next_attempt_has_the_same_tasks_other_queues_and_the_same_deadline(runtime: Runtime) -> None:
    run = Failed(runtime)
    run.fail(1, "CloudError")

    answer = run.recover()

    assert isinstance(answer, PlanAnswer)
    assert (answer.run, answer.attempt, answer.function) == (RUN, 2, "arn:small")
    assert (answer.workers, answer.items) == ([0, 1, 2], None)
    for worker in range(WORKERS):
        first, second = (parse_assignment(run.task(worker, attempt), "") for attempt in (1, 2))
        assert isinstance(second.channel, SqsAddress)
        assert set(second.channel.queue_urls) == run.queues()
        assert not run.queues() & set(run.channel.queue_urls)
        assert second.attempt == 2
        assert 50 < second.start_by_s - time.time() <= second.start_within_s == 60
        same = dataclasses.replace(
            second,
            attempt=1,
            channel=first.channel,
            start_by_s=first.start_by_s,
            start_within_s=first.start_within_s,
        )
        assert same.to_bytes() == run.task(worker, 1)


def test_the_plan_says_by_what_the_attempt_failed_when_and_what_it_used(runtime: Runtime) -> None:
    run = Failed(runtime)
    run.fail(1, "CloudError", "s3 was busy")
    used = Usage({"lambda.invoke": Count(1, 2.5, 0)})
    report = WorkerReport(0, 1.0, 1.5, 2.0, 3008, (), (1, "stream"), {})
    runtime.bucket.write(KEYS.checkpoint(0), b"stream")
    runtime.bucket.write(KEYS.ended(0), end_mark(ValueError("no"), report, (), used))
    runtime.bucket.write(KEYS.ended(2), b"no such mark")

    run.recover()

    (failed,) = run.record.failed
    assert run.record.attempt == 2
    assert (failed.error, failed.cause) == ("WorkerError", "worker 1 failed: CloudError: s3 was busy")
    assert 10 <= failed.seconds < 20
    assert Usage.from_json(failed.usage).count("lambda.invoke") == Count(1, 2.5, 0)
    assert Usage.from_json(failed.usage).count("s3.put_object").calls == 1
    assert Usage.from_json(run.record.usage).count("s3.get_object").calls > 2
    assert Usage.from_json(run.record.usage).count("lambda.invoke").calls == 1


def test_recovering_again_gives_the_same_even_halfway(runtime: Runtime) -> None:
    run = Failed(runtime)
    run.fail(1, "CloudError")
    first = run.recover()
    record, queues = run.record, run.queues()

    assert run.recover() == first
    assert (run.record, run.queues()) == (record, queues)

    # As if the first time had ended just before its last write.
    runtime.bucket.write(KEYS.plan, to_json(dataclasses.replace(record, attempt=1, failed=())))
    assert run.recover() == first
    assert run.record.attempt == 2
    assert run.queues() == queues


def test_there_is_no_third_attempt(runtime: Runtime) -> None:
    run = Failed(runtime)
    run.fail(1, "CloudError")
    run.recover()

    assert run.recover(attempt=2) == TOLD
    assert run.record.attempt == 2


@pytest.mark.parametrize("error", ["NonFiniteActivation", "ModelError", "GangIncomplete", "ValueError"])
def test_what_would_come_again_is_not_tried_again(runtime: Runtime, error: str) -> None:
    run = Failed(runtime)
    run.fail(0, "RunAborted")
    run.fail(1, error)

    assert run.recover() == TOLD
    assert run.record.attempt == 1
    assert run.queues() == set(run.channel.queue_urls)


def test_where_no_error_was_written_the_map_s_own_decides(runtime: Runtime) -> None:
    assert isinstance(Failed(runtime).recover(), PlanAnswer)


def test_an_attempt_that_would_not_come_further_is_not_made(runtime: Runtime) -> None:
    run = Failed(runtime, began_s=60, left_s=59)
    run.fail(1, "CloudError")

    assert run.recover() == TOLD
    assert run.queues() == set(run.channel.queue_urls)


def test_a_run_that_was_ended_is_not_gone_on_with(runtime: Runtime) -> None:
    run = Failed(runtime)
    run.fail(1, "CloudError")
    runtime.bucket.write(KEYS.abort, b"ABORTED")

    with pytest.raises(RunAborted):
        run.recover()
    assert run.record.attempt == 1


def test_a_run_that_is_ended_while_its_queues_are_made_holds_none(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Failed(runtime)
    run.fail(1, "CloudError")

    def ended_meanwhile(runtime: Runtime, keys: RunKeys, *rest: Any) -> Any:
        runtime.bucket.write(keys.abort, b"ABORTED")
        return reserve(runtime, keys, *rest)

    monkeypatch.setattr("lamella.states.recover.reserve", ended_meanwhile)
    with pytest.raises(RunAborted):
        run.recover()
    assert run.queues() == set()


@pytest.mark.parametrize(
    ("attempt", "error", "left_s", "worth"),
    [
        (1, "CloudError", 10.0, True),
        (1, "CloudError", 9.9, False),
        (1, "ModelError", 99.0, False),
        (2, "CloudError", 99.0, False),
    ],
)
def test_the_rule(attempt: int, error: str, left_s: float, worth: bool) -> None:
    assert is_worth_another(attempt, error, started_s=5.0, failed_s=15.0, left_s=left_s) is worth


def test_where_there_is_room_for_fewer_workers_by_now_the_first_failure_is_what_is_told(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Failed(runtime)
    run.fail(1, "CloudError")
    monkeypatch.setattr("lamella.reservation.room", lambda runtime: Amount(WORKERS - 1, 0))
    assert run.recover() == TOLD
    assert run.record.attempt == 1
    assert run.queues() == set()
