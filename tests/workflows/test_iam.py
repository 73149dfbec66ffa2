"""Every permission that template.yaml gives: who may do what to what, and why."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cfnlint
import pytest

from workflows.lint_template import transformed
from workflows.state_machine import RENDERED
from workflows.state_machine.inference import LABEL

BUCKET, TOPIC = "${Bucket.Arn}", "${Topic}"
# A policy of the queues that it names lies on each of them, and gives nothing on others.
GROUP_QUEUES = "arn:${{AWS::Partition}}:sqs:${{AWS::Region}}:${{AWS::AccountId}}:${{Prefix}}-slot-{}-*"
SLOT_QUEUES = "arn:${AWS::Partition}:sqs:${AWS::Region}:${AWS::AccountId}:${Prefix}-slot-*"
RUN_QUEUES = "arn:${AWS::Partition}:sqs:${AWS::Region}:${AWS::AccountId}:${Prefix}-run-*"
NOTIFICATIONS, MACHINE = "${NotificationTopic}", "${StateMachine}"
EXECUTIONS = "arn:${AWS::Partition}:states:${AWS::Region}:${AWS::AccountId}:execution:${Prefix}-inference:*"
WORKER_EXECUTIONS = EXECUTIONS.replace("-inference:", f"-inference/{LABEL}:")
# The same, as a policy that comes after the machine names them.
THE_MACHINE_S = "arn:${AWS::Partition}:states:${AWS::Region}:${AWS::AccountId}:execution:${StateMachine.Name}"
RUNS, WORKERS_OF_RUNS = f"{THE_MACHINE_S}:*", f"{THE_MACHINE_S}/{LABEL}:*"
ITEMS = f"{BUCKET}/runs/*/work/*/items.json"
DATA_BUCKET = "arn:${AWS::Partition}:s3:::theirs"
NETWORK_INTERFACES = "arn:${AWS::Partition}:ec2:${AWS::Region}:${AWS::AccountId}:*/*"
WORKERS = ("WorkerSmall", "WorkerMedium", "WorkerLarge")


@dataclass(frozen=True)
class Grant:
    """Actions that a role may do to resources."""

    actions: tuple[str, ...]
    resources: tuple[str, ...]
    reason: str


def runs_as_lambda(*functions: str) -> tuple[Grant, Grant]:
    """What every function's role has."""
    groups = tuple(f"${{{function}LogGroup.Arn}}" for function in functions)
    return (
        Grant(("logs:CreateLogStream", "logs:PutLogEvents"), groups, "its own log lines"),
        Grant(("xray:PutTraceSegments", "xray:PutTelemetryRecords"), ("*",), "traces of its invocations"),
    )


# Each only where a parameter asks for it.
THEIR_DATA = (
    Grant(("s3:GetObject",), (f"{DATA_BUCKET}/*",), "models and inputs in DataBuckets"),
    Grant(("s3:ListBucket",), (DATA_BUCKET,), "are the model's files there? And missing answers 404"),
    Grant(("kms:Decrypt",), ("${KmsKeyArns}",), "S3 decrypts objects of DataBuckets in its name"),
)
IN_VPC = (
    Grant(
        ("ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets"),
        ("*",),
        "Lambda asks for these to attach it to VpcSubnetIds (developer guide, configuration-vpc)",
    ),
    Grant(
        (
            "ec2:CreateNetworkInterface",
            "ec2:DeleteNetworkInterface",
            "ec2:AssignPrivateIpAddresses",
            "ec2:UnassignPrivateIpAddresses",
        ),
        (NETWORK_INTERFACES,),
        "the same",
    ),
)

TELL_MISSING = Grant(("s3:ListBucket",), (BUCKET,), "without it a missing key answers 403, not 404")

