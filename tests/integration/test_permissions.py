"""What each state calls is what its deployed role allows; the embedded cloud itself enforces no policy."""

from __future__ import annotations

import fnmatch
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest

from lamella import client, held
from lamella.channels.wire import DATA, SLOT
from lamella.client import Stack
from lamella.errors import RunAborted
from lamella.events import (
    CollectEvent,
    FinishEvent,
    LookEvent,
    PlanAnswer,
    PlanEvent,
    RecoverEvent,
    StateError,
    SweepEvent,
    UploadEvent,
    WorkerEvent,
)
from lamella.layout import RunKeys
from lamella.runtime import Runtime
from lamella.slots import slot_name
from lamella.states import cleanup
from lamella.states.cleanup import CleanupProperties, clean_up
from lamella.states.collect import collect_run
from lamella.states.finish import finish_run
from lamella.states.intake import take_in
from lamella.states.plan import plan_run
from lamella.states.recover import recover_run
from lamella.states.sweep import sweep
from lamella.states.worker import run_worker
from lamella.storage import Bucket
from lamella.uploads import Upload
from model_prep.readers import open_source
from model_prep.writer import write_model
from tests.integration import batches
from tests.integration.runs import begin
from tests.integration.stacks import physical_ids, stack_of
from workflows.embedded_cloud import EmbeddedCloud
from workflows.state_machine.inference import LABEL

WORKERS = 2
STATES = ("Plan", "WorkerSmall", "Collect", "Finish")
FUNCTIONS = (*STATES, "Intake", "Sweep", "Cleanup")
# Operations whose action has another name (Service Authorization Reference).
ACTIONS = {
    "HeadObject": "GetObject",
    "ListObjectsV2": "ListBucket",
    "DeleteObjects": "DeleteObject",
    "PublishBatch": "Publish",
    "DeleteMessageBatch": "DeleteMessage",
    "ChangeMessageVisibilityBatch": "ChangeMessageVisibility",
    "SendMessageBatch": "SendMessage",
    "ListObjectVersions": "ListBucketVersions",
    "ListMultipartUploads": "ListBucketMultipartUploads",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "CompleteMultipartUpload": "PutObject",
}
PREFIXES = {"sfn": "states"}
# What AWS itself does in a function's name, and what no call of ours shows.
UNSEEN = {
    "logs:CreateLogStream": "done by the Lambda service",
    "logs:PutLogEvents": "done by the Lambda service",
    "xray:PutTraceSegments": "done by the Lambda service",
    "xray:PutTelemetryRecords": "done by the Lambda service",
    "s3:ListBucket": "without it a missing key answers 403, not 404",
    "sqs:TagQueue": "asked for where a queue is made with tags",
    "s3:DeleteObjectVersion": "asked for where a version is named, even that of a bucket without versions",
}
# The same, of one function.
UNSEEN_OF = {("Intake", "sns:Publish"): "done by the Lambda service, of an event that failed for good"}


@dataclass(frozen=True)
class Context:
    """What Lambda passes to a handler."""

    memory_limit_in_mb: str = "1024"
    log_stream_name: str = "stream"
    aws_request_id: str = "00000000-0000-0000-0000-000000000000"

    def get_remaining_time_in_millis(self) -> int:
        return 60_000


@dataclass
class Role:
    """A deployed role, and what was called under it.

    Attributes
    ----------
    allows
        Actions and resources, as its policies have them.
    """

    allows: set[tuple[str, str]]
    called: set[tuple[str, str]] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        """Hook for botocore's before-parameter-build."""
        service = model.service_model.service_id.hyphenize()
        action = f"{PREFIXES.get(service, service)}:{ACTIONS.get(model.name, model.name)}"
        with self.lock:
            self.called |= {(action, resource) for resource in resources_of(service, params)}

    def grants(self, action: str, resource: str) -> set[tuple[str, str]]:
        """Those of its permissions that allow a call."""
        return {
            (allowed, pattern)
            for allowed, pattern in self.allows
            if allowed == action and fnmatch.fnmatchcase(resource, pattern)
        }


