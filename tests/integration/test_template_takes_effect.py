"""Every type and property of template.yaml is one that the embedded cloud takes."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest

from lamella.client import Stack
from workflows.embedded_cloud import EmbeddedCloud
from workflows.lint_template import EVERYTHING_ON, transformed

# What the embedded cloud keeps and answers when asked, and that changes nothing it does.
WITHOUT_EFFECT = {
    ("AWS::S3::Bucket", "BucketEncryption"): "objects are lost with the process that holds them",
    ("AWS::S3::Bucket", "LifecycleConfiguration"): "no embedded cloud lives for days: nothing would expire",
    ("AWS::S3::Bucket", "OwnershipControls"): "there is one account, which owns every object",
    (
        "AWS::S3::Bucket",
        "PublicAccessBlockConfiguration",
    ): "nothing is public: it listens on 127.0.0.1 alone",
    (
        "AWS::S3::BucketPolicy",
        "PolicyDocument",
    ): "denies what is not TLS, which AWS has and 127.0.0.1 has not",
    ("AWS::SNS::Topic", "KmsMasterKeyId"): "messages are lost with the process that holds them",
    ("AWS::SNS::TopicPolicy", "PolicyDocument"): "the same as of the bucket",
    ("AWS::SQS::Queue", "SqsManagedSseEnabled"): "messages are lost with the process that holds them",
    ("AWS::SQS::QueuePolicy", "PolicyDocument"): "the same as of the bucket",
    ("AWS::Logs::LogGroup", "RetentionInDays"): "no embedded cloud lives for days: nothing would expire",
    ("AWS::IAM::Role", "AssumeRolePolicyDocument"): "IAM is not enforced; test_iam.py holds the text",
    ("AWS::CloudWatch::Alarm", "Metrics"): "no metric is watched: alarms are kept, and stay as they are",
    ("AWS::IAM::ManagedPolicy", "PolicyDocument"): "IAM is not enforced; test_iam.py holds the text",
    ("AWS::IAM::Policy", "PolicyDocument"): "IAM is not enforced; test_iam.py holds the text",
    ("AWS::IAM::Role", "ManagedPolicyArns"): "IAM is not enforced; test_iam.py holds the text",
    ("AWS::IAM::Role", "PermissionsBoundary"): "IAM is not enforced",
    ("AWS::IAM::Role", "Policies"): "IAM is not enforced; test_permissions.py compares it with real calls",
    ("AWS::Lambda::Permission", "Action"): "IAM is not enforced; test_iam.py holds the text",
    ("AWS::Lambda::Permission", "Principal"): "IAM is not enforced; test_iam.py holds the text",
    ("AWS::Lambda::Permission", "SourceArn"): "IAM is not enforced; test_iam.py holds the text",
    (
        "AWS::Lambda::EventInvokeConfig",
        "DestinationConfig",
    ): "an event that failed for good is only logged; test_template.py holds the text",
    ("AWS::Lambda::Function", "Architectures"): "every function runs on this machine's processor",
    ("AWS::Lambda::Function", "Role"): "IAM is not enforced",
    ("AWS::Lambda::Function", "VpcConfig"): "there is no network but this machine's own",
    (
        "AWS::Lambda::LayerVersion",
        "CompatibleArchitectures",
    ): "deploying reads it to choose the layer's build",
    (
        "AWS::StepFunctions::StateMachine",
        "LoggingConfiguration",
    ): "errors are read from executions' histories",
    ("AWS::StepFunctions::StateMachine", "RoleArn"): "IAM is not enforced",
    ("AWS::StepFunctions::StateMachine", "TracingConfiguration"): "there is no X-Ray",
}
TAGS = {"project": "lamella", "stack": "lamella"}


class Deployed:
    """The stack, as AWS's clients see it."""

    def __init__(self, cloud: EmbeddedCloud, name: str) -> None:
        self.client = cloud.client
        self.name = name
        self.tags = TAGS | {"stack": name}
        pages = cloud.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=name)
        self.ids = {
            item["LogicalResourceId"]: item["PhysicalResourceId"]
            for page in pages
            for item in page["StackResourceSummaries"]
        }


