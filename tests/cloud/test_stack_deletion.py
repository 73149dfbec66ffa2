"""What a stack leaves when it goes, or when a resource goes from it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.cloud.helpers import create_stack, delete_stack, resource, settled, unique, update_stack
from workflows.embedded_cloud import EmbeddedCloud


def bucket_exists(cloud: EmbeddedCloud, name: str) -> bool:
    return name in [each["Name"] for each in cloud.client("s3").list_buckets()["Buckets"]]


def test_keep_buckets_with_objects(cloud: EmbeddedCloud) -> None:
    name, queue = unique("kept"), unique("gone")
    s3, sqs = cloud.client("s3"), cloud.client("sqs")
    resources = {
        "B": resource("AWS::S3::Bucket", BucketName=name),
        "Q": resource("AWS::SQS::Queue", QueueName=queue),
    }
    stack = create_stack(cloud, {"Resources": resources})["StackId"]
    s3.put_object(Bucket=name, Key="mine", Body=b"data")
    found = delete_stack(cloud, stack)
    assert found["StackStatus"] == "DELETE_FAILED"
    assert "failed to delete: [B]" in found["StackStatusReason"]
    assert "is not empty" in found["StackStatusReason"]
    assert "BucketNotEmpty" in found["StackStatusReason"]
    assert not sqs.list_queues(QueueNamePrefix=queue).get("QueueUrls")
    assert s3.get_object(Bucket=name, Key="mine")["Body"].read() == b"data"
    with pytest.raises(ClientError, match="DELETE_FAILED state and can not be updated"):
        update_stack(cloud, stack, {"Resources": {"B": resources["B"]}})
    s3.delete_object(Bucket=name, Key="mine")
    assert delete_stack(cloud, stack)["StackStatus"] == "DELETE_COMPLETE"
    assert not bucket_exists(cloud, name)
    with pytest.raises(ClientError, match="does not exist"):
        cloud.client("cloudformation").describe_stacks(StackName=found["StackName"])


def test_a_bucket_with_old_versions_is_not_empty(cloud: EmbeddedCloud) -> None:
    name, s3 = unique("versions"), cloud.client("s3")
    versioning = {"Status": "Enabled"}
    bucket = resource("AWS::S3::Bucket", BucketName=name)
    stack = create_stack(cloud, {"Resources": {"B": bucket}})["StackId"]
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration=versioning)
    s3.put_object(Bucket=name, Key="mine", Body=b"data")
    s3.delete_object(Bucket=name, Key="mine")
    assert "delete all versions" in delete_stack(cloud, stack)["StackStatusReason"]


POLICIES: list[tuple[Any, dict[str, str], bool]] = [
    ("Delete", {}, False),
    ("Retain", {}, True),
    ("RetainExceptOnCreate", {}, True),
    ({"Fn::If": ["IsProduction", "Retain", "Delete"]}, {"Stage": "production"}, True),
    ({"Fn::If": ["IsProduction", "Retain", "Delete"]}, {"Stage": "test"}, False),
    ({"Ref": "Policy"}, {"Policy": "Retain"}, True),
    ({"Ref": "Policy"}, {"Policy": "Delete"}, False),
    ({"Fn::FindInMap": ["Policies", {"Ref": "Stage"}, "Bucket"]}, {"Stage": "production"}, True),
    ({"Fn::FindInMap": ["Policies", {"Ref": "Stage"}, "Bucket"]}, {"Stage": "test"}, False),
    (
        {"Fn::FindInMap": ["Policies", {"Ref": "Stage"}, "Bucket", {"DefaultValue": "Retain"}]},
        {"Stage": "unknown"},
        True,
    ),
]


def with_policy(name: str, policy: Any) -> dict[str, Any]:
    return {
        "Transform": "AWS::LanguageExtensions",
        "Parameters": {
            "Stage": {"Type": "String", "Default": "test"},
            "Policy": {"Type": "String", "Default": "Delete"},
        },
        "Conditions": {"IsProduction": {"Fn::Equals": [{"Ref": "Stage"}, "production"]}},
        "Mappings": {"Policies": {"production": {"Bucket": "Retain"}, "test": {"Bucket": "Delete"}}},
        "Resources": {
            "B": {**resource("AWS::S3::Bucket", BucketName=name), "DeletionPolicy": policy},
            "Q": resource("AWS::SQS::Queue"),
        },
    }


@pytest.mark.parametrize(("policy", "parameters", "kept"), POLICIES)
def test_deletion_policies(cloud: EmbeddedCloud, policy: Any, parameters: dict[str, str], kept: bool) -> None:
    name = unique("policy")
    stack = create_stack(cloud, with_policy(name, policy), **parameters)["StackId"]
    assert delete_stack(cloud, stack)["StackStatus"] == "DELETE_COMPLETE"
    assert bucket_exists(cloud, name) == kept


def test_find_in_map_with_functions(cloud: EmbeddedCloud) -> None:
    template = with_policy(unique("map"), "Delete")
    template["Parameters"]["Which"] = {"Type": "String", "Default": "Policies"}
    find = [{"Ref": "Which"}, {"Fn::Sub": "${Stage}"}, "None", {"DefaultValue": {"Ref": "AWS::Region"}}]
    template["Outputs"] = {"Found": {"Value": {"Fn::FindInMap": find}}}
    assert create_stack(cloud, template)["Outputs"] == {"Found": "us-east-1"}


def test_a_changed_policy_counts_though_nothing_else_changed(cloud: EmbeddedCloud) -> None:
    name = unique("later")
    stack = create_stack(cloud, with_policy(name, "Delete"))["StackId"]
    update_stack(cloud, stack, with_policy(name, "Retain"))
    delete_stack(cloud, stack)
    assert bucket_exists(cloud, name)


@pytest.mark.parametrize(
    ("transform", "policy", "reason"),
    [
        (None, {"Ref": "Policy"}, "Every DeletionPolicy member must be a string"),
        ("AWS::LanguageExtensions", {"Ref": "Stage"}, "B has DeletionPolicy test"),
    ],
)
def test_policies_that_are_none(
    cloud: EmbeddedCloud, transform: str | None, policy: Any, reason: str
) -> None:
    template = with_policy(unique("none"), policy)
    del template["Transform"]
    if transform:
        template["Transform"] = transform
    with pytest.raises(ClientError, match=reason):
        create_stack(cloud, template)


def test_a_resource_that_leaves_the_template_is_kept_by_its_policy(cloud: EmbeddedCloud) -> None:
    name, gone = unique("leaves"), unique("leaves")
    queue = resource("AWS::SQS::Queue")
    buckets = {
        "Kept": {**resource("AWS::S3::Bucket", BucketName=name), "DeletionPolicy": "Retain"},
        "Gone": resource("AWS::S3::Bucket", BucketName=gone),
    }
    stack = create_stack(cloud, {"Resources": {**buckets, "Q": queue}})["StackId"]
    assert update_stack(cloud, stack, {"Resources": {"Q": queue}})["StackStatus"] == "UPDATE_COMPLETE"
    assert bucket_exists(cloud, name)
    assert not bucket_exists(cloud, gone)


def test_what_cannot_be_deleted_in_cleanup_is_left(cloud: EmbeddedCloud) -> None:
    name, queue = unique("left"), resource("AWS::SQS::Queue")
    client = cloud.client("cloudformation")
    template = {"Resources": {"B": resource("AWS::S3::Bucket", BucketName=name), "Q": queue}}
    stack = create_stack(cloud, template)["StackId"]
    cloud.client("s3").put_object(Bucket=name, Key="mine", Body=b"data")
    assert update_stack(cloud, stack, {"Resources": {"Q": queue}})["StackStatus"] == "UPDATE_COMPLETE"
    assert bucket_exists(cloud, name)
    events = client.describe_stack_events(StackName=stack)["StackEvents"]
    assert "DELETE_FAILED" in [each["ResourceStatus"] for each in events if each["LogicalResourceId"] == "B"]


def test_a_resource_that_is_gone_already_is_no_failure(cloud: EmbeddedCloud) -> None:
    name, group = unique("gone"), f"/{unique('gone')}"
    resources = {
        "B": resource("AWS::S3::Bucket", BucketName=name),
        "L": resource("AWS::Logs::LogGroup", LogGroupName=group),
        "Q": resource("AWS::SQS::Queue", QueueName=name),
    }
    stack = create_stack(cloud, {"Resources": resources})["StackId"]
    cloud.client("s3").delete_bucket(Bucket=name)
    cloud.client("logs").delete_log_group(logGroupName=group)
    sqs = cloud.client("sqs")
    sqs.delete_queue(QueueUrl=sqs.get_queue_url(QueueName=name)["QueueUrl"])
    assert delete_stack(cloud, stack)["StackStatus"] == "DELETE_COMPLETE"


def test_force_deletion_leaves_what_cannot_be_deleted(cloud: EmbeddedCloud) -> None:
    name = unique("forced")
    stack = create_stack(cloud, {"Resources": {"B": resource("AWS::S3::Bucket", BucketName=name)}})
    cloud.client("s3").put_object(Bucket=name, Key="mine", Body=b"data")
    assert delete_stack(cloud, stack["StackId"])["StackStatus"] == "DELETE_FAILED"
    found = delete_stack(cloud, stack["StackId"], DeletionMode="FORCE_DELETE_STACK")
    assert found["StackStatus"] == "DELETE_COMPLETE"
    assert bucket_exists(cloud, name)


def test_termination_protection(cloud: EmbeddedCloud) -> None:
    client, name = cloud.client("cloudformation"), unique("protected")
    client.create_stack(
        StackName=name,
        TemplateBody=json.dumps({"Resources": {"Q": resource("AWS::SQS::Queue")}}),
        EnableTerminationProtection=True,
    )
    settled(cloud, name)
    with pytest.raises(ClientError, match="TerminationProtection is enabled"):
        client.delete_stack(StackName=name)
    client.update_termination_protection(StackName=name, EnableTerminationProtection=False)
    assert delete_stack(cloud, name)["StackStatus"] == "DELETE_COMPLETE"