def resources_of(service: str, params: dict[str, Any]) -> list[str]:
    """ARNs that a call is about; "*" where it is about none."""
    if service == "s3":
        bucket = f"arn:aws:s3:::{params['Bucket']}"
        keys = [item["Key"] for item in params.get("Delete", {}).get("Objects", [])] or [params.get("Key")]
        return [bucket if key is None else f"{bucket}/{key}" for key in keys]
    if service == "sqs":
        queue = params.get("QueueName") or params.get("QueueUrl", "").rpartition("/")[2]
        return [f"arn:aws:sqs:us-east-1:123456789012:{queue}" if queue else "*"]
    named = ("TopicArn", "executionArn", "stateMachineArn", "StackName")
    return [next((params[name] for name in named if name in params), "*")]


def deployed_runtime(cloud: EmbeddedCloud, function: str, patch: pytest.MonkeyPatch) -> tuple[Runtime, Role]:
    """A deployed function's environment, in this process, and its role, which notes what is called."""
    environment = cloud.environment()
    lambda_ = boto3.client("lambda", **connection(environment))
    found = lambda_.get_function_configuration(FunctionName=function)
    iam = boto3.client("iam", **connection(environment))
    role = Role(permissions(iam, found["Role"].rpartition("/")[2]))
    with patch.context() as scoped:
        for name, value in (environment | found["Environment"]["Variables"]).items():
            scoped.setenv(name, value)
        runtime = Runtime()
    runtime._session.events.register("before-parameter-build", role.note)
    return runtime, role


class Gang:
    """The functions of a stack, in this process, each with its deployed environment and role."""

    def __init__(
        self,
        cloud: EmbeddedCloud,
        stack: Stack,
        patch: pytest.MonkeyPatch,
        functions: tuple[str, ...] = STATES,
    ) -> None:
        environment = cloud.environment()
        self.stack = stack
        self.sns = boto3.client("sns", **connection(environment))
        self.roles: dict[str, Role] = {}
        self._runtimes: dict[str, Runtime] = {}
        for name, value in environment.items():
            patch.setenv(name, value)
        for state in functions:
            self._runtimes[state], self.roles[state] = deployed_runtime(cloud, f"{stack.name}-{state}", patch)

    def runtime(self, state: str) -> Runtime:
        """A state's, at the start of an invocation."""
        runtime = self._runtimes[state]
        runtime.begin(Context())
        return runtime

    def execution(self, run: str) -> str:
        return self.stack.state_machine_arn.replace(":stateMachine:", ":execution:") + f":{run}"

    def plan(self, run: str, model: str, samples: str, channel: str) -> None:
        request = {
            "model": model,
            "input": samples,
            "strategy": "rows",
            "workers": WORKERS,
            "channel": channel,
            "micro_batches": 1,
        }
        request["activations"] = True
        plan_run(PlanEvent(execution=self.execution(run), run=run, request=request), self.runtime("Plan"))

    def recover(self, run: str) -> PlanAnswer | StateError:
        told = StateError(Error="States.ExceedToleratedFailureThreshold")
        event = RecoverEvent(execution=self.execution(run), run=run, attempt=1, error=told)
        return recover_run(event, self.runtime("Plan"))

    def work(self, run: str, attempt: int = 1) -> None:
        runtime = self.runtime("WorkerSmall")
        with ThreadPoolExecutor(WORKERS) as pool:
            events = [WorkerEvent(run=run, attempt=attempt, worker=worker) for worker in range(WORKERS)]
            list(pool.map(lambda event: run_worker(event, runtime, Context()), events))
        # As it is started again where its answer was lost.
        run_worker(events[0], runtime, Context())

    def finish(self, run: str, status: Any) -> dict[str, Any]:
        event = FinishEvent(execution=self.execution(run), run=run, status=status)
        return finish_run(event, self.runtime("Finish"))