ALLOWED = {
    "PlanRole": (
        *runs_as_lambda("Plan"),
        Grant(("s3:GetObject",), (f"{BUCKET}/models/*",), "manifest and cut of the model"),
        Grant(("s3:GetObject",), (f"{BUCKET}/inputs/*",), "the samples"),
        Grant(("s3:GetObject",), (f"{BUCKET}/uploads/*",), "samples that the command line brought along"),
        Grant(("s3:GetObject",), (f"{BUCKET}/runs/*/abort",), "was the run stopped while it was planned?"),
        Grant(("s3:PutObject",), (f"{BUCKET}/runs/*",), "plan, tasks and each worker's samples"),
        Grant(("s3:AbortMultipartUpload",), (f"{BUCKET}/runs/*/work/*",), "breaks off a large share"),
        Grant(("s3:GetObject", "s3:PutObject"), (f"{BUCKET}/leases/*",), "takes slots"),
        Grant(("s3:ListBucket",), (BUCKET,), "are the model's files there? And missing answers 404"),
        Grant(("lambda:GetAccountSettings",), ("*",), "how many workers can run at once"),
        Grant(
            ("sqs:CreateQueue", "sqs:TagQueue"), (RUN_QUEUES,), "makes the queues of a run over channel sqs"
        ),
        Grant(("s3:GetObject",), (f"{BUCKET}/runs/*/plan.json",), "the plan of a run whose workers failed"),
        Grant(("s3:GetObject",), (f"{BUCKET}/runs/*/errors/*",), "what they failed with"),
        Grant(
            ("s3:GetObject",),
            (f"{BUCKET}/runs/*/work/*",),
            "their tasks, for another attempt; what they used",
        ),
        Grant(
            ("states:GetExecutionHistory",),
            (EXECUTIONS, WORKER_EXECUTIONS),
            "how a worker's function died, in the run's execution or its own",
        ),
        Grant(("sqs:DeleteQueue",), (RUN_QUEUES,), "so that workers of a failed attempt send no more"),
        Grant(
            ("s3:DeleteObject",), (f"{BUCKET}/runs/*/work/*/queues.json",), "of a run stopped while planned"
        ),
        *THEIR_DATA,
        *IN_VPC,
    ),
    "WorkerRole": (
        *runs_as_lambda(*WORKERS),
        Grant(("s3:GetObject",), (f"{BUCKET}/models/*",), "its weights"),
        Grant(
            ("s3:GetObject",), (f"{BUCKET}/runs/*/work/*",), "its task and samples, and its peers' letters"
        ),
        Grant(("s3:GetObject",), (f"{BUCKET}/runs/*/abort",), "is the run over?"),
        Grant(("s3:PutObject",), (f"{BUCKET}/runs/*/work/*",), "its part of the output, marks, and letters"),
        Grant(("s3:AbortMultipartUpload",), (f"{BUCKET}/runs/*/work/*",), "breaks off a large part"),
        Grant(
            ("s3:DeleteObject",),
            (f"{BUCKET}/runs/*/work/*/ended/*",),
            "takes back the mark that it has left, when it is started again",
        ),
        TELL_MISSING,
        Grant(("sns:Publish",), (TOPIC,), "sends activations"),
        Grant(("sqs:ReceiveMessage", "sqs:DeleteMessage"), (SLOT_QUEUES,), "receives activations"),
        Grant(
            ("sqs:ChangeMessageVisibility",), (SLOT_QUEUES, RUN_QUEUES), "holds them until a checkpoint does"
        ),
        Grant(
            ("sqs:SendMessage", "sqs:ReceiveMessage", "sqs:DeleteMessage"),
            (RUN_QUEUES,),
            "both, over channel sqs",
        ),
        *THEIR_DATA,
        *IN_VPC,
    ),
    "CollectRole": (
        *runs_as_lambda("Collect"),
        Grant(("s3:GetObject",), (f"{BUCKET}/models/*",), "order of the last layer's rows"),
        Grant(("s3:GetObject",), (f"{BUCKET}/runs/*/plan.json",), "what was planned"),
        Grant(("s3:GetObject",), (f"{BUCKET}/runs/*/work/*",), "the workers' parts"),
        Grant(("s3:GetObject",), (f"{BUCKET}/runs/*/abort",), "was the run ended meanwhile?"),
        Grant(
            ("s3:DeleteObject",),
            (f"{BUCKET}/runs/*/work/*/collected.json",),
            "takes back what it found of a run that was ended",
        ),
        Grant(("s3:PutObject",), (f"{BUCKET}/runs/*",), "predictions, activations, and what Finish reads"),
        Grant(("s3:AbortMultipartUpload",), (f"{BUCKET}/runs/*",), "breaks off activations"),
        TELL_MISSING,
        *THEIR_DATA,
        *IN_VPC,
    ),
    "FinishRole": (
        *runs_as_lambda("Finish"),
        Grant(("s3:GetObject",), (f"{BUCKET}/runs/*",), "plan, what Collect found, and workers' errors"),
        Grant(("s3:PutObject",), (f"{BUCKET}/runs/*",), "abort mark and summary"),
        Grant(("s3:DeleteObject",), (f"{BUCKET}/runs/*/work/*",), "what only workers needed"),
        Grant(("s3:GetObject", "s3:PutObject"), (f"{BUCKET}/leases/*",), "gives slots back"),
        Grant(("s3:ListBucket",), (BUCKET,), "which workers have begun, and which have left"),
        Grant(
            ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"),
            (SLOT_QUEUES,),
            "empties the queues of a run that failed",
        ),
        Grant(("sqs:DeleteQueue",), (RUN_QUEUES,), "removes the queues that Plan made"),
        Grant(
            ("states:GetExecutionHistory",),
            (EXECUTIONS, WORKER_EXECUTIONS),
            "how a worker's function died, in the run's execution or its own",
        ),
        *IN_VPC,
    ),
    "CleanupRole": (
        *runs_as_lambda("Cleanup"),
        Grant(("cloudformation:DescribeStacks",), ("${AWS::StackId}",), "is it the stack that is deleted?"),
        Grant(("states:ListExecutions",), ("${StateMachine}",), "which runs there are"),
        Grant(("states:StopExecution",), (EXECUTIONS,), "stops them"),
        Grant(("s3:PutObject",), (f"{BUCKET}/runs/*/abort",), "has their workers leave"),
        Grant(("s3:GetObject",), (f"{BUCKET}/runs/*/errors/*",), "which workers have failed"),
        Grant(("s3:ListBucket",), (BUCKET,), "which workers have left"),
        Grant(
            ("s3:ListBucketVersions", "s3:ListBucketMultipartUploads"), (BUCKET,), "what there is to remove"
        ),
        Grant(
            ("s3:DeleteObject", "s3:DeleteObjectVersion", "s3:AbortMultipartUpload"),
            (f"{BUCKET}/*",),
            "empties the bucket",
        ),
        Grant(("sqs:ListQueues",), ("*",), "which queues runs have left"),
        Grant(("sqs:DeleteQueue",), (RUN_QUEUES,), "removes them"),
        *IN_VPC,
    ),
    "IntakeRole": (
        *IN_VPC,
        *runs_as_lambda("Intake"),
        Grant(("s3:ListBucket",), (BUCKET,), "which inputs there are, and which marks"),
        Grant(("s3:GetObject",), (f"{BUCKET}/models/*",), "is the model there that all runs would take?"),
        Grant(("s3:GetObject",), (f"{BUCKET}/inputs/*",), "which content an upload has by now: its ETag"),
        Grant(("s3:GetObject", "s3:PutObject"), (f"{BUCKET}/intake/*",), "marks of what was started"),
        Grant(("states:StartExecution",), (MACHINE,), "starts a run for each input"),
        Grant(("states:ListExecutions",), (MACHINE,), "how many runs are under way"),
        Grant(("sns:Publish",), (NOTIFICATIONS,), "Lambda tells there of a start that failed for good"),
    ),
    "SweepRole": (
        *IN_VPC,
        *runs_as_lambda("Sweep"),
        Grant(("states:DescribeExecution",), (EXECUTIONS,), "is a run over that has left something?"),
        Grant(("s3:ListBucket", "s3:ListBucketMultipartUploads"), (BUCKET,), "what runs have left"),
        Grant(("s3:DeleteObject",), (f"{BUCKET}/runs/*/work/*",), "removes what only workers needed"),
        Grant(
            ("s3:AbortMultipartUpload",),
            (f"{BUCKET}/runs/*",),
            "removes what a state that died had begun to upload, activations too",
        ),
        Grant(("s3:GetObject", "s3:PutObject"), (f"{BUCKET}/leases/*",), "gives dead runs' slots back"),
        Grant(("sqs:ListQueues",), ("*",), "which queues runs have left"),
        Grant(
            ("sqs:ListQueueTags", "sqs:GetQueueAttributes", "sqs:DeleteQueue"),
            (RUN_QUEUES,),
            "whose they are, how old, and removes them",
        ),
    ),
    "SweepScheduleRole": (Grant(("lambda:InvokeFunction",), ("${SweepFunction.Arn}",), "what it is for"),),
    "ScheduleRole": (Grant(("lambda:InvokeFunction",), ("${IntakeFunction.Arn}",), "what it is for"),),
    "StateMachineRole": (
        Grant(
            ("lambda:InvokeFunction",),
            tuple(f"${{{state}Function.Arn}}" for state in ("Plan", *WORKERS, "Collect", "Finish")),
            "its states",
        ),
        Grant(("s3:PutObject",), (f"{BUCKET}/runs/*/errors/*",), "what a worker failed with"),
        Grant(("s3:GetObject",), (ITEMS,), "the workers that the Distributed Map goes through"),
        Grant(("states:StartExecution",), (MACHINE,), "a Distributed Map's workers are executions of it"),
        Grant(
            ("states:DescribeExecution", "states:StopExecution"),
            (RUNS, WORKERS_OF_RUNS),
            "Step Functions asks for these for a Distributed Map (developer guide, iam-policies-eg-dist-map)",
        ),
        Grant(("states:RedriveExecution",), (WORKERS_OF_RUNS,), "the same"),
        Grant(
            (
                "logs:CreateLogDelivery",
                "logs:GetLogDelivery",
                "logs:UpdateLogDelivery",
                "logs:DeleteLogDelivery",
                "logs:ListLogDeliveries",
                "logs:PutResourcePolicy",
                "logs:DescribeResourcePolicies",
                "logs:DescribeLogGroups",
            ),
            ("*",),
            "Step Functions asks for these to log (developer guide, Logging using CloudWatch Logs)",
        ),
        Grant(
            (
                "xray:PutTraceSegments",
                "xray:PutTelemetryRecords",
                "xray:GetSamplingRules",
                "xray:GetSamplingTargets",
            ),
            ("*",),
            "Step Functions asks for these to trace (developer guide, Trace request data)",
        ),
    ),
}

