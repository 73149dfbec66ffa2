"""The Lambda service behaves as AWS's, one behaviour a test."""

from __future__ import annotations

import base64
import itertools
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.cloud.conftest import Sample
from tests.cloud.helpers import RUNTIME, invoke, is_running, logged, make_function, wait_until
from workflows.embedded_cloud import EmbeddedCloud, EmbeddedCloudError
from workflows.embedded_cloud.interpreters import find_interpreter, running_version


def other_runtime() -> str | None:
    for minor in (10, 11, 12, 13, 14):
        version = f"3.{minor}"
        if version != running_version():
            try:
                return f"python{find_interpreter(f'python{version}').version}"
            except EmbeddedCloudError:
                continue
    return None


def test_environment_is_reused(cloud: EmbeddedCloud) -> None:
    name = make_function(cloud)
    answers = [invoke(cloud, name)[0] for _ in range(3)]
    assert len({answer["pid"] for answer in answers}) == 1
    assert [answer["invocations"] for answer in answers] == [1, 2, 3]
    assert len({answer["request"] for answer in answers}) == 3


def test_a_log_group_that_was_deleted_is_not_made_again_by_late_lines(cloud: EmbeddedCloud) -> None:
    name = make_function(cloud)
    group = f"/aws/lambda/{name}"
    invoke(cloud, name, {"print": "early"})
    wait_until(lambda: "early" in logged(cloud, group))
    cloud.client("logs").delete_log_group(logGroupName=group)
    invoke(cloud, name, {"print": "late"})
    # The lines of another function come later, and by the same way.
    other = make_function(cloud)
    invoke(cloud, other, {"print": "later"})
    wait_until(lambda: "later" in logged(cloud, f"/aws/lambda/{other}"))
    assert not cloud.client("logs").describe_log_groups(logGroupNamePrefix=group)["logGroups"]
    cloud.client("logs").create_log_group(logGroupName=group)
    invoke(cloud, name, {"print": "again"})
    wait_until(lambda: "again" in logged(cloud, group))


def test_concurrent_invocations_have_an_environment_each(cloud: EmbeddedCloud) -> None:
    name = make_function(cloud)
    with ThreadPoolExecutor(4) as pool:
        answers = [each[0] for each in pool.map(lambda _: invoke(cloud, name, {"sleep_s": 1.0}), range(4))]
    assert len({answer["pid"] for answer in answers}) == 4


def test_most_recently_used_environment_first(cloud: EmbeddedCloud) -> None:
    name = make_function(cloud)
    with ThreadPoolExecutor(2) as pool:
        first, second = (
            pool.submit(invoke, cloud, name, {"sleep_s": 0.6}),
            pool.submit(invoke, cloud, name, {"sleep_s": 1.4}),
        )
        last_used = second.result()[0]["pid"]
        assert first.result()[0]["pid"] != last_used
    assert {invoke(cloud, name)[0]["pid"] for _ in range(3)} == {last_used}


def test_timeout(cloud: EmbeddedCloud) -> None:
    name = make_function(cloud, Timeout=1)
    pid = invoke(cloud, name)[0]["pid"]
    began = time.monotonic()
    error, answer = invoke(cloud, name, {"sleep_s": 10})
    assert time.monotonic() - began < 3
    assert answer["FunctionError"] == "Unhandled"
    assert error["errorType"] == "Sandbox.Timedout"
    assert error["errorMessage"].startswith("RequestId: ")
    assert error["errorMessage"].endswith(" Error: Task timed out after 1.00 seconds")
    assert invoke(cloud, name)[0]["pid"] != pid
    wait_until(lambda: not is_running(pid))


@pytest.mark.parametrize(
    ("event", "words"),
    [({"exit": 3}, "with error: exit status 3"), ({"exit": 0}, "without providing a reason")],
)
def test_exit(cloud: EmbeddedCloud, event: dict[str, Any], words: str) -> None:
    name = make_function(cloud)
    error, answer = invoke(cloud, name, event)
    assert answer["FunctionError"] == "Unhandled"
    assert error["errorType"] == "Runtime.ExitError"
    assert error["errorMessage"].endswith(f" Error: Runtime exited {words}")
    assert invoke(cloud, name)[0]["invocations"] == 1


@pytest.mark.parametrize(
    "event", [{"allocate_mb": 400}, {"child_allocate_mb": 400}], ids=["handler", "child"]
)
def test_more_memory_than_allowed(cloud: EmbeddedCloud, event: dict[str, Any]) -> None:
    name = make_function(cloud, MemorySize=128)
    error, answer = invoke(cloud, name, event, LogType="Tail")
    assert error["errorType"] == "Runtime.ExitError"
    assert error["errorMessage"].endswith(" Error: Runtime exited with error: signal: killed")
    assert "Max Memory Used: 128 MB" in base64.b64decode(answer["LogResult"]).decode()


