"""Types of resources that moto lacks, or has by halves."""

from __future__ import annotations

import json

from tests.cloud.conftest import Sample
from tests.cloud.helpers import (
    create_stack,
    function_resource,
    invoke,
    receive,
    resource,
    unique,
)
from workflows.embedded_cloud import EmbeddedCloud


def test_sns_subscription(sample: Sample) -> None:
    cloud, topic = sample.cloud, sample.outputs["TopicArn"]
    attributes = {"kind": {"DataType": "String", "StringValue": "green"}}
    body = unique("only-green")
    cloud.client("sns").publish(TopicArn=topic, Message=body, MessageAttributes=attributes)
    (message,) = receive(cloud, sample.outputs["QueueUrlgreen"])
    assert message["Body"] == body
    assert receive(cloud, sample.outputs["QueueUrlred"], WaitTimeSeconds=0) == []
    cloud.client("sqs").purge_queue(QueueUrl=sample.outputs["QueueUrlgreen"])


def test_sns_topic_policy(sample: Sample) -> None:
    found = sample.cloud.client("sns").get_topic_attributes(TopicArn=sample.outputs["TopicArn"])
    (statement,) = json.loads(found["Attributes"]["Policy"])["Statement"]
    assert statement["Resource"] == sample.outputs["TopicArn"]
    assert statement["Action"] == "sns:Publish"  # the default policy allows more


def test_sqs_queue_policy(sample: Sample) -> None:
    found = sample.cloud.client("sqs").get_queue_attributes(
        QueueUrl=sample.outputs["QueueUrlred"], AttributeNames=["Policy"]
    )
    (statement,) = json.loads(found["Attributes"]["Policy"])["Statement"]
    assert statement["Condition"]["ArnEquals"]["aws:SourceArn"] == sample.outputs["TopicArn"]


def test_s3_bucket_policy(sample: Sample) -> None:
    found = sample.cloud.client("s3").get_bucket_policy(Bucket=sample.outputs["BucketName"])
    assert json.loads(found["Policy"])["Statement"][0]["Effect"] == "Deny"


def test_bucket_policies_are_kept_not_enforced(sample: Sample) -> None:
    s3, bucket = sample.cloud.client("s3"), sample.outputs["BucketName"]
    s3.put_object(Bucket=bucket, Key="allowed", Body=b"1")
    assert s3.get_object(Bucket=bucket, Key="allowed")["Body"].read() == b"1"


def test_lambda_event_invoke_config(sample: Sample) -> None:
    client = sample.cloud.client("lambda")
    found = client.get_function_event_invoke_config(FunctionName=sample.outputs["WorkerName"])
    assert found["MaximumRetryAttempts"] == 1


def test_lambda_alias(cloud: EmbeddedCloud) -> None:
    resources = {
        "F": function_resource(),
        "V": resource("AWS::Lambda::Version", FunctionName={"Ref": "F"}),
        "A": resource(
            "AWS::Lambda::Alias",
            Name="live",
            FunctionName={"Ref": "F"},
            FunctionVersion={"Fn::GetAtt": ["V", "Version"]},
        ),
    }
    resources["A"]["Properties"]["FunctionVersion"] = "1"
    resources["A"]["DependsOn"] = "V"
    outputs = {"Arn": {"Value": {"Ref": "A"}}}
    arn = create_stack(cloud, {"Resources": resources, "Outputs": outputs})["Outputs"]["Arn"]
    assert arn.endswith(":live")
    assert invoke(cloud, arn)[0].endswith(":1")


def test_accept_inert_resources(cloud: EmbeddedCloud) -> None:
    resources = {"P": resource("AWS::Pinpoint::Nothing", Name="known")}
    outputs = {"Ref": {"Value": {"Ref": "P"}}, "Arn": {"Value": {"Fn::GetAtt": ["P", "Arn"]}}}
    found = create_stack(cloud, {"Resources": resources, "Outputs": outputs})["Outputs"]
    assert found["Ref"] == "known"
    assert found["Arn"].startswith("arn:aws:pinpoint:")