def connection(environment: dict[str, str]) -> dict[str, Any]:
    return {
        "endpoint_url": environment["AWS_ENDPOINT_URL"],
        "aws_access_key_id": environment["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": environment["AWS_SECRET_ACCESS_KEY"],
        "region_name": environment["AWS_DEFAULT_REGION"],
    }


def permissions(iam: Any, role: str) -> set[tuple[str, str]]:
    """What the inline policies of a deployed role allow."""
    found = set()
    for name in iam.list_role_policies(RoleName=role)["PolicyNames"]:
        document = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
        for statement in document["Statement"]:
            assert statement["Effect"] == "Allow"
            found |= {
                (action, resource)
                for action in as_list(statement["Action"])
                for resource in as_list(statement["Resource"])
            }
    return found


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@contextmanager
def without_upload_rule(cloud: EmbeddedCloud, stack: Stack) -> Iterator[None]:
    """So that the deployed function is not faster than the one here."""
    resource = cloud.client("cloudformation").describe_stack_resource(
        StackName=stack.name, LogicalResourceId="UploadRule"
    )
    name = resource["StackResourceDetail"]["PhysicalResourceId"].rpartition("/")[2]
    events = cloud.client("events")
    events.disable_rule(Name=name)
    try:
        yield
    finally:
        events.enable_rule(Name=name)


@pytest.fixture(scope="module")
def roles(
    cloud: EmbeddedCloud,
    stack: Stack,
    everything_on: Stack,
    small_model: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Role]:
    """After a run over each channel, one that failed after a worker began twice, and automatic starts.

    And after one that was ended while its output was put together.
    """
    folder = tmp_path_factory.mktemp("permissions")
    path = batches.write_npz(folder / "blobs.npz", batches.blobs(200, 16, seed=5))
    brought = client.upload_input(stack, path)
    stack.files().write("inputs/permissions.npz", path.read_bytes())
    samples = f"s3://{stack.bucket}/inputs/permissions.npz"
    model = client.upload_model(stack, small_model)
    write_model(open_source("radixnet:256x240"), folder / "long", workers=[WORKERS])
    with pytest.MonkeyPatch.context() as patch:
        # So that messages are held for so long even here.
        patch.setattr(held, "RENEW_AFTER_S", 0.05)
        gang = Gang(cloud, stack, patch)
        for channel in ("sns", "sqs", "s3"):
            good = client.new_run_id()
            gang.plan(good, model, samples, channel)
            gang.work(good)
            collect_run(CollectEvent(run=good, attempt=1), gang.runtime("Collect"))
            break_off(gang.runtime("Plan").bucket, RunKeys(good).input(0))
            break_off(gang.runtime("WorkerSmall").bucket, RunKeys(good).part(0))
            break_off(gang.runtime("Collect").bucket, RunKeys(good).activations)
            assert gang.finish(good, "SUCCEEDED")["status"] == "SUCCEEDED"

        bad = client.new_run_id()
        gang.plan(bad, model, brought, "sns")
        files = stack.files()
        error = {"Error": "WorkerError", "Cause": json.dumps({"errorMessage": "had begun before"})}
        files.write(RunKeys(bad).error(0), json.dumps({"error": error}).encode())
        leased = json.loads(files.read("leases/slots.json"))["slots"]
        slot = next(number for number, hold in leased.items() if bad in json.dumps(hold))
        gang.sns.publish(
            TopicArn=gang.runtime("Plan").config.topic_arn,
            Message=".",
            MessageAttributes={
                SLOT: {"DataType": "String", "StringValue": slot_name(int(slot))},
                DATA: {"DataType": "Binary", "BinaryValue": b"late"},
            },
        )
        assert "worker 0 failed: WorkerError: had begun before" in gang.finish(bad, "FAILED")["cause"]

        # One that is ended while its output is put together.
        ended = client.new_run_id()
        gang.plan(ended, model, brought, "s3")
        gang.work(ended)
        files.write(RunKeys(ended).abort, b"ABORTED")
        with pytest.raises(RunAborted):
            collect_run(CollectEvent(run=ended, attempt=1), gang.runtime("Collect"))
        assert "was stopped" in gang.finish(ended, "ABORTED")["cause"]

        # The same as the one that failed, of a worker that the Distributed Map had started.
        large = client.new_run_id()
        gang.plan(large, model, brought, "s3")
        own = f"{gang.execution(large).rpartition(':')[0]}/{LABEL}:one"
        of_its_own = json.dumps({"error": error, "execution": own}).encode()
        files.write(RunKeys(large).error(0), of_its_own)
        assert "worker 0 failed: WorkerError: had begun before" in gang.finish(large, "FAILED")["cause"]

        # The same two, and another attempt, which succeeds.
        for channel, written in (("sqs", json.dumps({"error": error}).encode()), ("s3", of_its_own)):
            again = client.new_run_id()
            gang.plan(again, model, brought, channel)
            files.write(RunKeys(again).error(0), written)
            assert isinstance(gang.recover(again), PlanAnswer)
            gang.work(again, attempt=2)
            collect_run(CollectEvent(run=again, attempt=2), gang.runtime("Collect"))
            assert gang.finish(again, "SUCCEEDED")["attempts"] == 2

        stopped = client.new_run_id()
        files.write(RunKeys(stopped).abort, b"ABORTED")
        with pytest.raises(RunAborted):
            gang.plan(stopped, model, brought, "sqs")

        # What a run left whose execution nobody knows, long after it.
        dead = client.new_run_id()
        gang.plan(dead, model, brought, "sqs")
        leasing = client.new_run_id()
        gang.plan(leasing, model, brought, "sns")
        bucket = gang.runtime("Collect").bucket
        for key in (RunKeys(dead).activations, RunKeys(dead).part(0)):
            bucket.client.create_multipart_upload(Bucket=bucket.bucket, Key=key)
        sweeper = Gang(cloud, stack, patch, ("Sweep",))
        now_s = time.time() + 10_000
        with patch.context() as scoped:
            scoped.setattr("lamella.states.sweep.time.time", lambda: now_s)
            swept = sweep(SweepEvent(remove=True), sweeper.runtime("Sweep"))
        found = {run.run: run for run in swept.dead}
        assert (found[dead].queues, found[dead].uploads, found[leasing].slots) == (WORKERS, 2, WORKERS)

        intake = Gang(cloud, everything_on, patch, ("Intake",))
        with without_upload_rule(cloud, everything_on):
            for name in ("looked-for.npy", "uploaded.npy"):
                everything_on.files().write(f"inputs/permissions/{name}", b"no array")
        take_in(LookEvent(prefix="inputs/permissions/"), intake.runtime("Intake"))
        upload = UploadEvent(bucket=everything_on.bucket, key="inputs/permissions/uploaded.npy")
        take_in(upload, intake.runtime("Intake"))
    return gang.roles | intake.roles | sweeper.roles | {"Cleanup": cleaned(cloud, folder / "long", path)}


def break_off(bucket: Bucket, path: str) -> None:
    """What a state does whose large object can't be finished."""
    with Upload(bucket, path, part_bytes=1) as upload:
        upload.write(b"some parts")


def cleaned(cloud: EmbeddedCloud, model: Path, samples: Path) -> Role:
    """Cleanup's role, after a stack with a run under way and everything else that it removes."""
    with stack_of(cloud, "cleaned") as stack, pytest.MonkeyPatch.context() as patch:
        function = physical_ids(cloud, stack.name)["CleanupFunction"]
        for name, value in cloud.environment().items():
            patch.setenv(name, value)
        runtime, role = deployed_runtime(cloud, function, patch)
        cloud.client("sqs").create_queue(QueueName="cleaned-run-0123456789abcdef-1-0")
        cloud.client("s3").create_multipart_upload(Bucket=stack.bucket, Key="models/half")
        run = begin(stack, model, samples)
        stack.files().write(RunKeys(run.run_id).error(0), b"{}")
        patch.setattr(cleanup, "GOING", ("CREATE",))
        (described,) = cloud.client("cloudformation").describe_stacks(StackName=stack.name)["Stacks"]
        runtime.begin(Context())
        properties = CleanupProperties(
            StateMachineArn=stack.state_machine_arn, RunQueues="cleaned-run-", KeepData=False
        )
        clean_up(described["StackId"], properties, runtime)
    return role


@pytest.mark.parametrize("state", FUNCTIONS)
def test_a_state_calls_what_its_role_allows(roles: dict[str, Role], state: str) -> None:
    role = roles[state]

    assert role.called
    assert [call for call in sorted(role.called) if not role.grants(*call)] == []


@pytest.mark.parametrize("state", FUNCTIONS)
def test_a_role_allows_what_its_state_calls(roles: dict[str, Role], state: str) -> None:
    role = roles[state]
    used = {grant for call in role.called for grant in role.grants(*call)}

    unseen = {*UNSEEN, *(action for of, action in UNSEEN_OF if of == state)}
    assert [grant for grant in sorted(role.allows - used) if grant[0] not in unseen] == []


def test_a_call_beyond_a_role_is_told() -> None:
    role = Role({("s3:GetObject", "arn:aws:s3:::b/runs/*/work/*")})

    assert role.grants("s3:GetObject", "arn:aws:s3:::b/runs/1/work/1/tasks/0")
    assert not role.grants("s3:GetObject", "arn:aws:s3:::b/runs/1/plan.json")
    assert not role.grants("s3:PutObject", "arn:aws:s3:::b/runs/1/work/1/tasks/0")