def test_short_peak_over_the_limit(cloud: EmbeddedCloud) -> None:
    name = make_function(cloud, MemorySize=128)
    error, _ = invoke(cloud, name, {"allocate_mb": 200, "hold_s": 0})
    assert error["errorType"] == "Runtime.ExitError"


def test_memory_within_the_limit(cloud: EmbeddedCloud) -> None:
    name = make_function(cloud, MemorySize=512)
    answer, response = invoke(cloud, name, {"allocate_mb": 300, "hold_s": 0.3})
    assert "FunctionError" not in response, answer


def test_frozen_while_idle(cloud: EmbeddedCloud) -> None:
    name = make_function(cloud)
    invoke(cloud, name, {"tick": True, "sleep_s": 0.2})
    time.sleep(0.7)
    answer, _ = invoke(cloud, name, {"ticks": True, "sleep_s": 0.2})
    ticks = answer["ticks"]
    gaps = [later - earlier for earlier, later in itertools.pairwise(ticks)]
    assert len(ticks) > 10
    assert max(gaps) > 0.5


def test_handler_error(cloud: EmbeddedCloud) -> None:
    error, answer = invoke(cloud, make_function(cloud), {"fail": "no good"})
    assert answer["FunctionError"] == "Unhandled"
    assert (error["errorType"], error["errorMessage"]) == ("ValueError", "no good")
    assert "raise ValueError" in "".join(error["stackTrace"])


@pytest.mark.parametrize(
    ("handler", "error_type"),
    [("nothing.handler", "Runtime.ImportModuleError"), ("app.nothing", "Runtime.HandlerNotFound")],
)
def test_init_error(cloud: EmbeddedCloud, handler: str, error_type: str) -> None:
    name = make_function(cloud, Handler=handler)
    for _ in range(2):
        error, answer = invoke(cloud, name)
        assert answer["FunctionError"] == "Unhandled"
        assert error["errorType"] == error_type


def test_exit_during_init(cloud: EmbeddedCloud) -> None:
    error, _ = invoke(cloud, make_function(cloud, "import os\nos._exit(7)\n"))
    assert error["errorType"] == "Runtime.ExitError"
    assert error["errorMessage"].endswith("exit status 7")


def test_environment_variables(sample: Sample) -> None:
    name = sample.outputs["WorkerName"]
    context = base64.b64encode(json.dumps({"custom": {"k": "v"}}).encode()).decode()
    answer, _ = invoke(sample.cloud, name, {"environment": True}, ClientContext=context)
    found = answer["environment"]
    expected = {
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": sample.cloud.endpoint_url,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{RUNTIME}",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
        "AWS_LAMBDA_FUNCTION_NAME": name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_FORMAT": "JSON",
        "AWS_LAMBDA_LOG_GROUP_NAME": "/sample/worker",
        "AWS_REGION": "us-east-1",
        "PREFIX": "sample",
        "TZ": ":UTC",
        "_HANDLER": "app.handler",
    }
    assert {key: found.get(key) for key in expected} == expected
    assert found["_X_AMZN_TRACE_ID"].startswith("Root=1-")
    assert f"{name}[$LATEST]" in found["AWS_LAMBDA_LOG_STREAM_NAME"]
    assert "GREETING" not in found
    assert "VIRTUAL_ENV" not in found
    assert not any(key.startswith("_EMBEDDED") for key in found)
    assert answer["path"][0] == found["LAMBDA_TASK_ROOT"]
    assert 0 < answer["remaining_ms"] <= 5000
    assert answer["arn"] == sample.outputs["WorkerArn"]
    assert answer["context"] == {"k": "v"}


@pytest.mark.parametrize("module", ["pytest", "moto", "workflows", "lamella", "numpy"])
def test_nothing_of_the_checkout_or_its_environment_is_importable(cloud: EmbeddedCloud, module: str) -> None:
    error, _ = invoke(cloud, make_function(cloud), {"import": module})
    assert error["errorType"] == "ModuleNotFoundError"


def test_sdk_and_layer_are_importable(sample: Sample) -> None:
    for module in ("boto3", "sample_layer"):
        answer, _ = invoke(sample.cloud, sample.outputs["WorkerName"], {"import": module})
        assert module in answer["module"]


def test_another_python(cloud: EmbeddedCloud) -> None:
    runtime = other_runtime()
    if runtime is None:
        pytest.skip("no other Python runs on this machine")
    name = make_function(cloud, Runtime=runtime)
    answer, _ = invoke(cloud, name, {"environment": True})
    assert answer["python"].startswith(runtime.removeprefix("python"))
    answer, _ = invoke(cloud, name, {"import": "boto3"})
    assert answer["invocations"] == 2
    assert invoke(cloud, name, {"fail": "x"})[0]["errorType"] == "ValueError"