def tags(listed: list[dict[str, str]]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in listed}


def bucket(deployed: Deployed) -> dict[str, Any]:
    s3, name = deployed.client("s3"), deployed.ids["Bucket"]
    (rule,) = s3.get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"]["Rules"]
    *expiring, uploads = s3.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]
    (owner,) = s3.get_bucket_ownership_controls(Bucket=name)["OwnershipControls"]["Rules"]
    blocked = s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"]
    return {
        "LifecycleConfiguration": [kept["Filter"]["Prefix"] for kept in expiring] == ["runs/", "uploads/"]
        and {kept["Expiration"]["Days"] for kept in expiring} == {30}
        and uploads["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1},
        "NotificationConfiguration": True,  # test_automatic_starts.py uploads, and runs start
        "OwnershipControls": owner["ObjectOwnership"] == "BucketOwnerEnforced",
        "PublicAccessBlockConfiguration": set(blocked.values()) == {True},
        "BucketEncryption": rule["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"},
        "Tags": tags(s3.get_bucket_tagging(Bucket=name)["TagSet"]) == deployed.tags,
    }


def bucket_policy(deployed: Deployed) -> dict[str, Any]:
    name = deployed.ids["Bucket"]
    policy = deployed.client("s3").get_bucket_policy(Bucket=name)["Policy"]
    return {"Bucket": True, "PolicyDocument": f"arn:aws:s3:::{name}/*" in policy}


def topic(deployed: Deployed) -> dict[str, Any]:
    sns, arn = deployed.client("sns"), deployed.ids["Topic"]
    found = sns.get_topic_attributes(TopicArn=arn)["Attributes"]
    return {
        "KmsMasterKeyId": found["KmsMasterKeyId"] == "alias/aws/sns",
        "Tags": tags(sns.list_tags_for_resource(ResourceArn=arn)["Tags"]) == TAGS,
    }


def topic_policy(deployed: Deployed) -> dict[str, Any]:
    found = deployed.client("sns").get_topic_attributes(TopicArn=deployed.ids["Topic"])["Attributes"]
    return {"Topics": True, "PolicyDocument": "aws:SecureTransport" in found["Policy"]}


def queue_attributes(deployed: Deployed) -> dict[str, str]:
    found: dict[str, str] = deployed.client("sqs").get_queue_attributes(
        QueueUrl=deployed.ids["SlotQueue07"], AttributeNames=["All"]
    )["Attributes"]
    return found


def queue(deployed: Deployed) -> dict[str, Any]:
    found, url = queue_attributes(deployed), deployed.ids["SlotQueue07"]
    return {
        "QueueName": found["QueueArn"].endswith(":lamella-slot-0-7"),
        "MessageRetentionPeriod": found["MessageRetentionPeriod"] == "3600",
        "ReceiveMessageWaitTimeSeconds": found["ReceiveMessageWaitTimeSeconds"] == "5",
        "SqsManagedSseEnabled": found["SqsManagedSseEnabled"] == "true",
        "VisibilityTimeout": found["VisibilityTimeout"] == "30",
        "Tags": deployed.client("sqs").list_queue_tags(QueueUrl=url)["Tags"] == TAGS,
    }


def queue_policy(deployed: Deployed) -> dict[str, Any]:
    return {"Queues": True, "PolicyDocument": deployed.ids["Topic"] in queue_attributes(deployed)["Policy"]}


def subscription(deployed: Deployed) -> dict[str, Any]:
    arn = deployed.ids["SlotSubscription07"]
    found = deployed.client("sns").get_subscription_attributes(SubscriptionArn=arn)["Attributes"]
    return {
        "TopicArn": found["TopicArn"] == deployed.ids["Topic"],
        "Protocol": found["Protocol"] == "sqs",
        "Endpoint": found["Endpoint"].endswith(":lamella-slot-0-7"),
        "RawMessageDelivery": found["RawMessageDelivery"] == "true",
        "FilterPolicyScope": found["FilterPolicyScope"] == "MessageAttributes",
        "FilterPolicy": json.loads(found["FilterPolicy"]) == {"slot": ["0-7"]},
    }


def log_group(deployed: Deployed) -> dict[str, Any]:
    logs, name = deployed.client("logs"), "/aws/lambda/lamella-Plan"
    (found,) = logs.describe_log_groups(logGroupNamePrefix=name)["logGroups"]
    return {
        "LogGroupName": found["logGroupName"] == name,
        "RetentionInDays": found["retentionInDays"] == 30,
        "Tags": logs.list_tags_log_group(logGroupName=name)["tags"] == TAGS,
    }


def role(deployed: Deployed) -> dict[str, Any]:
    iam, name = deployed.client("iam"), deployed.ids["PlanRole"]
    found = iam.get_role(RoleName=name)["Role"]
    trust = found["AssumeRolePolicyDocument"]["Statement"]
    attached = iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
    return {
        "AssumeRolePolicyDocument": trust[0]["Principal"] == {"Service": "lambda.amazonaws.com"},
        "Description": "Plan" in found["Description"],
        "PermissionsBoundary": "PermissionsBoundary" not in found,  # the default is none
        "ManagedPolicyArns": [policy["PolicyArn"] for policy in attached] == [deployed.ids["NetworkPolicy"]],
        "Policies": iam.get_role_policy(RoleName=name, PolicyName="plan")["PolicyName"] == "plan",
        "Tags": tags(found["Tags"]) == deployed.tags,
    }


def policy(deployed: Deployed) -> dict[str, Any]:
    iam = deployed.client("iam")
    found = [
        iam.get_role_policy(RoleName=deployed.ids[role], PolicyName="read-their-data")["PolicyDocument"]
        for role in ("PlanRole", "WorkerRole", "CollectRole")
    ]
    role, machine = deployed.ids["StateMachineRole"], deployed.ids["StateMachine"]
    of_map = iam.get_role_policy(RoleName=role, PolicyName="distributed-map")["PolicyDocument"]["Statement"]
    workers = machine.replace(":stateMachine:", ":execution:") + "/Workers:*"
    return {
        "PolicyName": True,
        "Roles": True,
        "PolicyDocument": {document["Statement"][0]["Resource"] for document in found}
        == {"arn:aws:s3:::their-data/*"}
        and (of_map[0]["Resource"], of_map[2]["Resource"]) == (machine, workers),
    }


def managed_policy(deployed: Deployed) -> dict[str, Any]:
    iam, arn = deployed.client("iam"), deployed.ids["NetworkPolicy"]
    found = iam.get_policy(PolicyArn=arn)["Policy"]
    version = iam.get_policy_version(PolicyArn=arn, VersionId=found["DefaultVersionId"])["PolicyVersion"]
    return {
        "Description": "subnets" in found["Description"],
        "PolicyDocument": "ec2:CreateNetworkInterface" in json.dumps(version["Document"]),
    }


def rule(deployed: Deployed) -> dict[str, Any]:
    events, name = deployed.client("events"), deployed.ids["StoppedRule"].rpartition("/")[2]
    found = events.describe_rule(Name=name)
    (target,) = events.list_targets_by_rule(Rule=name)["Targets"]
    pattern = json.loads(found["EventPattern"])["detail"]
    return {
        "Description": "Finish" in found["Description"],
        "EventPattern": pattern["stateMachineArn"] == [deployed.ids["StateMachine"]],
        "Targets": target["Arn"].endswith(":lamella-Finish") and "InputTransformer" in target,
        "Tags": tags(events.list_tags_for_resource(ResourceARN=found["Arn"])["Tags"]) == TAGS,
    }


def permission(deployed: Deployed) -> dict[str, Any]:
    text = deployed.client("lambda").get_policy(FunctionName="lamella-Finish")["Policy"]
    (found,) = json.loads(text)["Statement"]
    return {
        "FunctionName": found["Resource"].endswith(":lamella-Finish"),
        "Action": found["Action"] == "lambda:InvokeFunction",
        "Principal": found["Principal"] == {"Service": "events.amazonaws.com"},
        "SourceArn": ":rule/" in str(found["Condition"]),
    }


def function(deployed: Deployed) -> dict[str, Any]:
    answer = deployed.client("lambda").get_function(FunctionName=f"{deployed.name}-WorkerMedium")
    found = answer["Configuration"]
    return {
        "Architectures": len(found["Architectures"]) == 1,
        "Code": found["CodeSize"] > 10_000,
        "Description": "worker" in found["Description"],
        "Environment": found["Environment"]["Variables"]["LAMELLA_BUCKET"] == deployed.ids["Bucket"],
        "FunctionName": found["FunctionName"] == f"{deployed.name}-WorkerMedium",
        "Handler": found["Handler"] == "worker.handler",
        "Layers": f":layer:{deployed.name}-dependencies:" in found["Layers"][0]["Arn"],
        "LoggingConfig": found["LoggingConfig"]
        == {"LogFormat": "JSON", "LogGroup": f"/aws/lambda/{deployed.name}-WorkerMedium"},
        "MemorySize": found["MemorySize"] == 1769,
        "Role": found["Role"].endswith(deployed.ids["WorkerRole"]),
        "Runtime": found["Runtime"].startswith("python3."),
        "Tags": answer["Tags"].items() >= deployed.tags.items(),
        "Timeout": found["Timeout"] == 900,
        "TracingConfig": found["TracingConfig"] == {"Mode": "Active"},
        "VpcConfig": found["VpcConfig"]["SubnetIds"] == EVERYTHING_ON["VpcSubnetIds"].split(",")
        and found["VpcConfig"]["SecurityGroupIds"] == [EVERYTHING_ON["VpcSecurityGroupIds"]],
    }


def layer(deployed: Deployed) -> dict[str, Any]:
    versions = deployed.client("lambda").list_layer_versions(LayerName="lamella-dependencies")
    (found,) = versions["LayerVersions"]
    return {
        "CompatibleArchitectures": len(found["CompatibleArchitectures"]) == 1,
        "CompatibleRuntimes": len(found["CompatibleRuntimes"]) == 1,
        "Content": True,  # no function of these would run without it
        "Description": "requirements.lock" in found["Description"],
        "LayerName": ":layer:lamella-dependencies:" in found["LayerVersionArn"],
    }


def machine(deployed: Deployed) -> dict[str, Any]:
    states, arn = deployed.client("stepfunctions"), deployed.ids["StateMachine"]
    found = states.describe_state_machine(stateMachineArn=arn)
    listed = states.list_tags_for_resource(resourceArn=arn)["tags"]
    return {
        "DefinitionS3Location": json.loads(found["definition"])["StartAt"] == "Plan",
        "LoggingConfiguration": found["loggingConfiguration"]["level"] != "OFF",
        "TracingConfiguration": found["tracingConfiguration"] == {"enabled": True},
        "DefinitionSubstitutions": "${" not in found["definition"] and deployed.ids["Bucket"],
        "RoleArn": found["roleArn"].endswith(deployed.ids["StateMachineRole"]),
        "StateMachineName": found["name"] == "lamella-inference",
        "StateMachineType": found["type"] == "STANDARD",
        "Tags": {tag["key"]: tag["value"] for tag in listed}.items() >= TAGS.items(),
    }


def schedule(deployed: Deployed) -> dict[str, Any]:
    found = deployed.client("scheduler").get_schedule(Name=f"{deployed.name}-intake")
    target = found["Target"]
    return {
        "Name": found["Name"] == f"{deployed.name}-intake" and sweep_timer(deployed),
        "Description": "Intake" in found["Description"],
        "FlexibleTimeWindow": found["FlexibleTimeWindow"] == {"Mode": "OFF"},
        "ScheduleExpression": found["ScheduleExpression"] == "rate(1 day)",
        "ScheduleExpressionTimezone": found["ScheduleExpressionTimezone"] == "UTC",
        "Target": target["Arn"].endswith(f":{deployed.name}-Intake")
        and json.loads(target["Input"]) == {"prefix": "inputs/"}
        and target["RoleArn"].endswith(deployed.ids["ScheduleRole"])
        and target["RetryPolicy"] == {"MaximumEventAgeInSeconds": 3600, "MaximumRetryAttempts": 20},
    }


def sweep_timer(deployed: Deployed) -> bool:
    found = deployed.client("scheduler").get_schedule(Name=f"{deployed.name}-sweep")
    return (
        found["ScheduleExpression"] == "rate(1 day)"
        and found["Target"]["Arn"].endswith(f":{deployed.name}-Sweep")
        and json.loads(found["Target"]["Input"]) == {"remove": True}
    )


def invoke_config(deployed: Deployed) -> dict[str, Any]:
    name = f"{deployed.name}-Intake"
    found = deployed.client("lambda").get_function_event_invoke_config(FunctionName=name)
    return {
        "FunctionName": found["FunctionArn"].endswith(f":{name}"),
        "Qualifier": True,  # $LATEST is the only version that there is
        "MaximumRetryAttempts": found["MaximumRetryAttempts"] == 2,
        "MaximumEventAgeInSeconds": found["MaximumEventAgeInSeconds"] == 21600,
        "DestinationConfig": found["DestinationConfig"]["OnFailure"]["Destination"]
        == deployed.ids["NotificationTopic"],
    }


def cleanup(deployed: Deployed) -> dict[str, Any]:
    """What the function was sent, as test_deletion.py shows by what it does."""
    return dict.fromkeys(
        (
            "ServiceToken",
            "ServiceTimeout",
            "StateMachineArn",
            "RunQueues",
            "KeepData",
            *(f"Slot0{place}" for place in range(8)),
        ),
        deployed.ids["Cleanup"] == "cleanup",
    )


def alarm(deployed: Deployed) -> dict[str, Any]:
    names = [f"{deployed.name}-failed-runs", f"{deployed.name}-cost-a-day"]
    cloudwatch = deployed.client("cloudwatch")
    found = {each["AlarmName"]: each for each in cloudwatch.describe_alarms(AlarmNames=names)["MetricAlarms"]}
    failed, cost = (found[name] for name in names)
    summed = {metric["Id"]: metric for metric in cost["Metrics"]}
    listed = cloudwatch.list_tags_for_resource(ResourceARN=failed["AlarmArn"])["Tags"]
    topics = [deployed.ids["NotificationTopic"], EVERYTHING_ON["AlarmTopicArn"]]
    return {
        "AlarmActions": failed["AlarmActions"] == cost["AlarmActions"] == topics,
        "AlarmDescription": "cost more than 10 USD" in cost["AlarmDescription"],
        "AlarmName": True,
        "ComparisonOperator": failed["ComparisonOperator"] == "GreaterThanOrEqualToThreshold",
        "Dimensions": failed["Dimensions"][0]["Value"] == deployed.ids["StateMachine"],
        "EvaluationPeriods": failed["EvaluationPeriods"] == 1,
        "MetricName": failed["MetricName"] == "ExecutionsFailed",
        "Metrics": summed["rows"]["MetricStat"]["Metric"]["MetricName"] == "RunCostUsd"
        and summed["total"]["Expression"] == "SUM(FILL(METRICS(), 0))",
        "Namespace": failed["Namespace"] == "AWS/States",
        "Period": failed["Period"] == 300,
        "Statistic": failed["Statistic"] == "Sum",
        "Tags": tags(listed) == deployed.tags,
        "Threshold": (failed["Threshold"], cost["Threshold"]) == (1, 10),
        "TreatMissingData": failed["TreatMissingData"] == cost["TreatMissingData"] == "notBreaching",
    }


def dashboard(deployed: Deployed) -> dict[str, Any]:
    name = deployed.ids["RunsDashboard"]
    body = json.loads(deployed.client("cloudwatch").get_dashboard(DashboardName=name)["DashboardBody"])
    return {
        "DashboardName": name == f"{deployed.name}-us-east-1",
        "DashboardBody": deployed.ids["StateMachine"] in json.dumps(body["widgets"]),
    }


PROBES: dict[str, Callable[[Deployed], dict[str, Any]]] = {
    "AWS::CloudWatch::Alarm": alarm,
    "AWS::CloudWatch::Dashboard": dashboard,
    "AWS::Events::Rule": rule,
    "AWS::IAM::ManagedPolicy": managed_policy,
    "AWS::IAM::Policy": policy,
    "AWS::IAM::Role": role,
    "AWS::Lambda::EventInvokeConfig": invoke_config,
    "AWS::Lambda::Function": function,
    "AWS::Lambda::LayerVersion": layer,
    "AWS::Lambda::Permission": permission,
    "AWS::Logs::LogGroup": log_group,
    "AWS::S3::Bucket": bucket,
    "AWS::S3::BucketPolicy": bucket_policy,
    "AWS::SNS::Subscription": subscription,
    "AWS::SNS::Topic": topic,
    "AWS::SNS::TopicPolicy": topic_policy,
    "AWS::SQS::Queue": queue,
    "AWS::SQS::QueuePolicy": queue_policy,
    "AWS::Scheduler::Schedule": schedule,
    "AWS::StepFunctions::StateMachine": machine,
    "Custom::Cleanup": cleanup,
}
# What is wholly there only in a stack with everything on.
WITH_EVERYTHING_ON = {
    "AWS::CloudWatch::Alarm",
    "AWS::CloudWatch::Dashboard",
    "AWS::IAM::ManagedPolicy",
    "AWS::IAM::Policy",
    "AWS::IAM::Role",
    "AWS::Lambda::EventInvokeConfig",
    "AWS::Lambda::Function",
    "AWS::S3::Bucket",
    "AWS::Scheduler::Schedule",
}


@pytest.fixture(scope="module")
def used() -> dict[str, set[str]]:
    """Properties by type."""
    found: dict[str, set[str]] = defaultdict(set)
    for item in transformed(parameters={"SlotGroups": "0"})["Resources"].values():
        found[item["Type"]] |= set(item["Properties"])
    return found


@pytest.fixture(scope="module")
def deployed(cloud: EmbeddedCloud, stack: Stack) -> Deployed:
    return Deployed(cloud, stack.name)


def test_every_type_is_one_that_the_embedded_cloud_has(used: dict[str, set[str]]) -> None:
    assert set(used) == set(PROBES)


@pytest.fixture(scope="module")
def deployed_with_everything_on(cloud: EmbeddedCloud, everything_on: Stack) -> Deployed:
    return Deployed(cloud, everything_on.name)


@pytest.mark.parametrize("kind", PROBES)
def test_every_property_is_seen_in_the_stack(
    deployed: Deployed, deployed_with_everything_on: Deployed, used: dict[str, set[str]], kind: str
) -> None:
    seen = PROBES[kind](deployed_with_everything_on if kind in WITH_EVERYTHING_ON else deployed)

    assert [name for name, as_given in seen.items() if not as_given] == []
    assert set(seen) == used[kind]


def test_what_has_no_effect_is_in_the_template(used: dict[str, set[str]]) -> None:
    for kind, name in WITHOUT_EFFECT:
        assert name in used[kind], f"{kind}.{name}"
