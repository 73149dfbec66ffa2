"""Creating and updating stacks: what is told meanwhile, and what happens when something fails."""

from __future__ import annotations

import json
import re
import urllib.request
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.cloud.helpers import (
    change,
    create_stack,
    delete_stack,
    execute,
    make_queue,
    queue_arn,
    receive,
    resource,
    settled,
    unique,
    update_stack,
    wait_until,
)
from workflows.embedded_cloud import EmbeddedCloud


class Gate:
    """A custom resource that is made when the test says so: it holds an operation up."""

    def __init__(self, cloud: EmbeddedCloud) -> None:
        self.cloud = cloud
        self.queue = make_queue(cloud)
        self.topic = cloud.client("sns").create_topic(Name=unique("gate"))["TopicArn"]
        cloud.client("sns").subscribe(
            TopicArn=self.topic,
            Protocol="sqs",
            Endpoint=queue_arn(self.queue),
            Attributes={"RawMessageDelivery": "true"},
        )

    def resource(self, **properties: Any) -> dict[str, Any]:
        return resource("Custom::Gate", ServiceToken=self.topic, **properties)

    def arrived(self) -> dict[str, Any]:
        """The next request, once it is made."""
        (message,) = wait_until(lambda: receive(self.cloud, self.queue))
        self.cloud.client("sqs").delete_message(QueueUrl=self.queue, ReceiptHandle=message["ReceiptHandle"])
        request: dict[str, Any] = json.loads(message["Body"])
        return request

    def answer(self, request: dict[str, Any], status: str = "SUCCESS") -> None:
        body = {
            "Status": status,
            "Reason": "told to",
            "PhysicalResourceId": "gate",
            **{key: request[key] for key in ("StackId", "RequestId", "LogicalResourceId")},
        }
        put = urllib.request.Request(request["ResponseURL"], json.dumps(body).encode(), method="PUT")
        urllib.request.urlopen(put)

    def open(self, status: str = "SUCCESS") -> str:
        """Answer the next request, and say what it was."""
        request = self.arrived()
        self.answer(request, status)
        return str(request["RequestType"])


@pytest.fixture
def gate(cloud: EmbeddedCloud) -> Gate:
    return Gate(cloud)


def begin(cloud: EmbeddedCloud, template: dict[str, Any], **options: Any) -> str:
    """Create a stack without waiting for it, and return its id."""
    request = {"StackName": unique("begun"), "TemplateBody": json.dumps(template), **options}
    return str(cloud.client("cloudformation").create_stack(**request)["StackId"])


