"""Custom resources: what their providers are asked, and what their answers do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cloud.helpers import (
    create_stack,
    delete_stack,
    make_function,
    resource,
    settled,
    unique,
    update_stack,
    wait_until,
)
from workflows.embedded_cloud import EmbeddedCloud
from workflows.embedded_cloud.stacks.custom_resources import as_strings, read_answer
from workflows.embedded_cloud.stacks.failures import ResourceFailed

# Writes down what it is asked, and answers what its properties say.
PROVIDER = """
import json, os, time, urllib.request, boto3
def handler(event, context):
    properties, kind = event["ResourceProperties"], event["RequestType"]
    boto3.client("sqs").send_message(QueueUrl=properties["Journal"], MessageBody=json.dumps(event))
    if properties.get("Silent") == kind:
        return
    failed = properties.get("Fail") == kind
    answer = {
        "Status": "FAILED" if failed else "SUCCESS",
        "Reason": "told to" if failed else "",
        "PhysicalResourceId": properties.get("Id", "the-id"),
        "StackId": event["StackId"],
        "RequestId": event["RequestId"],
        "LogicalResourceId": event["LogicalResourceId"],
        "Data": {"Word": properties.get("Word", "none"), "Deep.Name": "dots"},
    }
    request = urllib.request.Request(event["ResponseURL"], json.dumps(answer).encode(), method="PUT")
    urllib.request.urlopen(request)