# Why a resource can't be named to its end; "*" alone is held to AWS's own list of actions instead.
WILDCARDS = {
    f"{BUCKET}/models/*": "users name their models",
    f"{BUCKET}/inputs/*": "users name their inputs",
    f"{BUCKET}/uploads/*": "named by the hash of what was uploaded, and as the user's file",
    f"{BUCKET}/intake/*": "a mark is named after a run, and so after its input",
    f"{BUCKET}/leases/*": "one lease per kind of thing that is leased",
    f"{BUCKET}/runs/*": "a run's name is made when it starts",
    f"{BUCKET}/runs/*/abort": "a run's name is made when it starts",
    f"{BUCKET}/runs/*/plan.json": "a run's name is made when it starts",
    f"{BUCKET}/runs/*/work/*": "a run's name is made when it starts; in it, attempts have numbers",
    f"{BUCKET}/runs/*/work/*/ended/*": "a run's name is made when it starts; in it, attempts have numbers",
    f"{BUCKET}/runs/*/errors/*": "a run's name is made when it starts; in it, workers have numbers",
    f"{BUCKET}/runs/*/work/*/queues.json": "a run's name is made when it starts; attempts have numbers",
    f"{BUCKET}/runs/*/work/*/collected.json": "a run's name is made when it starts; attempts have numbers",
    f"{BUCKET}/*": "CloudFormation deletes a bucket only when all of it is gone",
    f"{DATA_BUCKET}/*": "users name their models and inputs",
    NETWORK_INTERFACES: "Lambda names the interfaces, and wants all (developer guide, configuration-vpc)",
    RUN_QUEUES: "they are made, and named, for a run",
    SLOT_QUEUES: "a role's policy could not name 200 queues within IAM's 10,240 characters",
    EXECUTIONS: "an execution's name is made when it starts",
    WORKER_EXECUTIONS: "so is that of each worker of a Distributed Map",
    RUNS: "an execution's name is made when it starts",
    WORKERS_OF_RUNS: "so is that of each worker of a Distributed Map",
    ITEMS: "a run's name is made when it starts; in it, attempts have numbers",
}

