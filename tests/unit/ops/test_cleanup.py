"""What a stack's deletion removes, and what it leaves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from moto import mock_aws

from lamella.emptying import empty
from lamella.errors import CloudError
from lamella.layout import RunKeys
from lamella.runtime import Runtime
from lamella.states import cleanup
from lamella.states.cleanup import CleanupProperties, clean_up, empty_until_quiet

ROLE = "arn:aws:iam::123456789012:role/r"
DEFINITION = json.dumps({"StartAt": "Wait", "States": {"Wait": {"Type": "Wait", "Seconds": 60, "End": True}}})
BUCKET = "models-and-runs"


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "LAMELLA_BUCKET": BUCKET,
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(cleanup, "QUIET_S", 0.0)
    with mock_aws():
        made = Runtime()
        made.s3.create_bucket(Bucket=BUCKET)
        yield made


class Stack:
    """A stack in a state, with a machine that has a run under way."""

    def __init__(
        self, runtime: Runtime, monkeypatch: pytest.MonkeyPatch, status: str = "DELETE_IN_PROGRESS"
    ) -> None:
        self.runtime = runtime
        described = {"Stacks": [{"StackStatus": status}]}
        monkeypatch.setattr(runtime.cloudformation, "describe_stacks", lambda **_: described)
        self.machine = runtime.stepfunctions.create_state_machine(
            name="lamella-inference", definition=DEFINITION, roleArn=ROLE
        )["stateMachineArn"]
        runtime.stepfunctions.start_execution(stateMachineArn=self.machine, name="running")
        runtime.s3.put_object(Bucket=BUCKET, Key="models/m/manifest.json", Body=b"{}")

    def delete(self, *, keep: bool = False) -> None:
        properties = CleanupProperties.model_validate(
            {
                "ServiceToken": "arn:f",
                "StateMachineArn": self.machine,
                "RunQueues": "lamella-run-",
                "KeepData": "true" if keep else "false",
            }
        )
        clean_up("arn:stack", properties, self.runtime)

    @property
    def running(self) -> list[str]:
        found = self.runtime.stepfunctions.list_executions(
            stateMachineArn=self.machine, statusFilter="RUNNING"
        )
        return [execution["name"] for execution in found["executions"]]

    @property
    def keys(self) -> set[str]:
        return set(self.runtime.bucket.sizes())


def test_runs_are_stopped_and_the_bucket_is_emptied(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = Stack(runtime, monkeypatch)
    stack.delete()
    assert (stack.running, stack.keys) == ([], set())
    stack.delete()


def test_data_that_is_to_be_kept_stays_and_runs_are_told_to_end(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = Stack(runtime, monkeypatch)
    stack.delete(keep=True)
    assert (stack.running, stack.keys) == ([], {"models/m/manifest.json", RunKeys("running").abort})


@pytest.mark.parametrize(
    "status", ["UPDATE_ROLLBACK_IN_PROGRESS", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "CREATE_COMPLETE"]
)
def test_a_stack_that_stays_keeps_everything(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    stack = Stack(runtime, monkeypatch, status)
    stack.delete()
    assert (stack.running, stack.keys) == (["running"], {"models/m/manifest.json"})


def test_a_stack_that_could_not_be_created_keeps_nothing(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = Stack(runtime, monkeypatch, "ROLLBACK_IN_PROGRESS")
    stack.delete(keep=True)
    assert stack.keys == set()


def test_workers_are_waited_for(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = Stack(runtime, monkeypatch)
    keys = RunKeys("running")
    runtime.bucket.write(keys.checkpoint(0), b"stream")
    looks: list[bool] = []

    def leave(_: float) -> None:
        looks.append(runtime.bucket.exists(keys.abort))
        runtime.bucket.write(keys.ended(0), b"RunAborted")

    monkeypatch.setattr("lamella.leaving.time.sleep", leave)
    stack.delete()
    assert looks == [True]
    assert stack.keys == set()


def test_only_queues_of_runs_are_removed(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    of_runs = [f"lamella-run-0123456789abcdef-{attempt}-0" for attempt in (1, 2)]
    # The last is a slot of a stack whose name is "lamella-run".
    others = {"lamella-slot-0", "other-run-0123456789abcdef-1-0", "lamella-run-slot-0-0"}
    for name in (*of_runs, *others):
        runtime.sqs.create_queue(QueueName=name)
    Stack(runtime, monkeypatch).delete()
    left = {url.rpartition("/")[2] for url in runtime.sqs.list_queues()["QueueUrls"]}
    assert left == others


def test_a_machine_and_a_bucket_that_are_gone_are_no_error(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = Stack(runtime, monkeypatch)
    runtime.stepfunctions.delete_state_machine(stateMachineArn=stack.machine)
    empty(runtime.s3, BUCKET)
    runtime.s3.delete_bucket(Bucket=BUCKET)
    stack.delete()


def test_versions_delete_markers_and_unfinished_uploads_go_too(runtime: Runtime) -> None:
    s3 = runtime.s3
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    for body in (b"1", b"2"):
        s3.put_object(Bucket=BUCKET, Key="a", Body=body)
    s3.delete_object(Bucket=BUCKET, Key="a")
    s3.create_multipart_upload(Bucket=BUCKET, Key="b")
    assert empty(s3, BUCKET) == 4
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=BUCKET)
    s3.delete_bucket(Bucket=BUCKET)


def test_more_objects_than_a_call_takes_go(runtime: Runtime) -> None:
    for number in range(1001):
        runtime.s3.put_object(Bucket=BUCKET, Key=f"runs/{number}", Body=b"")
    assert empty(runtime.s3, BUCKET) == 1001
    runtime.s3.delete_bucket(Bucket=BUCKET)


def test_an_object_that_s3_does_not_remove_is_named(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime.s3.put_object(Bucket=BUCKET, Key="locked", Body=b"")
    refusal: dict[str, Any] = {
        "Errors": [{"Key": "locked", "Code": "AccessDenied", "Message": "Access Denied"}]
    }
    monkeypatch.setattr(runtime.s3, "delete_objects", lambda **_: refusal)
    with pytest.raises(CloudError, match=f"s3://{BUCKET}/locked can't be removed: AccessDenied"):
        empty(runtime.s3, BUCKET)


def test_emptying_goes_on_until_nobody_has_written_for_a_while() -> None:
    now, found = [0.0], [3, 0, 2, 0, 0, 0, 0, 9]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    assert empty_until_quiet(lambda: found.pop(0), 2.0, lambda: now[0], sleep) == 5
    assert len(found) == 3