def status(cloud: EmbeddedCloud, stack: str) -> str:
    client = cloud.client("cloudformation")
    return str(client.describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"])


def history(cloud: EmbeddedCloud, stack: str) -> list[tuple[str, str]]:
    """Events of a stack, oldest first; the stack itself is called so."""
    events = cloud.client("cloudformation").describe_stack_events(StackName=stack)["StackEvents"]
    return [
        (
            "stack" if each["PhysicalResourceId"] == each["StackId"] else each["LogicalResourceId"],
            each["ResourceStatus"],
        )
        for each in reversed(events)
    ]


def names_of_queues(cloud: EmbeddedCloud, prefix: str) -> list[str]:
    urls = cloud.client("sqs").list_queues(QueueNamePrefix=prefix).get("QueueUrls", [])
    return sorted(url.rsplit("/", 1)[1] for url in urls)


def test_operate_on_stacks_as_aws_does(gate: Gate) -> None:
    cloud, client = gate.cloud, gate.cloud.client("cloudformation")
    queue = resource("AWS::SQS::Queue")
    template = {
        "Resources": {"Gate": {**gate.resource(), "DependsOn": "Q"}, "Q": queue},
        "Outputs": {"Q": {"Value": {"Ref": "Q"}}},
    }
    stack = begin(cloud, template)
    request = gate.arrived()
    assert status(cloud, stack) == "CREATE_IN_PROGRESS"
    assert history(cloud, stack) == [
        ("stack", "CREATE_IN_PROGRESS"),
        ("Q", "CREATE_IN_PROGRESS"),
        ("Q", "CREATE_COMPLETE"),
        ("Gate", "CREATE_IN_PROGRESS"),
    ]
    found = client.describe_stack_resources(StackName=stack)["StackResources"]
    assert {each["LogicalResourceId"]: each["ResourceStatus"] for each in found} == {
        "Q": "CREATE_COMPLETE",
        "Gate": "CREATE_IN_PROGRESS",
    }
    assert "Outputs" not in client.describe_stacks(StackName=stack)["Stacks"][0]
    with pytest.raises(ClientError, match="is in CREATE_IN_PROGRESS state and can not be updated"):
        client.update_stack(StackName=stack, TemplateBody=json.dumps({"Resources": {"Q": queue}}))
    with pytest.raises(ClientError, match="already exists"):
        client.create_stack(StackName=stack.split("/")[1], TemplateBody=json.dumps(template))
    gate.answer(request)
    client.get_waiter("stack_create_complete").wait(
        StackName=stack, WaiterConfig={"Delay": 1, "MaxAttempts": 10}
    )
    listed = client.list_stack_resources(StackName=stack)["StackResourceSummaries"]
    assert {each["LogicalResourceId"]: each["PhysicalResourceId"] for each in listed}["Gate"] == "gate"

    template["Resources"]["Gate"] = gate.resource(Changed="yes")
    client.update_stack(StackName=stack, TemplateBody=json.dumps(template))
    request = gate.arrived()
    assert status(cloud, stack) == "UPDATE_IN_PROGRESS"
    with pytest.raises(ClientError, match="is in UPDATE_IN_PROGRESS state and can not be updated"):
        client.update_stack(StackName=stack, TemplateBody=json.dumps({"Resources": {"Q": queue}}))
    with pytest.raises(ClientError, match="cannot be deleted while in status UPDATE_IN_PROGRESS"):
        client.delete_stack(StackName=stack)
    with pytest.raises(ClientError, match="is in UPDATE_IN_PROGRESS state and can not be updated"):
        change(cloud, stack.split("/")[1], "UPDATE", template)
    gate.answer(request)
    client.get_waiter("stack_update_complete").wait(
        StackName=stack, WaiterConfig={"Delay": 1, "MaxAttempts": 10}
    )

    client.delete_stack(StackName=stack)
    request = gate.arrived()
    assert status(cloud, stack) == "DELETE_IN_PROGRESS"
    client.delete_stack(StackName=stack)
    gate.answer(request)
    client.get_waiter("stack_delete_complete").wait(
        StackName=stack.split("/")[1], WaiterConfig={"Delay": 1, "MaxAttempts": 10}
    )
    assert status(cloud, stack) == "DELETE_COMPLETE"


def test_change_sets_are_executed_in_the_background(gate: Gate) -> None:
    cloud, client = gate.cloud, gate.cloud.client("cloudformation")
    made = change(cloud, unique("slow"), "CREATE", {"Resources": {"Gate": gate.resource()}})
    client.execute_change_set(ChangeSetName=made["ChangeSetId"])
    request = gate.arrived()
    assert status(cloud, made["StackId"]) == "CREATE_IN_PROGRESS"
    found = client.describe_change_set(ChangeSetName=made["ChangeSetId"])
    assert found["ExecutionStatus"] == "EXECUTE_IN_PROGRESS"
    gate.answer(request)
    settled(cloud, made["StackId"])

    def executed() -> bool:
        found = client.describe_change_set(ChangeSetName=made["ChangeSetId"])
        return bool(found["ExecutionStatus"] == "EXECUTE_COMPLETE")

    wait_until(executed)


def test_requests_say_what_to_do_on_failure(gate: Gate) -> None:
    cloud, client, queue = gate.cloud, gate.cloud.client("cloudformation"), unique("stays")
    never = unique("never")
    good = resource("AWS::SQS::Queue", QueueName=queue)
    bad = {**resource("AWS::SQS::Queue", QueueName="not a name"), "DependsOn": "Good"}
    template = {"Resources": {"Good": good, "Bad": bad}}
    for option in ({"DisableRollback": True}, {"OnFailure": "DO_NOTHING"}):
        stack = begin(cloud, template, **option)
        assert settled(cloud, stack)["StackStatus"] == "CREATE_FAILED"
        assert names_of_queues(cloud, queue) == [queue]
        delete_stack(cloud, stack)
    stack = begin(cloud, template, OnFailure="DELETE")
    assert settled(cloud, stack)["StackStatus"] == "DELETE_COMPLETE"
    assert names_of_queues(cloud, queue) == []

    stack = begin(cloud, template, DisableRollback=True)
    settled(cloud, stack)
    better = {"Resources": {"Good": good, "Bad": {**good, "Properties": {"QueueName": f"{queue}-2"}}}}
    assert update_stack(cloud, stack, better)["StackStatus"] == "UPDATE_COMPLETE"
    assert names_of_queues(cloud, queue) == [queue, f"{queue}-2"]
    worse = {"Resources": {**better["Resources"], "More": bad}}
    failed = update_stack(cloud, stack, worse, DisableRollback=True)
    assert failed["StackStatus"] == "UPDATE_FAILED"
    assert update_stack(cloud, stack, better)["StackStatus"] == "UPDATE_COMPLETE"
    delete_stack(cloud, stack)

    made = change(cloud, unique("nothing"), "CREATE", template, on_failure="DO_NOTHING")
    assert execute(cloud, made)["StackStatus"] == "CREATE_FAILED"

    stack = create_stack(cloud, {"Resources": {"Q": resource("AWS::SQS::Queue")}})["StackId"]
    with pytest.raises(ClientError, match="cannot be called"):
        client.cancel_update_stack(StackName=stack)
    more = {
        "Q": resource("AWS::SQS::Queue"),
        "Gate": gate.resource(),
        "Z": resource("AWS::SQS::Queue", QueueName=never),
    }
    client.update_stack(StackName=stack, TemplateBody=json.dumps({"Resources": more}))
    gate.arrived()
    client.cancel_update_stack(StackName=stack)
    assert gate.open() == "Delete"
    assert settled(cloud, stack)["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert names_of_queues(cloud, never) == []


def test_another_is_made_before_the_replaced_one_goes(cloud: EmbeddedCloud) -> None:
    def template(fifo: dict[str, Any], **names: str) -> dict[str, Any]:
        queue = resource("AWS::SQS::Queue", **names, **fifo)
        user = resource("AWS::SQS::Queue", RedriveAllowPolicy={"sourceQueueArns": [{"Ref": "Q"}]})
        return {"Resources": {"Q": queue, "User": user}, "Outputs": {"Q": {"Value": {"Ref": "Q"}}}}

    first, second = unique("first"), unique("second")
    stack = create_stack(cloud, template({}, QueueName=first))["StackId"]
    before = len(history(cloud, stack))
    found = update_stack(cloud, stack, template({}, QueueName=second))
    assert found["Outputs"][0]["OutputValue"].endswith(second)
    assert history(cloud, stack)[before:] == [
        ("stack", "UPDATE_IN_PROGRESS"),
        ("Q", "UPDATE_IN_PROGRESS"),
        ("Q", "UPDATE_COMPLETE"),
        ("User", "UPDATE_IN_PROGRESS"),
        ("User", "UPDATE_COMPLETE"),
        ("stack", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"),
        ("Q", "DELETE_IN_PROGRESS"),
        ("Q", "DELETE_COMPLETE"),
        ("stack", "UPDATE_COMPLETE"),
    ]
    assert names_of_queues(cloud, first) == []
    assert names_of_queues(cloud, second) == [second]


def test_a_custom_name_stands_in_the_way_of_replacement(cloud: EmbeddedCloud) -> None:
    name = unique("named")

    def template(path: str) -> dict[str, Any]:
        trust = {"Version": "2012-10-17", "Statement": []}
        role = resource("AWS::IAM::Role", RoleName=name, Path=path, AssumeRolePolicyDocument=trust)
        return {"Resources": {"R": role}}

    stack = create_stack(cloud, template("/a/"))["StackId"]
    found = update_stack(cloud, stack, template("/b/"))
    assert found["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert f"custom-named resource requires replacing. Rename {name}" in found["StackStatusReason"]
    assert cloud.client("iam").get_role(RoleName=name)["Role"]["Path"] == "/a/"


def test_a_failed_update_brings_back_what_was_replaced(cloud: EmbeddedCloud) -> None:
    first, second = unique("first"), unique("second")

    def template(name: str, **more: Any) -> dict[str, Any]:
        queue = resource("AWS::SQS::Queue", QueueName=name)
        return {"Resources": {"Q": queue, **more}, "Outputs": {"Q": {"Value": {"Ref": "Q"}}}}

    stack = create_stack(cloud, template(first))["StackId"]
    bad = {**resource("AWS::SQS::Queue", QueueName="not a name"), "DependsOn": "Q"}
    found = update_stack(cloud, stack, template(second, Bad=bad))
    assert found["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert found["Outputs"][0]["OutputValue"].endswith(first)
    assert names_of_queues(cloud, first) == [first]
    assert names_of_queues(cloud, second) == []
    assert delete_stack(cloud, stack)["StackStatus"] == "DELETE_COMPLETE"
    assert names_of_queues(cloud, first) == []


@pytest.mark.parametrize(
    ("resources", "reason"),
    [
        (
            {
                "A": resource("AWS::SQS::Queue", QueueName={"Ref": "B"}),
                "B": {**resource("AWS::SQS::Queue"), "DependsOn": "A"},
            },
            r"Circular dependency between resources: \[A, B\]",
        ),
        (
            {"A": resource("AWS::SQS::Queue", QueueName={"Fn::Sub": "${Nothing}-${!Literal}"})},
            r"Unresolved resource dependencies \[Nothing\] in the Resources block",
        ),
    ],
)
def test_references_that_lead_nowhere(cloud: EmbeddedCloud, resources: Any, reason: str) -> None:
    with pytest.raises(ClientError, match=reason):
        begin(cloud, {"Resources": resources})
    failed = change(cloud, unique("nowhere"), "CREATE", {"Resources": resources})
    assert re.search(reason, failed["StatusReason"])


def test_a_resource_cannot_become_another_type(cloud: EmbeddedCloud) -> None:
    stack = create_stack(cloud, {"Resources": {"X": resource("AWS::SQS::Queue")}})["StackId"]
    with pytest.raises(ClientError, match=r"Update of resource type is not permitted.*\[X\]"):
        update_stack(cloud, stack, {"Resources": {"X": resource("AWS::SNS::Topic")}})


def test_nested_stacks_are_stacks(cloud: EmbeddedCloud) -> None:
    bucket, s3, queue = unique("nested"), cloud.client("s3"), unique("inner")
    s3.create_bucket(Bucket=bucket)
    inner = {
        "Parameters": {"Name": {"Type": "String"}, "Wait": {"Type": "Number", "Default": "5"}},
        "Resources": {
            "Q": resource("AWS::SQS::Queue", QueueName={"Ref": "Name"}, VisibilityTimeout={"Ref": "Wait"})
        },
        "Outputs": {"Url": {"Value": {"Ref": "Q"}}},
    }
    s3.put_object(Bucket=bucket, Key="inner.json", Body=json.dumps(inner))

    def outer(name: str, wait_s: int) -> dict[str, Any]:
        url = f"{cloud.endpoint_url}/{bucket}/inner.json"
        nested = resource(
            "AWS::CloudFormation::Stack", TemplateURL=url, Parameters={"Name": name, "Wait": wait_s}
        )
        outputs = {
            "Url": {"Value": {"Fn::GetAtt": ["Inner", "Outputs.Url"]}},
            "Id": {"Value": {"Ref": "Inner"}},
        }
        return {"Resources": {"Inner": nested}, "Outputs": outputs}

    stack = create_stack(cloud, outer(queue, 5))
    url = stack["Outputs"]["Url"]
    assert url.endswith(queue)
    assert update_stack(cloud, stack["StackId"], outer(queue, 6))["StackStatus"] == "UPDATE_COMPLETE"
    found = cloud.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["VisibilityTimeout"])
    assert found["Attributes"]["VisibilityTimeout"] == "6"
    delete_stack(cloud, stack["StackId"])
    assert status(cloud, stack["Outputs"]["Id"]) == "DELETE_COMPLETE"
    assert names_of_queues(cloud, queue) == []
    failed = create_stack(cloud, outer("not a name", 5))
    assert failed["StackStatus"] == "ROLLBACK_COMPLETE"
    assert "was not successfully created" in failed["StackStatusReason"]
    assert "alphanumeric" in failed["StackStatusReason"]


def test_fail_stacks_as_aws_does(cloud: EmbeddedCloud) -> None:
    queue = unique("rolled-back")
    resources = {
        "Good": resource("AWS::SQS::Queue", QueueName=queue),
        "Bad": {**resource("AWS::SQS::Queue", QueueName="not a name"), "DependsOn": "Good"},
    }
    stack = create_stack(cloud, {"Resources": resources, "Outputs": {"Q": {"Value": {"Ref": "Bad"}}}})
    assert stack["StackStatus"] == "ROLLBACK_COMPLETE"
    events = cloud.client("cloudformation").describe_stack_events(StackName=stack["StackName"])["StackEvents"]
    (failed,) = [event for event in events if event["ResourceStatus"] == "CREATE_FAILED"]
    assert failed["LogicalResourceId"] == "Bad"
    assert "alphanumeric" in failed["ResourceStatusReason"]
    assert not cloud.client("sqs").list_queues(QueueNamePrefix=queue).get("QueueUrls")


def test_failed_updates_are_rolled_back(cloud: EmbeddedCloud) -> None:
    name, good = unique("rolled"), unique("good")
    template = {
        "Parameters": {"Wait": {"Type": "Number", "Default": "5"}},
        "Resources": {"Good": resource("AWS::SQS::Queue", QueueName=good, VisibilityTimeout={"Ref": "Wait"})},
        "Outputs": {"U": {"Value": {"Ref": "Good"}}},
    }
    execute(cloud, change(cloud, name, "CREATE", template))
    bad = {"Bad": resource("AWS::SQS::Queue", QueueName="not a name"), **template["Resources"]}
    stack = execute(cloud, change(cloud, name, "UPDATE", {**template, "Resources": bad}, Wait="9"))
    assert stack["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert "failed to create: [Bad]" in stack["StackStatusReason"]
    assert {each["ParameterKey"]: each["ParameterValue"] for each in stack["Parameters"]} == {"Wait": "5"}
    (output,) = stack["Outputs"]
    found = cloud.client("sqs").get_queue_attributes(
        QueueUrl=output["OutputValue"], AttributeNames=["VisibilityTimeout"]
    )
    assert found["Attributes"]["VisibilityTimeout"] == "5"
    assert (
        execute(cloud, change(cloud, name, "UPDATE", template, Wait="9"))["StackStatus"] == "UPDATE_COMPLETE"
    )


def test_tell_of_every_resource(cloud: EmbeddedCloud) -> None:
    name = unique("told")
    template = {
        "Parameters": {"Wait": {"Type": "Number"}},
        "Resources": {"Q": resource("AWS::SQS::Queue", VisibilityTimeout={"Ref": "Wait"})},
    }
    execute(cloud, change(cloud, name, "CREATE", template, Wait="5"))
    execute(cloud, change(cloud, name, "UPDATE", template, Wait="6"))
    events = cloud.client("cloudformation").describe_stack_events(StackName=name)["StackEvents"]
    told = [each for each in reversed(events) if each["LogicalResourceId"] == "Q"]
    assert [each["ResourceStatus"] for each in told] == [
        "CREATE_IN_PROGRESS",
        "CREATE_COMPLETE",
        "UPDATE_IN_PROGRESS",
        "UPDATE_COMPLETE",
    ]
    assert told[1]["ResourceType"] == "AWS::SQS::Queue"
    assert "/" in told[1]["PhysicalResourceId"]


def test_log_groups_change_their_retention(cloud: EmbeddedCloud) -> None:
    name = unique("replaced")
    groups = {key: f"/{name}/{key}" for key in ("Kept", "Conditional")}
    template = {
        "Parameters": {"Days": {"Type": "Number"}, "Both": {"Type": "String"}},
        "Conditions": {"HasBoth": {"Fn::Equals": [{"Ref": "Both"}, "yes"]}},
        "Resources": {
            "Kept": resource(
                "AWS::Logs::LogGroup", LogGroupName=groups["Kept"], RetentionInDays={"Ref": "Days"}
            ),
            "Conditional": {
                **resource("AWS::Logs::LogGroup", LogGroupName=groups["Conditional"]),
                "Condition": "HasBoth",
            },
        },
    }

    def days() -> dict[str, int]:
        found = cloud.client("logs").describe_log_groups(logGroupNamePrefix=f"/{name}/")["logGroups"]
        return {each["logGroupName"].rsplit("/", 1)[1]: each.get("retentionInDays", 0) for each in found}

    execute(cloud, change(cloud, name, "CREATE", template, Days="7", Both="yes"))
    assert days() == {"Kept": 7, "Conditional": 0}
    cloud.client("logs").create_log_stream(logGroupName=groups["Kept"], logStreamName="one")
    execute(cloud, change(cloud, name, "UPDATE", template, Days="14", Both="no"))
    assert days() == {"Kept": 14}
    execute(cloud, change(cloud, name, "UPDATE", template, Days="14", Both="yes"))
    assert days() == {"Kept": 14, "Conditional": 0}
    (stream,) = cloud.client("logs").describe_log_streams(logGroupName=groups["Kept"])["logStreams"]
    assert stream["logStreamName"] == "one"
    delete_stack(cloud, name)
    assert days() == {}
