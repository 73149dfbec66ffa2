from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.stub import Stubber
from moto import mock_aws

from lamella import client
from lamella.client import Clients, RunHandle, Stack
from lamella.errors import BatchError, CloudError, InputError, ModelError, PlanError, RunError
from lamella.events import RunRequest, parse_request
from lamella.layout import RunKeys
from lamella.progress import LogFollower, WorkerProgress
from lamella.verify import verify_files
from workflows.cli.console import Output
from workflows.cli.runs import run_to_end

MACHINE = "arn:aws:states:us-east-1:123456789012:stateMachine:lamella"
GROUPS = ("/lamella/small", "/lamella/large")
RUN = "20261124-081530-3f9a2c"
EXECUTION = f"arn:aws:states:us-east-1:123456789012:execution:lamella:{RUN}"
TEMPLATE = {
    "Resources": {"Topic": {"Type": "AWS::SNS::Topic"}},
    "Outputs": {
        "BucketName": {"Value": "bucket"},
        "StateMachineArn": {"Value": MACHINE},
        "WorkerLogGroups": {"Value": ",".join(GROUPS)},
        "GroupsOfSlots": {"Value": "0,1,2"},
    },
}


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """A stack with a bucket and log groups in moto; its state machine exists in name only."""
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        clients = Clients.connect()
        clients.s3.create_bucket(Bucket="bucket")
        for group in GROUPS:
            clients.logs.create_log_group(logGroupName=group)
        yield Stack("lamella", "bucket", MACHINE, GROUPS, clients)


@pytest.fixture
def run(stack: Stack) -> RunHandle:
    return RunHandle(stack, RUN, time.time())


def keys(stack: Stack) -> list[str]:
    return [item["Key"] for item in stack.clients.s3.list_objects_v2(Bucket=stack.bucket).get("Contents", [])]


def execution(status: str, **more: str) -> dict[str, Any]:
    return {
        "executionArn": EXECUTION,
        "stateMachineArn": MACHINE,
        "startDate": "2026-11-24",
        "status": status,
    } | more