TRUSTED = {
    "PlanRole": "lambda.amazonaws.com",
    "WorkerRole": "lambda.amazonaws.com",
    "CollectRole": "lambda.amazonaws.com",
    "FinishRole": "lambda.amazonaws.com",
    "CleanupRole": "lambda.amazonaws.com",
    "IntakeRole": "lambda.amazonaws.com",
    "ScheduleRole": "scheduler.amazonaws.com",
    "SweepRole": "lambda.amazonaws.com",
    "SweepScheduleRole": "scheduler.amazonaws.com",
    "StateMachineRole": "states.amazonaws.com",
}

# (resource, principal, action): what a resource lets an AWS service do, each from one source alone.
FROM_OUTSIDE = {
    (GROUP_QUEUES.format(0), "sns.amazonaws.com", "sqs:SendMessage"): "the topic delivers",
    (GROUP_QUEUES.format(1), "sns.amazonaws.com", "sqs:SendMessage"): "the topic delivers",
    ("${FinishFunction}", "events.amazonaws.com", "lambda:InvokeFunction"): "a stopped execution is finished",
    ("${IntakeFunction}", "events.amazonaws.com", "lambda:InvokeFunction"): "an upload starts a run",
    ("${NotificationTopic}", "events.amazonaws.com", "sns:Publish"): "the end of a run is told",
    ("${NotificationTopic}", "cloudwatch.amazonaws.com", "sns:Publish"): "alarms are told",
}