def test_text_log(cloud: EmbeddedCloud) -> None:
    name = make_function(cloud)
    answer, response = invoke(cloud, name, {"print": "hello\nworld"}, LogType="Tail")
    tail = base64.b64decode(response["LogResult"]).decode()
    request = answer["request"]
    assert (
        f"START RequestId: {request} Version: $LATEST\nhello\nworld\nEND RequestId: {request}\nREPORT" in tail
    )
    assert "Init Duration:" in tail
    (file,) = cloud.log_dir.glob(f"{name}-*.log")
    assert tail in file.read_text()
    group = f"/aws/lambda/{name}"
    wait_until(lambda: "world" in logged(cloud, group), 2)
    _, response = invoke(cloud, name, LogType="Tail")
    assert "Init Duration:" not in base64.b64decode(response["LogResult"]).decode()


def test_json_log(sample: Sample) -> None:
    answer, _ = invoke(sample.cloud, sample.outputs["WorkerName"])

    def report() -> Any:
        for line in logged(sample.cloud, sample.outputs["LogGroup"]):
            event = json.loads(line)
            if event.get("type") == "platform.report" and event["record"]["requestId"] == answer["request"]:
                return event["record"]
        return None

    found = wait_until(report, 3)
    assert found["status"] == "success"
    assert found["metrics"]["memorySizeMB"] == 256
    assert 1 <= found["metrics"]["maxMemoryUsedMB"] < 256
    assert found["metrics"]["billedDurationMs"] >= found["metrics"]["durationMs"]


def test_log_is_seen_while_the_handler_runs(cloud: EmbeddedCloud) -> None:
    source = "import time\ndef handler(event, context):\n    print('early')\n    time.sleep(2)\n"
    name = make_function(cloud, source)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(invoke, cloud, name)
        wait_until(lambda: "early" in logged(cloud, f"/aws/lambda/{name}"), 1.8)
        assert not running.done()
        running.result()


def test_asynchronous_invocation(sample: Sample) -> None:
    answer = sample.cloud.client("lambda").invoke(
        FunctionName=sample.outputs["OnEndName"], InvocationType="Event", Payload=b'{"name": "async"}'
    )
    assert answer["StatusCode"] == 202
    bucket = sample.outputs["BucketName"]
    s3 = sample.cloud.client("s3")
    wait_until(lambda: s3.list_objects_v2(Bucket=bucket, Prefix="ended/async.json")["KeyCount"])


def test_asynchronous_invocation_is_retried(cloud: EmbeddedCloud) -> None:
    name = make_function(cloud)
    client = cloud.client("lambda")
    client.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=1)
    client.invoke(FunctionName=name, InvocationType="Event", Payload=b'{"fail": "always"}')

    def starts() -> int:
        files = list(cloud.log_dir.glob(f"{name}-*.log"))
        return sum(file.read_text().count("START RequestId") for file in files)

    wait_until(lambda: starts() == 2)
    time.sleep(0.5)
    assert starts() == 2


def test_dry_run(cloud: EmbeddedCloud) -> None:
    _, answer = invoke(cloud, make_function(cloud), InvocationType="DryRun")
    assert answer["StatusCode"] == 204


def test_reply_too_large(cloud: EmbeddedCloud) -> None:
    name = make_function(cloud, MemorySize=512)
    error, answer = invoke(cloud, name, {"reply_bytes": 6_400_000})
    assert answer["FunctionError"] == "Unhandled"
    assert error["errorType"] == "Function.ResponseSizeTooLarge"
    reply, _ = invoke(cloud, name, {"reply_bytes": 6_000_000})
    assert len(reply) == 6_000_000


def test_request_too_large(cloud: EmbeddedCloud) -> None:
    with pytest.raises(ClientError) as caught:
        invoke(cloud, make_function(cloud), {"x": "y" * 6_300_000})
    assert caught.value.response["Error"]["Code"] == "RequestTooLargeException"


def test_unknown_function(cloud: EmbeddedCloud) -> None:
    with pytest.raises(ClientError) as caught:
        invoke(cloud, "nothing")
    assert caught.value.response["Error"]["Code"] == "ResourceNotFoundException"


def test_reserved_concurrency(cloud: EmbeddedCloud) -> None:
    name = make_function(cloud)
    client = cloud.client("lambda")
    client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(invoke, cloud, name, {"sleep_s": 1.5})
        wait_until(lambda: list(cloud.log_dir.glob(f"{name}-*.log")))
        with pytest.raises(ClientError) as caught:
            cloud.client("lambda", retries={"total_max_attempts": 1}).invoke(FunctionName=name)
        assert caught.value.response["Error"]["Code"] == "TooManyRequestsException"
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 429
        running.result()


def test_update_starts_new_environments(cloud: EmbeddedCloud) -> None:
    name = make_function(cloud)
    before = invoke(cloud, name, {"environment": True})[0]
    environment = {"Variables": {"NEW": "yes"}}
    cloud.client("lambda").update_function_configuration(FunctionName=name, Environment=environment)
    after = invoke(cloud, name, {"environment": True})[0]
    assert after["pid"] != before["pid"]
    assert after["environment"]["NEW"] == "yes"
    wait_until(lambda: not is_running(before["pid"]))