class TestStack:
    def test_found_by_its_outputs(self, stack: Stack) -> None:
        stack.clients.cloudformation.create_stack(StackName="mine", TemplateBody=json.dumps(TEMPLATE))
        found = Stack.find("mine", stack.clients)
        assert (found.bucket, found.state_machine_arn) == ("bucket", MACHINE)
        assert found.worker_log_groups == GROUPS
        assert found.slots == 24

    def test_absent(self, stack: Stack) -> None:
        with pytest.raises(InputError, match=r"no stack 'other' in us-east-1.*sam deploy"):
            Stack.find("other", stack.clients)

    def test_of_someone_else(self, stack: Stack) -> None:
        other = {"Resources": TEMPLATE["Resources"]}
        stack.clients.cloudformation.create_stack(StackName="theirs", TemplateBody=json.dumps(other))
        with pytest.raises(InputError, match="'theirs' has no output BucketName"):
            Stack.find("theirs", stack.clients)

    def test_no_region(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        for name in ("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_PROFILE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
        with pytest.raises(InputError, match=r"region.*--local"):
            Clients.connect()


class TestUpload:
    def test_model_goes_where_its_manifest_says(self, stack: Stack, model: Path) -> None:
        digest = hashlib.sha256((model / "manifest.json").read_bytes()).hexdigest()[:32]
        assert client.upload_model(stack, model) == f"s3://bucket/models/{digest}/"
        files = {file.relative_to(model).as_posix() for file in model.rglob("*") if file.is_file()}
        assert set(keys(stack)) == {f"models/{digest}/{name}" for name in files}

    def test_manifest_last_and_only_what_is_not_there(self, stack: Stack, model: Path) -> None:
        sent: list[str] = []
        stack.clients.s3.meta.events.register(
            "before-parameter-build.s3.PutObject", lambda params, **_: sent.append(params["Key"])
        )
        client.upload_model(stack, model)
        assert len(sent) > 2
        assert sent[-1].endswith("/manifest.json")
        cut = next(key for key in sent if "cuts/" in key)
        stack.clients.s3.delete_object(Bucket="bucket", Key=cut)
        sent.clear()
        client.upload_model(stack, model)
        assert sent == [cut]

    def test_damaged_file_is_named_and_nothing_is_sent(self, stack: Stack, model: Path) -> None:
        damaged = next(model.glob("weights-*"))
        data = bytearray(damaged.read_bytes())
        data[-1] ^= 1
        damaged.write_bytes(data)
        with pytest.raises(ModelError, match=re.escape(str(damaged))):
            client.upload_model(stack, model)
        assert keys(stack) == []

    def test_missing_file_is_named(self, model: Path) -> None:
        gone = next((model / "cuts").iterdir())
        gone.unlink()
        with pytest.raises(ModelError, match=re.escape(str(gone))):
            verify_files(model)

    def test_input_goes_by_its_hash_once(self, stack: Stack, batch: Path) -> None:
        digest = hashlib.sha256(batch.read_bytes()).hexdigest()
        key = f"uploads/{digest}/samples.npy"
        sent: list[str] = []
        stack.clients.s3.meta.events.register(
            "before-parameter-build.s3.PutObject", lambda params, **_: sent.append(params["Key"])
        )
        for _ in range(2):
            assert client.upload_input(stack, batch) == f"s3://bucket/{key}"
        assert sent == [key]

    def test_input_that_might_soon_expire_is_put_again(
        self, stack: Stack, batch: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client.upload_input(stack, batch)
        now_s = time.time()
        monkeypatch.setattr(client.time, "time", lambda: now_s + 20 * 3600)
        sent: list[str] = []
        stack.clients.s3.meta.events.register(
            "before-parameter-build.s3.PutObject", lambda params, **_: sent.append(params["Key"])
        )
        client.upload_input(stack, batch)
        assert len(sent) == 1

    def test_no_such_bucket_is_one_line(self, stack: Stack, batch: Path) -> None:
        elsewhere = Stack("lamella", "nowhere", MACHINE, (), stack.clients)
        with pytest.raises(CloudError) as caught:
            client.upload_input(elsewhere, batch)
        assert str(batch) in str(caught.value)
        assert "NoSuchBucket" in str(caught.value)


class TestStart:
    def test_sends_what_was_asked(self, run: RunHandle) -> None:
        request = RunRequest(model="s3://bucket/models/m/", input="s3://bucket/i.npy", workers=8)
        with Stubber(run.stack.clients.stepfunctions) as stub:
            asked = {"model": "s3://bucket/models/m/", "input": "s3://bucket/i.npy", "workers": 8}
            assert parse_request(asked) == request
            stub.add_response(
                "start_execution",
                {"executionArn": EXECUTION, "startDate": "2026-11-24"},
                {"stateMachineArn": MACHINE, "name": RUN, "input": json.dumps(asked)},
            )
            client.start(run, request)
        assert run.execution_arn == EXECUTION

    def test_interrupted_while_being_started_it_is_stopped_all_the_same(
        self, stack: Stack, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stopped: list[str] = []

        def interrupted(run: RunHandle, request: RunRequest) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(client, "start", interrupted)
        monkeypatch.setattr(client, "stop", lambda run: stopped.append(run.execution_arn))
        request = RunRequest(model="s3://bucket/models/m/", input="s3://bucket/i.npy")
        with pytest.raises(KeyboardInterrupt):
            run_to_end(stack, request, Output(as_json=True), destination=None, local=True)
        assert [arn.startswith(EXECUTION.removesuffix(RUN)) for arn in stopped] == [True]

    def test_run_ids_sort_by_time(self) -> None:
        names = [client.new_run_id(now_s) for now_s in (0, 1.5, 1e9, 2e9)]
        assert names == sorted(names)
        assert all(re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{6}", name) for name in names)
        assert client.new_run_id(5) != client.new_run_id(5)


class TestSummary:
    def test_of_a_good_run(self, run: RunHandle) -> None:
        with Stubber(run.stack.clients.stepfunctions) as stub:
            stub.add_response("describe_execution", execution("SUCCEEDED", output='{"categories": 3}'))
            assert client.summary(run) == {"categories": 3}

    @pytest.mark.parametrize(
        ("name", "kind", "code"),
        [
            ("PlanError", PlanError, 2),
            ("ModelError", ModelError, 2),
            ("BatchError", BatchError, 2),
            ("InputError", InputError, 2),
        ],
    )
    def test_of_a_refused_run(self, run: RunHandle, name: str, kind: type[InputError], code: int) -> None:
        failed = execution("FAILED", error=name, cause="64 workers are more than 32 slots")
        with Stubber(run.stack.clients.stepfunctions) as stub:
            stub.add_response("describe_execution", failed)
            with pytest.raises(kind, match=r"^64 workers are more than 32 slots$") as caught:
                client.summary(run)
        assert caught.value.exit_code == code

    @pytest.mark.parametrize(
        ("cause", "told"),
        [
            ("worker 3: layer 7 is\nnot finite", "worker 3: layer 7 is not finite"),
            (json.dumps({"errorMessage": "worker 3 died", "stackTrace": ["x"]}), "worker 3 died"),
        ],
    )
    def test_of_a_failed_run(self, run: RunHandle, cause: str, told: str) -> None:
        with Stubber(run.stack.clients.stepfunctions) as stub:
            stub.add_response("describe_execution", execution("FAILED", error="WorkerError", cause=cause))
            with pytest.raises(RunError) as caught:
                client.summary(run)
        assert str(caught.value) == f"{told} (run {RUN} failed)"
        assert caught.value.exit_code == 1

    def test_of_a_service_error(self, run: RunHandle) -> None:
        failed = execution("FAILED", error="Lambda.Unknown", cause="no answer")
        with Stubber(run.stack.clients.stepfunctions) as stub:
            stub.add_response("describe_execution", failed)
            with pytest.raises(RunError, match=r"^Lambda\.Unknown: no answer"):
                client.summary(run)

    def test_of_a_stopped_run(self, run: RunHandle) -> None:
        with Stubber(run.stack.clients.stepfunctions) as stub:
            stub.add_response("describe_execution", execution("ABORTED"))
            with pytest.raises(RunError, match="was stopped"):
                client.summary(run)


def test_fetch_downloads_what_there_is(run: RunHandle, tmp_path: Path) -> None:
    place = RunKeys(RUN)
    run.stack.files().write(place.predictions, b"sample,argmax\n")
    run.stack.files().write(place.activations, b"tensors")
    output = {"predictions": f"s3://bucket/{place.predictions}", "activations": None}
    with Stubber(run.stack.clients.stepfunctions) as stub:
        stub.add_response("describe_execution", execution("SUCCEEDED", output=json.dumps(output)))
        paths = client.fetch(run, tmp_path / "new" / "out")
    assert paths == [tmp_path / "new" / "out" / "predictions.csv"]
    assert paths[0].read_bytes() == b"sample,argmax\n"


class TestProgress:
    def put(self, run: RunHandle, group: str, *lines: str) -> None:
        logs = run.stack.clients.logs
        stream = f"stream-{time.monotonic_ns()}"
        logs.create_log_stream(logGroupName=group, logStreamName=stream)
        now_ms = int(time.time() * 1000)
        logs.put_log_events(
            logGroupName=group,
            logStreamName=stream,
            logEvents=[{"timestamp": now_ms, "message": line} for line in lines],
        )

    def line(self, **more: object) -> str:
        return json.dumps(
            {"level": "INFO", "message": "progress", "run": RUN, "worker": 3, "attempt": 1} | more
        )

    def follower(self, run: RunHandle) -> LogFollower:
        return LogFollower(run.stack.clients.logs, GROUPS, RUN, run.started_s, 0.0)

    def test_each_line_once(self, run: RunHandle) -> None:
        follower = self.follower(run)
        assert follower.poll() == []
        self.put(run, GROUPS[1], self.line(done=17, layers=120, live=708), "START RequestId: " + RUN)
        assert follower.poll() == [WorkerProgress("progress", RUN, 3, 1, 17, 120, 708)]
        assert follower.poll() == []
        self.put(run, GROUPS[1], self.line(message="ended"))
        assert [found.message for found in follower.poll()] == ["ended"]

    def test_other_runs_and_other_lines_are_passed_over(self, run: RunHandle) -> None:
        self.put(
            run,
            GROUPS[0],
            self.line(run="other", note=RUN),
            self.line(message="reading weights"),
            self.line(worker="no number"),
            f"not json {RUN}",
        )
        assert self.follower(run).poll() == []

    def test_no_such_group_is_no_error(self, run: RunHandle) -> None:
        follower = LogFollower(run.stack.clients.logs, ["/gone"], RUN, run.started_s, 0.0)
        assert follower.poll() == []

    def test_not_more_often_than_allowed(self, run: RunHandle) -> None:
        follower = LogFollower(run.stack.clients.logs, GROUPS, RUN, run.started_s, 60.0)
        follower.poll()
        self.put(run, GROUPS[0], self.line())
        assert follower.poll() == []
        assert len(follower.poll(at_once=True)) == 1

    def test_watch_ends_with_the_run_and_passes_on_the_last_lines(self, run: RunHandle) -> None:
        self.put(run, GROUPS[0], self.line(done=1, layers=2, live=5))
        found: list[WorkerProgress] = []
        with Stubber(run.stack.clients.stepfunctions) as stub:
            for status in ("RUNNING", "RUNNING", "SUCCEEDED"):
                stub.add_response("describe_execution", execution(status))
            assert client.watch(run, found.append, poll_s=0.01, progress_s=60.0) == "SUCCEEDED"
            stub.assert_no_pending_responses()
        assert [line.done for line in found] == [1]


def test_clients_of_an_embedded_cloud_use_its_endpoint() -> None:
    with mock_aws():
        clients = Clients.connect(
            {
                "AWS_ENDPOINT_URL": "http://127.0.0.1:4566",
                "AWS_ACCESS_KEY_ID": "a",
                "AWS_SECRET_ACCESS_KEY": "b",
                "AWS_DEFAULT_REGION": "us-east-1",
            }
        )
    assert clients.s3.meta.endpoint_url == "http://127.0.0.1:4566"
    assert clients.stepfunctions.meta.endpoint_url == "http://127.0.0.1:4566"