@pytest.fixture(scope="module")
def resources() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = transformed(parameters={"SlotGroups": "0,1", "DataBuckets": "theirs"})[
        "Resources"
    ]
    return found


def as_text(value: Any) -> str:
    """A resource as ``Fn::Sub`` would write it."""
    if isinstance(value, str):
        return value
    ((function, argument),) = value.items()
    if function == "Ref":
        return f"${{{argument}}}"
    if function == "Fn::GetAtt":
        return f"${{{argument if isinstance(argument, str) else '.'.join(argument)}}}"
    if function == "Fn::Split":
        return as_text(argument[1])
    assert function == "Fn::Sub", value
    return str(argument if isinstance(argument, str) else argument[0])


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def of_type(resources: dict[str, dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {name: item["Properties"] for name, item in resources.items() if item["Type"] == kind}


def attached(role: dict[str, Any]) -> list[str]:
    """The managed policies of a role: the template's own, each where its condition is met."""
    if "ManagedPolicyArns" not in role:
        return []
    _, where, otherwise = role["ManagedPolicyArns"]["Fn::If"]
    assert otherwise == {"Ref": "AWS::NoValue"}
    return [arn["Ref"] for arn in where]


def documents(resources: dict[str, dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every policy of the template with the role that has it, its own or attached to it."""
    for name, role in of_type(resources, "AWS::IAM::Role").items():
        yield from ((name, policy["PolicyDocument"]) for policy in role["Policies"])
    for policy in of_type(resources, "AWS::IAM::Policy").values():
        yield from ((role["Ref"], policy["PolicyDocument"]) for role in policy["Roles"])
    for policy_name, policy in of_type(resources, "AWS::IAM::ManagedPolicy").items():
        for name, role in of_type(resources, "AWS::IAM::Role").items():
            if policy_name in attached(role):
                yield name, policy["PolicyDocument"]


def given(resources: dict[str, dict[str, Any]]) -> Iterator[tuple[str, str, str]]:
    """Every (role, action, resource) of the template."""
    for name, document in documents(resources):
        for statement in map(where_it_is_on, document["Statement"]):
            assert set(statement) == {"Sid", "Effect", "Action", "Resource"}
            assert statement["Effect"] == "Allow"
            for action in as_list(statement["Action"]):
                yield from ((name, action, as_text(each)) for each in as_list(statement["Resource"]))


def where_it_is_on(statement: dict[str, Any]) -> dict[str, Any]:
    """A statement that depends on a condition, as it is where that holds."""
    if set(statement) != {"Fn::If"}:
        return statement
    _, on, off = statement["Fn::If"]
    assert off == {"Ref": "AWS::NoValue"}
    return dict(on)


def explained() -> Iterator[tuple[str, str, str]]:
    for role, grants in ALLOWED.items():
        for grant in grants:
            yield from ((role, action, each) for action in grant.actions for each in grant.resources)


@cache
def actions_of_aws() -> dict[str, Any]:
    """AWS's Service Authorization Reference, by service, as cfn-lint has it."""
    path = Path(cfnlint.__file__).parent / "data" / "AdditionalSpecs" / "Policies.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def can_be_limited(action: str) -> bool:
    """Whether AWS knows resources that an action, which it must know, can be limited to."""
    service, name = action.split(":")
    return bool(actions_of_aws()[service]["Actions"][name.lower()].get("Resources"))


def test_every_permission_is_explained_once(resources: dict[str, dict[str, Any]]) -> None:
    assert Counter(given(resources)) == Counter(explained())
    assert all(grant.reason for grants in ALLOWED.values() for grant in grants)


def test_nothing_else_gives_more(resources: dict[str, dict[str, Any]]) -> None:
    """No policy of AWS's, and no kind that `documents` does not read."""
    for name, item in resources.items():
        assert item["Type"] not in {"AWS::IAM::RolePolicy", "AWS::IAM::UserPolicy"}, name
    for role in of_type(resources, "AWS::IAM::Role").values():
        assert set(attached(role)) <= set(of_type(resources, "AWS::IAM::ManagedPolicy"))
    for policy in of_type(resources, "AWS::IAM::ManagedPolicy").values():
        assert not {"Roles", "Users", "Groups"} & set(policy)
    for function in of_type(resources, "AWS::Lambda::Function").values():
        assert function["Role"]["Fn::GetAtt"][0] in ALLOWED


@pytest.mark.parametrize(
    ("kind", "condition"),
    [("AWS::IAM::Policy", {None, "HasDataBuckets", "HasKmsKeys"}), ("AWS::IAM::ManagedPolicy", {"InVpc"})],
)
def test_what_a_parameter_asks_for_is_given_only_then(
    resources: dict[str, dict[str, Any]], kind: str, condition: set[str | None]
) -> None:
    policies = {name: item for name, item in resources.items() if item["Type"] == kind}

    assert {item.get("Condition") for item in policies.values()} == condition
    always = [name for name, item in policies.items() if "Condition" not in item]
    assert always == [name for name in ("DistributedMapPolicy",) if name in policies]


def test_the_policy_that_names_the_machine_comes_after_it_and_before_any_run(
    resources: dict[str, dict[str, Any]],
) -> None:
    """The machine needs its role, so the role can't name the machine; whatever starts a run needs Cleanup."""
    assert "StateMachine}" not in json.dumps(resources["StateMachineRole"])
    assert resources["DistributedMapPolicy"]["Properties"]["Roles"] == [{"Ref": "StateMachineRole"}]
    assert resources["Cleanup"]["DependsOn"] == "DistributedMapPolicy"


def test_buckets_of_others_are_only_read() -> None:
    actions = {action for _, action, resource in explained() if resource.startswith(DATA_BUCKET)}

    assert actions == {"s3:GetObject", "s3:ListBucket"}


def test_no_function_can_make_its_log_group_again(resources: dict[str, dict[str, Any]]) -> None:
    """A group that the stack has deleted stays deleted, whatever a function still logs."""
    actions = {action for _, action, _ in given(resources)}

    assert "logs:PutLogEvents" in actions
    assert "logs:CreateLogGroup" not in actions


def test_no_action_has_a_wildcard(resources: dict[str, dict[str, Any]]) -> None:
    assert [action for _, action, _ in given(resources) if "*" in action] == []


def test_everything_is_a_resource_only_where_aws_knows_none_for_the_action() -> None:
    for role, action, resource in explained():
        assert (resource == "*") != can_be_limited(action), f"{role}: {action}"


def test_every_other_wildcard_has_a_reason() -> None:
    assert {resource for _, _, resource in explained() if "*" in resource} - {"*"} == set(WILDCARDS)


def test_each_role_is_assumed_by_one_service(resources: dict[str, dict[str, Any]]) -> None:
    trusted = {}
    for name, role in of_type(resources, "AWS::IAM::Role").items():
        (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
        assert statement["Action"] == "sts:AssumeRole"
        trusted[name] = statement["Principal"]["Service"]
        if trusted[name] in {"states.amazonaws.com", "scheduler.amazonaws.com"}:
            assert statement["Condition"] == {
                "StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}
            }

    assert trusted == TRUSTED


def test_only_aws_services_are_let_in_and_from_one_source_each(
    resources: dict[str, dict[str, Any]],
) -> None:
    found = set()
    for item in resources.values():
        properties = item["Properties"]
        if item["Type"] == "AWS::Lambda::Permission":
            assert properties["SourceArn"]
            function = as_text(properties["FunctionName"])
            found.add((function, properties["Principal"], properties["Action"]))
        of_a_role = item["Type"].startswith("AWS::IAM::")
        statements = [] if of_a_role else properties.get("PolicyDocument", {}).get("Statement", [])
        for statement in map(where_it_is_on, statements):
            if statement["Effect"] == "Allow":
                assert statement["Condition"]["ArnEquals"]["aws:SourceArn"], item["Type"]
                principal = statement["Principal"]["Service"]
                found.add((as_text(statement["Resource"]), principal, statement["Action"]))

    assert found == set(FROM_OUTSIDE)


def test_the_machine_s_tasks_are_what_its_role_allows() -> None:
    actions = {
        "lambda:invoke": "lambda:InvokeFunction",
        "aws-sdk:s3:putObject": "s3:PutObject",
        "s3:getObject": "s3:GetObject",
    }
    called = {
        actions[integration]
        for integration in re.findall(r"arn:[^:]+:states:::([\w:-]+)", RENDERED.read_text(encoding="utf-8"))
    }
    by_the_service = {"logs", "xray", "states"}

    assert called == {
        action
        for role, action, _ in explained()
        if role == "StateMachineRole" and action.split(":")[0] not in by_the_service
    }
