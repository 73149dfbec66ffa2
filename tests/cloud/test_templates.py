"""How templates are read and processed, and what change sets make of them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.cloud.helpers import (
    RUNTIME,
    change,
    create_stack,
    execute,
    resource,
    settled,
    unique,
)
from workflows.embedded_cloud import EmbeddedCloud

LOOP = {
    "Transform": ["AWS::LanguageExtensions", "AWS::Serverless-2016-10-31"],
    "Parameters": {"Names": {"Type": "CommaDelimitedList", "Default": "a,b"}, "Wait": {"Type": "Number"}},
    "Resources": {
        "Fn::ForEach::Queues": [
            "N",
            {"Ref": "Names"},
            {
                "Queue${N}": {
                    "Type": "AWS::SQS::Queue",
                    "Properties": {
                        "QueueName": {"Fn::Sub": "${AWS::StackName}-${N}"},
                        "VisibilityTimeout": {"Fn::Sub": "${Wait}"},
                    },
                }
            },
        ],
        "Table": {"Type": "AWS::Serverless::SimpleTable"},
    },
    "Outputs": {"Urls": {"Value": {"Fn::Join": [",", [{"Ref": "Queuea"}]]}}},
}


def changed(change_set: dict[str, Any]) -> set[tuple[str, str]]:
    found = [each["ResourceChange"] for each in change_set["Changes"]]
    return {(each["Action"], each["LogicalResourceId"]) for each in found}


def queues_of(cloud: EmbeddedCloud, stack: str) -> set[str]:
    urls = cloud.client("sqs").list_queues(QueueNamePrefix=f"{stack}-").get("QueueUrls", [])
    return {url.rsplit("-", 1)[1] for url in urls}


def test_drop_no_value_in_lists(cloud: EmbeddedCloud) -> None:
    outputs = {"Joined": {"Value": {"Fn::Join": ["-", ["a", {"Ref": "AWS::NoValue"}, "b"]]}}}
    stack = create_stack(cloud, {"Resources": {"Q": resource("AWS::SQS::Queue")}, "Outputs": outputs})
    assert stack["Outputs"]["Joined"] == "a-b"


def test_split_default_lists(cloud: EmbeddedCloud) -> None:
    template = {
        "Parameters": {"L": {"Type": "CommaDelimitedList", "Default": "x,y"}},
        "Resources": {"Q": resource("AWS::SQS::Queue")},
        "Outputs": {"Second": {"Value": {"Fn::Select": ["1", {"Ref": "L"}]}}},
    }
    assert create_stack(cloud, template)["Outputs"]["Second"] == "y"
    assert create_stack(cloud, template, L="p,q")["Outputs"]["Second"] == "q"


def test_get_att_with_dots(cloud: EmbeddedCloud) -> None:
    outputs = {"Arn": {"Value": {"Fn::Join": ["", [{"Fn::GetAtt": "Q.Arn"}]]}}}
    stack = create_stack(cloud, {"Resources": {"Q": resource("AWS::SQS::Queue")}, "Outputs": outputs})
    assert stack["Outputs"]["Arn"].startswith("arn:aws:sqs:")


def test_refuse_outputs_of_undefined_resources(cloud: EmbeddedCloud) -> None:
    for reference in (["Nothing", "Arn"], "Nothing.Arn"):
        outputs = {"Arn": {"Value": {"Fn::GetAtt": reference}}}
        with pytest.raises(ClientError, match="undefined resource Nothing"):
            create_stack(cloud, {"Resources": {"Q": resource("AWS::SQS::Queue")}, "Outputs": outputs})


def test_templates_at_our_own_address(cloud: EmbeddedCloud) -> None:
    bucket, name, s3 = unique("templates"), unique("own"), cloud.client("s3")
    s3.create_bucket(Bucket=bucket)
    s3.put_object(
        Bucket=bucket, Key="a/t.json", Body=json.dumps({"Resources": {"Q": resource("AWS::SQS::Queue")}})
    )
    client = cloud.client("cloudformation")
    client.create_stack(StackName=name, TemplateURL=f"{cloud.endpoint_url}/{bucket}/a/t.json?versionId=null")
    assert settled(cloud, name)["StackStatus"] == "CREATE_COMPLETE"


def test_transform_templates(cloud: EmbeddedCloud) -> None:
    client, name = cloud.client("cloudformation"), unique("loop")
    parameters = [{"ParameterKey": "Wait", "ParameterValue": "5"}]
    client.create_stack(StackName=name, TemplateBody=json.dumps(LOOP), Parameters=parameters)
    settled(cloud, name)
    assert queues_of(cloud, name) == {"a", "b"}
    kinds = {
        each["ResourceType"] for each in client.describe_stack_resources(StackName=name)["StackResources"]
    }
    assert "AWS::DynamoDB::Table" in kinds
    with pytest.raises(ClientError, match="No updates are to be performed"):
        client.update_stack(StackName=name, TemplateBody=json.dumps(LOOP), Parameters=parameters)
    parameters.append({"ParameterKey": "Names", "ParameterValue": "a,c"})
    client.update_stack(StackName=name, UsePreviousTemplate=True, Parameters=parameters)
    settled(cloud, name)
    assert queues_of(cloud, name) == {"a", "c"}


def test_policies_of_aws_in_serverless_functions(cloud: EmbeddedCloud) -> None:
    policies = ["AWSXRayDaemonWriteAccess", "AmazonS3ReadOnlyAccess"]
    code = {"InlineCode": "def handler(event, context):\n    return 1\n", "Handler": "index.handler"}
    function = resource("AWS::Serverless::Function", Runtime=RUNTIME, Policies=policies, **code)
    template = {
        "Transform": "AWS::Serverless-2016-10-31",
        "Resources": {"F": function},
        "Outputs": {"Role": {"Value": {"Ref": "FRole"}}},
    }
    role = create_stack(cloud, template)["Outputs"]["Role"]
    found = cloud.client("iam").list_attached_role_policies(RoleName=role)["AttachedPolicies"]
    assert {each["PolicyName"] for each in found} >= set(policies)


@pytest.mark.parametrize(
    ("template", "parameters", "reason"),
    [
        (LOOP, {}, r"Parameters: \[Wait\] must have values"),
        (LOOP, {"Wait": "1", "Other": "2"}, r"Parameters: \[Other\] do not exist"),
        ({**LOOP, "Transform": ["AWS::Nothing"]}, {"Wait": "1"}, "No transform named AWS::Nothing"),
        (
            {
                "Transform": "AWS::Serverless-2016-10-31",
                "Resources": {"F": {"Type": "AWS::Serverless::Function"}},
            },
            {},
            r"Transform AWS::Serverless-2016-10-31 failed with: .*errors found: 1. .*\[F\] is invalid",
        ),
        ("a: [", {}, "Template format error"),
    ],
)
def test_refused_templates(
    cloud: EmbeddedCloud, template: Any, parameters: dict[str, str], reason: str
) -> None:
    body = template if isinstance(template, str) else json.dumps(template)
    given = [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()]
    with pytest.raises(ClientError, match=reason):
        cloud.client("cloudformation").create_stack(
            StackName=unique("refused"), TemplateBody=body, Parameters=given
        )
    failed = change(cloud, unique("refused"), "CREATE", template, **parameters)
    assert (failed["Status"], failed["ExecutionStatus"]) == ("FAILED", "UNAVAILABLE")
    assert re.search(reason, failed["StatusReason"])


def test_templates_as_given(cloud: EmbeddedCloud) -> None:
    client, name = cloud.client("cloudformation"), unique("given")
    text = json.dumps(LOOP, indent=1)
    execute(cloud, change(cloud, name, "CREATE", text, Wait="5"))
    given = client.get_template(StackName=name)["TemplateBody"]
    assert "Fn::ForEach::Queues" in given["Resources"]
    processed = client.get_template(StackName=name, TemplateStage="Processed")["TemplateBody"]
    assert {"Queuea", "Queueb"} <= set(processed["Resources"])
    summary = client.get_template_summary(StackName=name)
    assert [each["ParameterKey"] for each in summary["Parameters"]] == ["Names", "Wait"]
    assert summary["DeclaredTransforms"] == LOOP["Transform"]
    assert sorted(summary["ResourceTypes"]) == ["AWS::SQS::Queue", "AWS::Serverless::SimpleTable"]


def test_json_is_read_as_json(cloud: EmbeddedCloud) -> None:
    outputs = {"Smile": {"Value": {"Ref": "Q"}, "Description": "\U0001f600"}}
    name = create_stack(cloud, {"Resources": {"Q": resource("AWS::SQS::Queue")}, "Outputs": outputs})
    stacks = cloud.client("cloudformation").describe_stacks(StackName=name["StackName"])["Stacks"]
    assert stacks[0]["Outputs"][0]["Description"] == "\U0001f600"


def test_change_sets_are_made_as_aws_does(cloud: EmbeddedCloud) -> None:
    name = unique("changes")
    created = change(cloud, name, "CREATE", LOOP, Wait="5")
    assert changed(created) == {("Add", "Queuea"), ("Add", "Queueb"), ("Add", "Table")}
    assert change(cloud, name, "CREATE", LOOP, Wait="5")["StackId"] == created["StackId"]
    execute(cloud, created)
    with pytest.raises(ClientError, match="already exists"):
        change(cloud, name, "CREATE", LOOP, Wait="5")
    same = change(cloud, name, "UPDATE", LOOP, Names="previous", Wait="previous")
    assert (same["Status"], same["ExecutionStatus"]) == ("FAILED", "UNAVAILABLE")
    assert "didn't contain changes" in same["StatusReason"]
    more = change(cloud, name, "UPDATE", LOOP, Names="a,b,c", Wait="previous")
    assert changed(more) == {("Add", "Queuec")}
    assert queues_of(cloud, name) == {"a", "b"}
    assert execute(cloud, more)["StackStatus"] == "UPDATE_COMPLETE"
    assert queues_of(cloud, name) == {"a", "b", "c"}


def test_change_sets_execute_as_stacks_do(cloud: EmbeddedCloud) -> None:
    name, queue = unique("executed"), resource("AWS::SQS::Queue")
    template = {"Resources": {"Q": queue}, "Outputs": {"U": {"Value": {"Ref": "Q"}}}}
    created = change(cloud, name, "CREATE", template)
    assert execute(cloud, created)["Outputs"][0]["OutputKey"] == "U"
    with pytest.raises(ClientError, match="cannot be executed"):
        execute(cloud, created)
    broken = {"Resources": {"Bad": resource("AWS::SQS::Queue", QueueName="not a name")}}
    failed = execute(cloud, change(cloud, unique("executed"), "CREATE", broken))
    assert failed["StackStatus"] == "ROLLBACK_COMPLETE"
    assert "alphanumeric" in failed["StackStatusReason"]


def test_changed_parameters_reach_every_reference(cloud: EmbeddedCloud) -> None:
    name = unique("reach")
    template = {
        "Parameters": {"Wait": {"Type": "Number"}, "Long": {"Type": "String", "Default": "no"}},
        "Conditions": {"IsLong": {"Fn::Equals": [{"Ref": "Long"}, "yes"]}},
        "Resources": {
            "Sub": resource("AWS::SQS::Queue", VisibilityTimeout={"Fn::Sub": "${Wait}"}),
            "If": resource("AWS::SQS::Queue", VisibilityTimeout={"Fn::If": ["IsLong", 60, 30]}),
            "Neither": resource("AWS::SQS::Queue", VisibilityTimeout=7),
        },
        "Outputs": {key: {"Value": {"Ref": key}} for key in ("Sub", "If")},
    }
    execute(cloud, change(cloud, name, "CREATE", template, Wait="5"))
    updated = change(cloud, name, "UPDATE", template, Wait="6", Long="yes")
    assert changed(updated) == {("Modify", "Sub"), ("Modify", "If")}
    outputs = {each["OutputKey"]: each["OutputValue"] for each in execute(cloud, updated)["Outputs"]}
    timeouts = {
        key: cloud.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["VisibilityTimeout"])
        for key, url in outputs.items()
    }
    values = {key: found["Attributes"]["VisibilityTimeout"] for key, found in timeouts.items()}
    assert values == {"Sub": "6", "If": "60"}
