"""Distributed Maps run as on AWS; with ``WITHOUT_PATCH=name`` in the environment a patch's own test fails."""

from __future__ import annotations

import json
import time
from typing import Any

from tests.cloud.conftest import Sample
from tests.cloud.helpers import (
    finish,
    make_function,
    make_machine,
    make_queue,
    objects,
    one_state,
    queue_arn,
    receive,
    run,
    start,
    task,
    unique,
    wait_until,
)
from workflows.embedded_cloud import EmbeddedCloud

MARK = "after-the-end"


def distributed(processor: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A machine of one Distributed Map over the input's items."""
    config = {"ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}, **processor}
    state = {"Type": "Map", "ItemsPath": "$.items", "Label": "Parts", "ItemProcessor": config, "End": True}
    return one_state({**state, **fields})


def marking(function: str, bucket: str) -> dict[str, Any]:
    """A task, and a state that leaves an object."""
    first = {**task(function), "Next": "Mark"}
    del first["End"]
    mark = {
        "Type": "Task",
        "Resource": "arn:aws:states:::aws-sdk:s3:putObject",
        "Parameters": {"Bucket": bucket, "Key": MARK, "Body": {}},
        "End": True,
    }
    return {"StartAt": "Work", "States": {"Work": first, "Mark": mark}}


def map_run(cloud: EmbeddedCloud, execution: str) -> dict[str, Any]:
    client = cloud.client("stepfunctions")
    (found,) = client.list_map_runs(executionArn=execution)["mapRuns"]
    return dict(client.describe_map_run(mapRunArn=found["mapRunArn"]))


def children(cloud: EmbeddedCloud, execution: str, **options: Any) -> list[dict[str, Any]]:
    arn = map_run(cloud, execution)["mapRunArn"]
    found: list[dict[str, Any]] = cloud.client("stepfunctions").list_executions(mapRunArn=arn, **options)[
        "executions"
    ]
    return found


def test_children_are_executions(cloud: EmbeddedCloud) -> None:
    own = {"id.$": "$$.Execution.Id", "name.$": "$$.Execution.Name", "item.$": "$$.Execution.Input"}
    machine = make_machine(cloud, distributed(one_state({"Type": "Pass", "Parameters": own, "End": True})))
    parent = run(cloud, machine, {"items": [{"n": 0}, {"n": 1}]})
    client = cloud.client("stepfunctions")

    told = json.loads(parent["output"])
    assert [each["item"] for each in told] == [{"n": 0}, {"n": 1}]
    listed = children(cloud, parent["executionArn"])
    assert {each["executionArn"] for each in listed} == {each["id"] for each in told}
    assert {each["name"] for each in listed} == {each["name"] for each in told}
    child = client.describe_execution(executionArn=told[1]["id"])
    assert child["stateMachineArn"] == f"{machine}/Parts"
    assert child["executionArn"].startswith(machine.replace(":stateMachine:", ":execution:") + "/Parts:")
    assert (child["status"], json.loads(child["input"])) == ("SUCCEEDED", {"n": 1})
    assert child["mapRunArn"] == map_run(cloud, parent["executionArn"])["mapRunArn"]

    events = client.get_execution_history(executionArn=told[0]["id"])["events"]
    assert [event["type"] for event in events] == [
        "ExecutionStarted",
        "PassStateEntered",
        "PassStateExited",
        "ExecutionSucceeded",
    ]
    of_parent = client.get_execution_history(executionArn=parent["executionArn"])["events"]
    assert "PassStateEntered" not in {event["type"] for event in of_parent}
    runs = client.list_executions(stateMachineArn=machine)["executions"]
    assert [each["executionArn"] for each in runs] == [parent["executionArn"]]
    assert not children(cloud, parent["executionArn"], statusFilter="FAILED")


def test_publish_status_changes_of_children(cloud: EmbeddedCloud) -> None:
    machine = make_machine(cloud, distributed(one_state({"Type": "Pass", "End": True})))
    queues = {}
    for arn in (machine, f"{machine}/Parts"):
        queues[arn] = make_queue(cloud)
        pattern = {
            "source": ["aws.states"],
            "detail": {"stateMachineArn": [arn], "status": ["SUCCEEDED", "FAILED"]},
        }
        rule = unique("rule")
        events = cloud.client("events")
        events.put_rule(Name=rule, EventPattern=json.dumps(pattern))
        events.put_targets(Rule=rule, Targets=[{"Id": "queue", "Arn": queue_arn(queues[arn])}])
    parent = run(cloud, machine, {"items": [1, 2, 3]})

    def told(arn: str, count: int) -> list[str]:
        found: list[str] = []

        def all_arrived() -> bool:
            bodies = [json.loads(message["Body"]) for message in receive(cloud, queues[arn])]
            found.extend(body["detail"]["executionArn"] for body in bodies)
            return len(found) >= count

        wait_until(all_arrived)
        return sorted(found)

    listed = [each["executionArn"] for each in children(cloud, parent["executionArn"])]
    assert told(f"{machine}/Parts", 3) == sorted(listed)
    assert told(machine, 1) == [parent["executionArn"]]


def test_distributed_map_fails_with_its_items(cloud: EmbeddedCloud) -> None:
    function = make_function(cloud)
    items = {"items": [{"value": 1}, {"fail": "x"}, {"value": 2}]}
    strict = run(cloud, make_machine(cloud, distributed(one_state(task(function)))), items)
    assert (strict["status"], strict["error"]) == ("FAILED", "States.ExceedToleratedFailureThreshold")
    tolerant = distributed(one_state(task(function)), ToleratedFailureCount=1)
    assert run(cloud, make_machine(cloud, tolerant), items)["status"] == "SUCCEEDED"


def test_map_runs_stop_their_children(sample: Sample) -> None:
    """Those of one that fails, even if that is caught, and those of one whose parent is stopped."""
    cloud, bucket = sample.cloud, sample.outputs["BucketName"]
    function = make_function(cloud)
    definition = distributed(
        marking(function, bucket), Catch=[{"ErrorEquals": ["States.ALL"], "Next": "Caught"}]
    )
    definition["States"]["Caught"] = {"Type": "Wait", "Seconds": 3, "End": True}
    machine = make_machine(cloud, definition)

    failing = start(cloud, machine, {"items": [{"sleep_s": 2}, {"fail": "now"}]})
    wait_until(lambda: map_run(cloud, failing)["status"] == "FAILED")
    assert sorted(each["status"] for each in children(cloud, failing)) == ["ABORTED", "FAILED"]
    counts = map_run(cloud, failing)["itemCounts"]
    assert (counts["aborted"], counts["failed"], counts["running"]) == (1, 1, 0)

    stopped = start(cloud, machine, {"items": [{"sleep_s": 2}] * 3})
    wait_until(lambda: len(children(cloud, stopped)) == 3)
    cloud.client("stepfunctions").stop_execution(executionArn=stopped)
    assert {each["status"] for each in children(cloud, stopped)} == {"ABORTED"}
    time.sleep(2.5)
    assert map_run(cloud, stopped)["status"] == "ABORTED"
    assert finish(cloud, failing)["status"] == "SUCCEEDED"
    assert MARK not in objects(cloud, bucket)


def test_a_hundred_children_run_at_the_same_time(sample: Sample) -> None:
    cloud, bucket = sample.cloud, sample.outputs["BucketName"]
    key = unique("items")
    cloud.client("s3").put_object(Bucket=bucket, Key=key, Body=json.dumps([{"n": n} for n in range(100)]))
    reader = {
        "Resource": "arn:aws:states:::s3:getObject",
        "ReaderConfig": {"InputType": "JSON"},
        "Parameters": {"Bucket": bucket, "Key.$": "$.key"},
    }
    wait = {"StartAt": "Sleep", "States": {"Sleep": {"Type": "Wait", "Seconds": 3, "End": True}}}
    definition = distributed(wait, ItemReader=reader, MaxConcurrency=1000)
    del definition["States"]["Only"]["ItemsPath"]
    began = time.monotonic()
    parent = run(cloud, make_machine(cloud, definition), {"key": key})
    assert [each["n"] for each in json.loads(parent["output"])] == list(range(100))
    # One after another they would take five minutes.
    assert time.monotonic() - began < 20
