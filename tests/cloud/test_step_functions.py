"""State machines run as on AWS."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.cloud.conftest import Sample
from tests.cloud.helpers import (
    finish,
    invoke,
    make_function,
    make_machine,
    objects,
    one_state,
    run,
    start,
    task,
    wait_until,
)
from workflows.embedded_cloud import EmbeddedCloud


def inline_map(processor: dict[str, Any], **fields: Any) -> dict[str, Any]:
    config = {"ProcessorConfig": {"Mode": "INLINE"}, **processor}
    return {"Type": "Map", "ItemsPath": "$.items", "ItemProcessor": config, "End": True, **fields}


def test_map_with_retry_and_catch(sample: Sample) -> None:
    items = [{"value": n} for n in range(12)] + [{"fail": "bad"}, {"value": 50, "flaky_until": 1}]
    found = run(sample.cloud, sample.outputs["MachineArn"], {"items": items})
    assert found["status"] == "SUCCEEDED", found
    output = json.loads(found["output"])
    assert [each["value"] for each in output[:12]] == [2 * n for n in range(12)]
    assert output[13] == {"value": 100}
    assert output[12]["error"]["Error"] == "ValueError"
    key = f"errors/{found['name']}/12.json"
    stored = json.loads(objects(sample.cloud, sample.outputs["BucketName"])[key])
    assert stored["error"] == "ValueError"
    assert json.loads(stored["cause"])["errorMessage"] == "bad"


def test_context_object(cloud: EmbeddedCloud) -> None:
    parameters = {
        "id.$": "$$.Execution.Id",
        "name.$": "$$.Execution.Name",
        "start.$": "$$.Execution.StartTime",
    }
    machine = make_machine(cloud, one_state({"Type": "Pass", "Parameters": parameters, "End": True}))
    found = run(cloud, machine)
    output = json.loads(found["output"])
    assert output["id"] == found["executionArn"]
    assert output["name"] == found["name"]
    assert output["start"].startswith("20")


def test_iterations_run_at_the_same_time(cloud: EmbeddedCloud) -> None:
    name = make_function(cloud)
    machine = make_machine(cloud, one_state(inline_map(one_state(task(name)))))
    began = time.monotonic()
    found = run(cloud, machine, {"items": [{"sleep_s": 2}] * 8})
    assert found["status"] == "SUCCEEDED"
    assert time.monotonic() - began < 8
    assert len({each["pid"] for each in json.loads(found["output"])}) == 8


@pytest.mark.parametrize(
    ("event", "settings", "error"),
    [
        ({"fail": "x"}, {}, "ValueError"),
        ({"exit": 1}, {}, "Runtime.ExitError"),
        ({"sleep_s": 9}, {"Timeout": 1}, "Sandbox.Timedout"),
        ({"allocate_mb": 300}, {"MemorySize": 128}, "Runtime.ExitError"),
    ],
)
def test_error_names(
    cloud: EmbeddedCloud, event: dict[str, Any], settings: dict[str, Any], error: str
) -> None:
    machine = make_machine(cloud, one_state(task(make_function(cloud, **settings))))
    found = run(cloud, machine, event)
    assert (found["status"], found["error"]) == ("FAILED", error)
    assert json.loads(found["cause"])["errorType"] == error


def test_throttled_task(cloud: EmbeddedCloud) -> None:
    name = make_function(cloud)
    cloud.client("lambda").put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    found = run(cloud, make_machine(cloud, one_state(task(name))))
    assert found["error"] == "Lambda.TooManyRequestsException"


def test_task_timeout(cloud: EmbeddedCloud) -> None:
    machine = make_machine(cloud, one_state(task(make_function(cloud), TimeoutSeconds=1)))
    began = time.monotonic()
    found = run(cloud, machine, {"sleep_s": 8})
    assert (found["status"], found["error"]) == ("FAILED", "States.Timeout")
    assert time.monotonic() - began < 5


def test_retry_counts_and_limits(cloud: EmbeddedCloud) -> None:
    name = make_function(cloud)
    retry = [
        {
            "ErrorEquals": ["Flaky"],
            "IntervalSeconds": 1,
            "MaxAttempts": 2,
            "MaxDelaySeconds": 1,
            "JitterStrategy": "FULL",
        }
    ]
    parameters = {
        "FunctionName": name,
        "Payload": {"flaky_until.$": "$.flaky_until", "attempt.$": "$$.State.RetryCount"},
    }
    machine = make_machine(cloud, one_state(task(name, Retry=retry, Parameters=parameters)))
    assert run(cloud, machine, {"flaky_until": 2})["status"] == "SUCCEEDED"
    assert run(cloud, machine, {"flaky_until": 3})["error"] == "Flaky"
    (count,) = {invoke(cloud, name)[0]["invocations"]}
    assert count == 7


def test_peers_of_a_failed_iteration_enter_no_further_state(sample: Sample) -> None:
    cloud, bucket = sample.cloud, sample.outputs["BucketName"]
    name = make_function(cloud)
    mark = {
        "Type": "Task",
        "Resource": "arn:aws:states:::aws-sdk:s3:putObject",
        "Parameters": {"Bucket": bucket, "Key": "after-failure", "Body": {}},
        "End": True,
    }
    first = {**task(name), "Next": "Mark"}
    del first["End"]
    processor = {"StartAt": "Work", "States": {"Work": first, "Mark": mark}}
    machine = make_machine(cloud, one_state(inline_map(processor)))
    found = run(cloud, machine, {"items": [{"sleep_s": 2}, {"fail": "now"}]})
    assert found["status"] == "FAILED"
    time.sleep(2.5)
    assert "after-failure" not in objects(cloud, bucket)


def test_started_from_a_rule(sample: Sample) -> None:
    """A failed execution of the sample machine reaches the function that its rule names."""
    cloud = sample.cloud
    execution = start(cloud, sample.outputs["MachineArn"], {"items": [{"exit": 1}]})
    found = finish(cloud, execution)
    assert found["status"] == "FAILED"
    key = f"ended/{found['name']}.json"
    event = json.loads(wait_until(lambda: objects(cloud, sample.outputs["BucketName"]).get(key)))
    assert event == {
        "name": found["name"],
        "status": "FAILED",
        "input": json.dumps({"items": [{"exit": 1}]}),
        "text": f"run {found['name']} is FAILED",
    }
