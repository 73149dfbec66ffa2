"""Sweep against moto: what it removes, what it leaves, and what it says."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from moto import mock_aws

from lamella.cost import cost, load_book
from lamella.errors import CloudError
from lamella.events import SweepAnswer, SweepEvent
from lamella.layout import RunKeys
from lamella.lease_table import Amount
from lamella.leases import Leases, NotYet, Terms
from lamella.runtime import Runtime
from lamella.states import sweep as sweep_state
from lamella.states.sweep import sweep
from lamella.usage import lambda_usage, merge

ROLE = "arn:aws:iam::123456789012:role/r"
DEFINITION = json.dumps({"StartAt": "Wait", "States": {"Wait": {"Type": "Wait", "Seconds": 60, "End": True}}})
BUCKET = "models-and-runs"
MACHINE = "arn:aws:states:us-east-1:123456789012:stateMachine:lamella-inference"
QUEUES = "https://sqs.us-east-1.amazonaws.com/123456789012/lamella-run-"
TIMEOUT_S = 100
ROOM = Amount(20, 8)
MEMORY_MB = 512  # tests/workflows/test_template.py holds the template to it
LATER_S = TIMEOUT_S + 61
KEPT = ("plan.json", "summary.json", "predictions.csv", "abort", "errors/0.json")


class Stack:
    """With runs that have left something of every kind."""

    def __init__(self, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runtime, self._patch = runtime, monkeypatch
        self._queues = 0

    def run(self, name: str, status: str = "ABORTED", *, slots: int = 2) -> None:
        """A run that was started, and its leftovers."""
        states, execution = (
            self.runtime.stepfunctions,
            f"{MACHINE.replace('stateMachine', 'execution')}:{name}",
        )
        if status != "UNKNOWN":
            states.start_execution(stateMachineArn=MACHINE, name=name)
        if status == "ABORTED":
            states.stop_execution(executionArn=execution)
        files = self.runtime.bucket.below(f"runs/{name}/")
        for path in (*KEPT, "work/1/tasks/0", "work/2/parts/0"):
            files.write(path, b"12345")
        self.queue(name)
        self.runtime.s3.create_multipart_upload(Bucket=BUCKET, Key=f"runs/{name}/activations.safetensors")
        if slots:
            self.lease(name, Amount(3, slots))

    def lease(self, run: str, want: Amount, until_s: float = 10_000.0, wait_s: float = 0.0) -> None:
        self.leases.take(run, want, Terms(ROOM, time.time() + until_s, wait_s))

    def queue(self, run: str | None) -> str:
        self._queues += 1
        name = f"lamella-run-{self._queues:016x}-1-0"
        tags = {} if run is None else {"tags": {"project": "lamella", "run": run}}
        return self.runtime.sqs.create_queue(QueueName=name, **tags)["QueueUrl"]  # type: ignore[arg-type]

    def sweep(self, *, remove: bool = True, after_s: float = LATER_S) -> SweepAnswer:
        now_s = time.time() + after_s
        with self._patch.context() as patch:
            patch.setattr(sweep_state.time, "time", lambda: now_s)
            return sweep(SweepEvent(remove=remove), self.runtime)

    @property
    def leases(self) -> Leases:
        return Leases(self.runtime.s3, BUCKET, time.time, time.sleep)

    def left(self) -> dict[str, Any]:
        uploads = self.runtime.s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
        return {
            "keys": set(self.runtime.bucket.sizes("runs/")) | set(self.runtime.bucket.sizes("models/")),
            "queues": {url.rpartition("/")[2] for url in self.runtime.sqs.list_queues().get("QueueUrls", [])},
            "uploads": {upload["Key"] for upload in uploads},
            "leased": set(self.leases.runs()),
        }


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "LAMELLA_BUCKET": BUCKET,
        "LAMELLA_RUN_QUEUES": QUEUES,
        "LAMELLA_STATE_MACHINE_ARN": MACHINE,
        "LAMELLA_WORKER_TIMEOUT_S": str(TIMEOUT_S),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        made = Runtime()
        made.s3.create_bucket(Bucket=BUCKET)
        made.stepfunctions.create_state_machine(name="lamella-inference", definition=DEFINITION, roleArn=ROLE)
        yield made


@pytest.fixture
def stack(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> Stack:
    return Stack(runtime, monkeypatch)


def kept(*runs: str) -> set[str]:
    return {f"runs/{run}/{path}" for run in runs for path in KEPT}


def test_what_a_dead_run_left_is_removed_and_what_is_the_user_s_is_not(stack: Stack) -> None:
    stack.run("dead")
    stack.runtime.bucket.write("models/m/manifest.json", b"{}")
    answer = stack.sweep()
    assert stack.left() == {
        "keys": kept("dead") | {"models/m/manifest.json"},
        "queues": set(),
        "uploads": set(),
        "leased": set(),
    }
    (told,) = answer.dead
    assert (told.run, told.status, told.slots, told.units, told.queues) == ("dead", "ABORTED", 2, 3, 1)
    assert (told.objects, told.object_bytes, told.uploads) == (2, 10, 1)
    assert (answer.removed, answer.ending, answer.going, answer.total["runs"]) == (True, [], 0, 1)
    again = stack.sweep()
    assert (again.dead, again.total["objects"]) == ([], 0)


def test_only_saying_removes_nothing_and_says_the_same(stack: Stack) -> None:
    stack.run("dead")
    before = stack.left()
    said = stack.sweep(remove=False)
    assert stack.left() == before
    assert not said.removed
    done = stack.sweep()
    assert (done.dead, done.total) == (said.dead, said.total)


def test_a_run_that_goes_on_keeps_all(stack: Stack) -> None:
    stack.run("going", "RUNNING")
    before = stack.left()
    answer = stack.sweep(after_s=1e7)
    assert stack.left() == before
    assert (answer.dead, answer.ending, answer.going) == ([], [], 1)


def test_a_run_that_has_just_ended_keeps_all_until_its_workers_cannot_be_there(stack: Stack) -> None:
    stack.run("ended")
    before = stack.left()
    answer = stack.sweep(after_s=TIMEOUT_S)
    assert stack.left() == before
    assert [run.run for run in answer.ending] == ["ended"]
    assert answer.ending[0].safe_from_s == pytest.approx(time.time() + LATER_S - 1, abs=10)


def test_a_run_that_nobody_knows_is_dead_when_all_of_it_is_old(stack: Stack) -> None:
    stack.run("forgotten", "UNKNOWN", slots=0)
    assert [run.run for run in stack.sweep(after_s=TIMEOUT_S).ending] == ["forgotten"]
    assert [(run.run, run.status) for run in stack.sweep().dead] == [("forgotten", "UNKNOWN")]
    assert stack.left()["keys"] == kept("forgotten")


def test_a_lease_of_a_run_that_nobody_knows_ends_when_it_expires(stack: Stack) -> None:
    stack.lease("nobody", Amount(3, 3), 500)
    assert [run.run for run in stack.sweep(after_s=490).ending] == ["nobody"]
    (dead,) = stack.sweep(after_s=510).dead
    assert (dead.slots, dead.units, stack.left()["leased"]) == (3, 3, set())


@pytest.mark.parametrize("want", [Amount(2), ROOM])
def test_a_run_without_slots_and_one_in_line_are_found_by_their_lease(stack: Stack, want: Amount) -> None:
    """One that talks to nobody holds no slot; one that was stopped while it waited holds nothing at all."""
    stack.runtime.stepfunctions.start_execution(stateMachineArn=MACHINE, name="going")
    stack.lease("going", Amount(1))
    stack.runtime.stepfunctions.start_execution(stateMachineArn=MACHINE, name="dead")
    with contextlib.suppress(NotYet):
        stack.lease("dead", want, wait_s=600)
    execution = f"{MACHINE.replace('stateMachine', 'execution')}:dead"
    stack.runtime.stepfunctions.stop_execution(executionArn=execution)
    answer = stack.sweep()
    (dead,) = answer.dead
    assert (dead.run, dead.units, dead.in_line) == ("dead", *((2, 0) if want != ROOM else (0, 1)))
    assert stack.left()["leased"] == {"going"}


def test_a_queue_without_a_name_of_a_run_is_of_nobody(stack: Stack) -> None:
    url = stack.queue(None)
    others = [stack.runtime.sqs.create_queue(QueueName=name) for name in ("lamella-run-slot-0-0", "mine")]
    (dead,) = stack.sweep().dead
    assert (dead.run, dead.queues) == (url.rpartition("/")[2], 1)
    assert stack.left()["queues"] == {other["QueueUrl"].rpartition("/")[2] for other in others}


def test_of_many_runs_a_part_is_swept_and_the_rest_next_time(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_state, "MOST_RUNS", 2)
    for name in ("a", "b", "c"):
        stack.run(name)
    first, second = stack.sweep(), stack.sweep()
    assert ([run.run for run in first.dead], first.more) == (["a", "b"], True)
    assert ([run.run for run in second.dead], second.more) == (["c"], False)


def test_more_objects_than_a_call_takes_go(stack: Stack) -> None:
    keys = RunKeys("large")
    for number in range(1001):
        stack.runtime.bucket.write(keys.task(number), b"")
    assert stack.sweep().total["objects"] == 1001
    assert stack.left()["keys"] == set()


def test_what_another_sweep_has_removed_meanwhile_is_no_error(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.run("dead")
    listed = sweep_state._execution

    def meanwhile(runtime: Runtime, run: str) -> Any:
        found = listed(runtime, run)
        for url in runtime.sqs.list_queues()["QueueUrls"]:
            runtime.sqs.delete_queue(QueueUrl=url)
        for upload in runtime.s3.list_multipart_uploads(Bucket=BUCKET)["Uploads"]:
            runtime.s3.abort_multipart_upload(Bucket=BUCKET, Key=upload["Key"], UploadId=upload["UploadId"])
        stack.leases.release(run)
        runtime.bucket.delete([f"runs/{run}/work/1/tasks/0"])
        return found

    monkeypatch.setattr(sweep_state, "_execution", meanwhile)
    assert stack.sweep().total["runs"] == 1
    assert stack.left() == {"keys": kept("dead"), "queues": set(), "uploads": set(), "leased": set()}


def test_an_object_that_s3_does_not_remove_is_named(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    stack.run("dead")
    refusal: dict[str, Any] = {"Errors": [{"Key": "runs/dead/work/1/x", "Code": "AccessDenied"}]}
    monkeypatch.setattr(stack.runtime.s3, "delete_objects", lambda **_: refusal)
    with pytest.raises(CloudError, match=f"s3://{BUCKET}/runs/dead/work/1/x can't be removed: AccessDenied"):
        stack.sweep()


def test_a_month_of_daily_sweeps_of_an_idle_stack_costs_less_than_a_cent(
    runtime: Runtime, stack: Stack
) -> None:
    """Of one that keeps the results of some two hundred runs; half a minute is far more than that takes."""
    for number in range(1001):
        runtime.bucket.write(f"runs/{number}/summary.json", b"{}")
    runtime.meter.take()
    answer = stack.sweep()
    requests = runtime.meter.usage()
    assert answer.dead == []
    # Two pages of objects, one of uploads, and the lease.
    assert sum(count.calls for count in requests.counts.values()) <= 6
    month = merge([requests, lambda_usage(30.0, MEMORY_MB, 1.0)] * 31)
    assert cost(month, load_book(), "x86_64")["total"] < 0.01