"""


class Provider:
    """A function that makes custom resources, and its journal."""

    def __init__(self, cloud: EmbeddedCloud, function: str) -> None:
        self.cloud = cloud
        self.arn = f"arn:aws:lambda:us-east-1:123456789012:function:{function}"
        self.sqs = cloud.client("sqs")
        self.journal = self.sqs.create_queue(QueueName=unique("journal"))["QueueUrl"]

    def resource(self, kind: str = "Custom::Thing", **properties: Any) -> dict[str, Any]:
        return resource(kind, ServiceToken=self.arn, Journal=self.journal, **properties)

    def asked(self, count: int) -> list[dict[str, Any]]:
        """Requests since the last time, oldest first."""
        found: list[dict[str, Any]] = []

        def all_there() -> bool:
            got = self.sqs.receive_message(QueueUrl=self.journal, MaxNumberOfMessages=10).get("Messages", [])
            for message in got:
                found.append(json.loads(message["Body"]))
                self.sqs.delete_message(QueueUrl=self.journal, ReceiptHandle=message["ReceiptHandle"])
            return len(found) >= count

        wait_until(all_there)
        return found


@pytest.fixture(scope="module")
def function(cloud: EmbeddedCloud) -> str:
    return make_function(cloud, PROVIDER)


@pytest.fixture
def provider(cloud: EmbeddedCloud, function: str) -> Provider:
    return Provider(cloud, function)


def kinds(requests: list[dict[str, Any]]) -> list[str]:
    return [each["RequestType"] for each in requests]


def reasons(cloud: EmbeddedCloud, stack_id: str, status: str) -> list[tuple[str, str]]:
    events = cloud.client("cloudformation").describe_stack_events(StackName=stack_id)["StackEvents"]
    return [
        (each["LogicalResourceId"], each.get("ResourceStatusReason", ""))
        for each in events
        if each["ResourceStatus"] == status and each["ResourceType"] != "AWS::CloudFormation::Stack"
    ]


@pytest.mark.parametrize("kind", ["Custom::Thing", "AWS::CloudFormation::CustomResource"])
def test_custom_resources_ask_their_provider(provider: Provider, kind: str) -> None:
    cloud = provider.cloud
    queue = resource("AWS::SQS::Queue", QueueName={"Fn::GetAtt": ["C", "Word"]})

    def template(word: str) -> dict[str, Any]:
        return {
            "Resources": {
                "C": provider.resource(kind, Word=word, Flag=True, List=[1, {"x": 2.5}]),
                "Q": queue,
            },
            "Outputs": {
                "Id": {"Value": {"Ref": "C"}},
                "Word": {"Value": {"Fn::Sub": "<${C.Word}>"}},
                "Dots": {"Value": {"Fn::GetAtt": ["C", "Deep.Name"]}},
            },
        }

    first, second = unique("first"), unique("second")
    stack = create_stack(cloud, template(first))
    assert stack["Outputs"] == {"Id": "the-id", "Word": f"<{first}>", "Dots": "dots"}
    assert len(cloud.client("sqs").list_queues(QueueNamePrefix=first)["QueueUrls"]) == 1
    (created,) = provider.asked(1)
    assert created["RequestType"] == "Create"
    assert created["ResponseURL"].startswith(f"{cloud.endpoint_url}/")
    assert (created["StackId"], created["LogicalResourceId"]) == (stack["StackId"], "C")
    assert created["ResourceType"] == kind
    assert "PhysicalResourceId" not in created
    assert created["ResourceProperties"] == {
        "ServiceToken": provider.arn,
        "Journal": provider.journal,
        "Word": first,
        "Flag": "true",
        "List": ["1", {"x": "2.5"}],
    }

    assert update_stack(cloud, stack["StackId"], template(second))["StackStatus"] == "UPDATE_COMPLETE"
    (updated,) = provider.asked(1)
    assert (updated["RequestType"], updated["PhysicalResourceId"]) == ("Update", "the-id")
    assert updated["OldResourceProperties"] == created["ResourceProperties"]
    assert updated["ResourceProperties"]["Word"] == second
    sqs = cloud.client("sqs")
    assert len(sqs.list_queues(QueueNamePrefix=second)["QueueUrls"]) == 1
    assert not sqs.list_queues(QueueNamePrefix=first).get("QueueUrls")

    assert delete_stack(cloud, stack["StackId"])["StackStatus"] == "DELETE_COMPLETE"
    (deleted,) = provider.asked(1)
    assert (deleted["RequestType"], deleted["PhysicalResourceId"]) == ("Delete", "the-id")
    assert deleted["ResourceProperties"] == updated["ResourceProperties"]


def test_unchanged_properties_ask_nothing(provider: Provider) -> None:
    def template(wait_s: int) -> dict[str, Any]:
        return {
            "Resources": {
                "C": provider.resource(),
                "Q": resource("AWS::SQS::Queue", VisibilityTimeout=wait_s),
            }
        }

    stack = create_stack(provider.cloud, template(5))["StackId"]
    update_stack(provider.cloud, stack, template(6))
    delete_stack(provider.cloud, stack)
    assert kinds(provider.asked(2)) == ["Create", "Delete"]


def test_another_physical_id_has_the_old_one_deleted_in_cleanup(provider: Provider) -> None:
    cloud = provider.cloud
    stack = create_stack(cloud, {"Resources": {"C": provider.resource(Id="old")}})["StackId"]
    update_stack(cloud, stack, {"Resources": {"C": provider.resource(Id="new")}})
    requests = [(each["RequestType"], each.get("PhysicalResourceId")) for each in provider.asked(3)]
    assert requests == [("Create", None), ("Update", "old"), ("Delete", "old")]
    events = cloud.client("cloudformation").describe_stack_events(StackName=stack)["StackEvents"]
    statuses = [each["ResourceStatus"] for each in reversed(events)]
    cleanup = statuses.index("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS")
    assert statuses[cleanup:] == [
        "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS",
        "DELETE_IN_PROGRESS",
        "DELETE_COMPLETE",
        "UPDATE_COMPLETE",
    ]
    delete_stack(cloud, stack)
    assert [each["PhysicalResourceId"] for each in provider.asked(1)] == ["new"]


def test_a_failed_create_is_rolled_back_with_its_reason_and_a_delete(provider: Provider) -> None:
    first = resource("AWS::SQS::Queue", QueueName=unique("first"))
    failing = {**provider.resource(Fail="Create"), "DependsOn": "First"}
    stack = create_stack(provider.cloud, {"Resources": {"C": failing, "First": first}})
    assert stack["StackStatus"] == "ROLLBACK_COMPLETE"
    assert "failed to create: [C]" in stack["StackStatusReason"]
    ((failed, reason),) = reasons(provider.cloud, stack["StackId"], "CREATE_FAILED")
    assert failed == "C"
    assert "Message returned: told to (RequestId: " in reason
    create, delete = provider.asked(2)
    assert kinds([create, delete]) == ["Create", "Delete"]
    assert delete["PhysicalResourceId"] == "the-id"
    told = reasons(provider.cloud, stack["StackId"], "DELETE_COMPLETE")
    assert [name for name, _ in reversed(told)] == ["C", "First"]


def test_no_answer_in_time_fails(provider: Provider) -> None:
    silent = provider.resource(Silent="Create", ServiceTimeout="1")
    stack = create_stack(provider.cloud, {"Resources": {"C": silent}})
    assert stack["StackStatus"] == "ROLLBACK_COMPLETE"
    assert "did not receive a response from your Custom Resource" in stack["StackStatusReason"]
    requests = provider.asked(2)
    assert kinds(requests) == ["Create", "Delete"]
    assert requests[1]["PhysicalResourceId"].startswith(f"{stack['StackName']}-C-")


def test_a_failed_update_is_rolled_back_by_an_update(provider: Provider) -> None:
    cloud = provider.cloud
    stack = create_stack(cloud, {"Resources": {"C": provider.resource(Word="good")}})["StackId"]
    bad = {"Resources": {"C": provider.resource(Word="bad", Fail="Update")}}
    found = update_stack(cloud, stack, bad)
    assert found["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert "failed to update: [C]" in found["StackStatusReason"]
    words = [each["ResourceProperties"].get("Word") for each in provider.asked(3)]
    assert words == ["good", "bad", "good"]
    delete_stack(cloud, stack)
    assert kinds(provider.asked(1)) == ["Delete"]


def test_a_failed_delete_keeps_the_stack(provider: Provider) -> None:
    cloud = provider.cloud
    kept = resource("AWS::SQS::Queue", QueueName=unique("kept"))
    needs = {**provider.resource(Fail="Delete"), "DependsOn": "Kept"}
    stack = create_stack(cloud, {"Resources": {"C": needs, "Kept": kept}})["StackId"]
    found = delete_stack(cloud, stack)
    assert found["StackStatus"] == "DELETE_FAILED"
    assert "failed to delete: [C]" in found["StackStatusReason"]
    assert "told to" in found["StackStatusReason"]
    url = cloud.client("sqs").get_queue_url(QueueName=kept["Properties"]["QueueName"])
    assert url["QueueUrl"]
    assert delete_stack(cloud, stack, RetainResources=["C"])["StackStatus"] == "DELETE_COMPLETE"


def test_deletion_is_in_reverse_order_of_references(provider: Provider) -> None:
    cloud = provider.cloud
    resources = {
        "Last": provider.resource(Id="last", Word={"Fn::Sub": "after ${Middle}"}),
        "Middle": {**provider.resource(Id="middle"), "DependsOn": ["First"]},
        "First": provider.resource(Id="first"),
    }
    stack = create_stack(cloud, {"Resources": resources})["StackId"]
    delete_stack(cloud, stack)
    asked = [(each["RequestType"], each["LogicalResourceId"]) for each in provider.asked(6)]
    made = ["First", "Middle", "Last"]
    assert asked == [
        *(("Create", name) for name in made),
        *(("Delete", name) for name in reversed(made)),
    ]


def test_attributes_that_the_provider_did_not_give_fail(provider: Provider) -> None:
    outputs = {"No": {"Value": {"Fn::GetAtt": ["C", "Nothing"]}}}
    stack = create_stack(provider.cloud, {"Resources": {"C": provider.resource()}, "Outputs": outputs})
    assert stack["StackStatus"] == "ROLLBACK_COMPLETE"
    assert "doesn't contain Nothing attribute" in stack["StackStatusReason"]


def test_a_provider_that_is_not_there_fails_at_once(cloud: EmbeddedCloud) -> None:
    nobody = resource("Custom::Thing", ServiceToken="arn:aws:lambda:us-east-1:123456789012:function:nobody")
    stack = create_stack(cloud, {"Resources": {"C": nobody}})
    assert stack["StackStatus"] == "ROLLBACK_COMPLETE"
    assert "not found" in str(reasons(cloud, stack["StackId"], "CREATE_FAILED")).lower()


def test_the_service_token_cannot_change(provider: Provider) -> None:
    cloud = provider.cloud
    other = Provider(cloud, make_function(cloud, PROVIDER))
    stack = create_stack(cloud, {"Resources": {"C": provider.resource()}})["StackId"]
    found = update_stack(cloud, stack, {"Resources": {"C": other.resource()}})
    assert "Modifying service token is not allowed" in found["StackStatusReason"]


def test_deleting_a_stack_that_waits_for_its_provider(provider: Provider) -> None:
    cloud, name = provider.cloud, unique("waits")
    client = cloud.client("cloudformation")
    template = {"Resources": {"C": provider.resource(Silent="Create")}}
    stack = client.create_stack(StackName=name, TemplateBody=json.dumps(template))["StackId"]
    assert kinds(provider.asked(1)) == ["Create"]
    client.delete_stack(StackName=name)
    assert settled(cloud, stack)["StackStatus"] == "DELETE_COMPLETE"
    assert kinds(provider.asked(1)) == ["Delete"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"no json", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b'{"Status": "DONE"}', "must be SUCCESS or FAILED"),
        (b'{"Status": "SUCCESS", "Data": [1]}', "Data must be an object"),
        (b" " * 5000, "too long"),
    ],
)
def test_nonsense_is_no_answer(body: bytes, reason: str) -> None:
    with pytest.raises(ResourceFailed, match=reason):
        read_answer(body)


def test_properties_become_strings() -> None:
    assert as_strings({"a": [True, 1, 2.5, "x", None]}) == {"a": ["true", "1", "2.5", "x", None]}
