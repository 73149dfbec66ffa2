"""What template.yaml deploys, after loops and the SAM transform."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from lamella.collect_memory import COLLECT_MEMORY_MB
from lamella.config import Config
from lamella.errors import RunError
from lamella.events import LookEvent, SweepEvent, UploadEvent, parse_intake_event
from lamella.layout import INPUTS
from lamella.slots import slot_name, slots_of
from workflows.embedded_cloud.template_rules import broken_rules
from workflows.lint_template import EVERYTHING_ON, findings, transformed

ROOT = Path(__file__).resolve().parents[2]
STATES = ("Plan", "WorkerSmall", "WorkerMedium", "WorkerLarge", "Collect", "Finish")
FUNCTIONS = (*STATES, "Cleanup", "Intake", "Sweep")
PREFIX = {"Fn::If": ["HasNamePrefix", {"Ref": "NamePrefix"}, {"Ref": "AWS::StackName"}]}
KEY = "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"

# Resource types that CloudFormation can't tag.
UNTAGGED = {
    "AWS::CloudWatch::Dashboard",
    "AWS::IAM::ManagedPolicy",
    "AWS::IAM::Policy",
    "AWS::Lambda::EventInvokeConfig",
    "AWS::Lambda::LayerVersion",
    "AWS::Lambda::Permission",
    "AWS::S3::BucketPolicy",
    "AWS::SNS::Subscription",
    "AWS::SNS::TopicPolicy",
    "AWS::SQS::QueuePolicy",
    "Custom::Cleanup",
    "AWS::Scheduler::Schedule",
}

# What a stack has only where a parameter asks for it.
CONDITIONAL = {
    "CostAlarm": "HasAlarms",
    "DataBucketnonePolicy": "HasDataBuckets",
    "FailedRunsAlarm": "HasAlarms",
    "IntakeFunction": "StartsByItself",
    "IntakeInvokeConfig": "StartsByItself",
    "IntakeLogGroup": "StartsByItself",
    "IntakeRole": "StartsByItself",
    "KeysPolicy": "HasKmsKeys",
    "NetworkPolicy": "InVpc",
    "NotificationRule": "Notifies",
    "NotificationSubscription": "NotifiesByEmail",
    "NotificationTopic": "Notifies",
    "NotificationTopicPolicy": "Notifies",
    "RunsDashboard": "HasDashboard",
    "Schedule": "StartsOnSchedule",
    "ScheduleRole": "StartsOnSchedule",
    "SweepScheduleRole": "Sweeps",
    "SweepTimer": "Sweeps",
    "UploadRule": "StartsOnUpload",
    "UploadRulePermission": "StartsOnUpload",
}


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    return transformed(parameters={"SlotGroups": "0,1,2"})


@pytest.fixture(scope="module")
def resources(template: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = template["Resources"]
    return found


def of_type(resources: dict[str, dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {name: item["Properties"] for name, item in resources.items() if item["Type"] == kind}


def test_cfn_lint_finds_a_mistake_inside_a_loop_and_nothing_else(tmp_path: Path) -> None:
    text = (ROOT / "template.yaml").read_text(encoding="utf-8")
    broken = tmp_path / "template.yaml"
    broken.write_text(text.replace("VisibilityTimeout: 30", "VisibilityTimeout: 3000000"), encoding="utf-8")

    found = findings(broken, tmp_path / "transformed.json")

    assert any("transformed" in finding for finding in found)
    assert all("E3034" in finding for finding in found)


def test_there_is_one_function_per_state_and_three_sizes_of_worker(
    resources: dict[str, dict[str, Any]],
) -> None:
    functions = of_type(resources, "AWS::Lambda::Function")

    assert set(functions) == {f"{name}Function" for name in FUNCTIONS}
    assert [functions[f"{state}Function"]["MemorySize"] for state in STATES[1:4]] == [
        1024,
        1769,
        {"Ref": "LargeWorkerMemory"},
    ]
    assert functions["CollectFunction"]["MemorySize"] == COLLECT_MEMORY_MB


def test_every_handler_is_there(resources: dict[str, dict[str, Any]]) -> None:
    for function in of_type(resources, "AWS::Lambda::Function").values():
        module, _, name = function["Handler"].partition(".")
        source = (ROOT / "lambdas" / "functions" / f"{module}.py").read_text(encoding="utf-8")
        assert f"def {name}(" in source


def test_every_state_has_a_role_of_its_own(resources: dict[str, dict[str, Any]]) -> None:
    roles = {
        name: function["Role"]["Fn::GetAtt"][0]
        for name, function in of_type(resources, "AWS::Lambda::Function").items()
    }

    assert roles == {
        "PlanFunction": "PlanRole",
        "WorkerSmallFunction": "WorkerRole",
        "WorkerMediumFunction": "WorkerRole",
        "WorkerLargeFunction": "WorkerRole",
        "CollectFunction": "CollectRole",
        "FinishFunction": "FinishRole",
        "CleanupFunction": "CleanupRole",
        "IntakeFunction": "IntakeRole",
        "SweepFunction": "SweepRole",
    }
    others = {"StateMachineRole", "ScheduleRole", "SweepScheduleRole"}
    assert set(of_type(resources, "AWS::IAM::Role")) == {*roles.values(), *others}


def test_every_role_takes_the_permissions_boundary(resources: dict[str, dict[str, Any]]) -> None:
    for role in of_type(resources, "AWS::IAM::Role").values():
        assert role["PermissionsBoundary"]["Fn::If"][0] == "HasPermissionsBoundary"


def test_every_function_logs_json_to_a_group_of_its_own_that_forgets(
    resources: dict[str, dict[str, Any]],
) -> None:
    groups = of_type(resources, "AWS::Logs::LogGroup")
    used = []
    for function in of_type(resources, "AWS::Lambda::Function").values():
        assert function["LoggingConfig"]["LogFormat"] == "JSON"
        assert function["TracingConfig"] == {"Mode": "Active"}
        used.append(function["LoggingConfig"]["LogGroup"]["Ref"])
    assert len(set(used)) == len(used)
    assert {*used, "StateMachineLogGroup"} == set(groups)
    for group in groups.values():
        assert group["RetentionInDays"] == {"Ref": "RetentionDays"}


def test_every_variable_is_one_that_config_reads(resources: dict[str, dict[str, Any]]) -> None:
    given: set[str] = set()
    for function in of_type(resources, "AWS::Lambda::Function").values():
        names = {name for name in function["Environment"]["Variables"] if name.startswith("LAMELLA_")}
        assert "LAMELLA_BUCKET" in names
        given |= names

    assert given == {f"LAMELLA_{name.upper()}" for name in Config.model_fields}


def test_config_understands_the_slots_and_workers_as_the_template_gives_them(
    resources: dict[str, dict[str, Any]],
) -> None:
    variables = resources["PlanFunction"]["Properties"]["Environment"]["Variables"]
    assert variables["LAMELLA_SLOTS"] == {"Fn::Join": [",", {"Ref": "SlotGroups"}]}
    workers, large = variables["LAMELLA_WORKERS"]["Fn::Sub"]
    assert large == {"Large": {"Ref": "LargeWorkerMemory"}}

    config = Config.read(
        {
            "LAMELLA_BUCKET": "b",
            "LAMELLA_SLOTS": "0,1,2",
            "LAMELLA_WORKERS": workers.replace("${Large}", "3008"),
        }
    )

    assert config.slots == 24
    assert config.worker_functions() == {
        1024: "${WorkerSmallFunction.Arn}",
        1769: "${WorkerMediumFunction.Arn}",
        3008: "${WorkerLargeFunction.Arn}",
    }


def test_every_slot_has_its_queue_policy_and_filter(resources: dict[str, dict[str, Any]]) -> None:
    queues = of_type(resources, "AWS::SQS::Queue")
    policies = of_type(resources, "AWS::SQS::QueuePolicy")
    subscriptions = of_type(resources, "AWS::SNS::Subscription")
    assert set(queues) == {f"SlotQueue{group}{place}" for group in range(3) for place in range(8)}
    for slot in range(24):
        group, place = divmod(slot, 8)
        queue = queues[f"SlotQueue{group}{place}"]
        assert queue["QueueName"]["Fn::Sub"] == [f"${{Prefix}}-slot-{slot_name(slot)}", {"Prefix": PREFIX}]
        assert queue["SqsManagedSseEnabled"] is True
        assert queue["ReceiveMessageWaitTimeSeconds"] <= 5
        subscription = subscriptions[f"SlotSubscription{group}{place}"]
        assert subscription["FilterPolicy"] == {"slot": [{"Fn::Join": ["-", [str(group), str(place)]]}]}
        assert subscription["RawMessageDelivery"] is True
        assert subscription["Endpoint"] == {"Fn::GetAtt": [f"SlotQueue{group}{place}", "Arn"]}
    assert set(policies) == {"SlotQueuePolicy0", "SlotQueuePolicy1", "SlotQueuePolicy2"}
    for group in range(3):
        policy = policies[f"SlotQueuePolicy{group}"]
        assert policy["Queues"] == [{"Ref": f"SlotQueue{group}{place}"} for place in range(8)]
        allow, deny = policy["PolicyDocument"]["Statement"]
        for statement in (allow, deny):
            name, prefix = statement["Resource"]["Fn::Sub"]
            assert name.endswith(f":${{AWS::AccountId}}:${{Prefix}}-slot-{group}-*")
            assert prefix == {"Prefix": PREFIX}
        assert allow["Principal"] == {"Service": "sns.amazonaws.com"}
        assert allow["Condition"] == {"ArnEquals": {"aws:SourceArn": {"Ref": "Topic"}}}
        assert (deny["Effect"], deny["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})


def test_a_queue_is_found_by_its_slot_s_name(resources: dict[str, dict[str, Any]]) -> None:
    url = resources["FinishFunction"]["Properties"]["Environment"]["Variables"]["LAMELLA_SLOT_QUEUES"][
        "Fn::Sub"
    ]

    assert url[0].endswith("/${AWS::AccountId}/${Prefix}-slot-")
    assert url[1] == {"Prefix": PREFIX}
    assert Config(bucket="b", slot_queues="https://sqs/0/mine-slot-").slot_queue(13) == (
        "https://sqs/0/mine-slot-1-5"
    )


@pytest.mark.parametrize("groups", ["1,2", "0,2", "0,1,1", "0, 2"])
def test_groups_of_slots_have_no_gap(groups: str) -> None:
    with pytest.raises(RunError, match=r"LAMELLA_SLOTS .* numbered 0,1,2 and so on, without a gap"):
        Config.read({"LAMELLA_BUCKET": "b", "LAMELLA_SLOTS": groups})


def test_the_bucket_is_private_and_encrypted_and_outlives_the_stack_only_where_it_is_asked_to(
    resources: dict[str, dict[str, Any]],
) -> None:
    bucket = resources["Bucket"]["Properties"]

    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert "AES256" in json.dumps(bucket["BucketEncryption"])
    for name in ("Bucket", "BucketPolicy"):
        assert resources[name]["DeletionPolicy"] == {
            "Fn::If": ["KeepsData", "RetainExceptOnCreate", "Delete"]
        }
    expiring = [rule for rule in bucket["LifecycleConfiguration"]["Rules"] if "ExpirationInDays" in rule]
    # Models and inputs are the user's; leases and the marks of inputs that were started have to stay.
    assert [rule["Prefix"] for rule in expiring] == ["runs/", "uploads/"]
    (deny,) = resources["BucketPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert (deny["Effect"], deny["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})


def test_the_rule_starts_finish_for_every_execution_that_ends_badly(
    resources: dict[str, dict[str, Any]],
) -> None:
    rule = resources["StoppedRule"]["Properties"]
    permission = resources["StoppedRulePermission"]["Properties"]

    assert rule["EventPattern"]["detail"]["status"] == ["ABORTED", "TIMED_OUT", "FAILED"]
    assert rule["EventPattern"]["detail"]["stateMachineArn"] == [{"Ref": "StateMachine"}]
    assert rule["Targets"][0]["Arn"] == {"Fn::GetAtt": ["FinishFunction", "Arn"]}
    assert permission["SourceArn"] == {"Fn::GetAtt": ["StoppedRule", "Arn"]}


def test_everything_that_can_be_tagged_is(resources: dict[str, dict[str, Any]]) -> None:
    for name, resource in resources.items():
        if resource["Type"] in UNTAGGED:
            continue
        tags = {tag["Key"]: tag["Value"] for tag in resource["Properties"]["Tags"]}
        assert tags["project"] == "lamella", name
        assert tags["stack"] == {"Ref": "AWS::StackName"}, name


def test_as_many_slots_as_a_topic_has_filters_for_fit_a_stack_with_everything_on(
    template: dict[str, Any],
) -> None:
    parameter = template["Parameters"]["SlotGroups"]
    groups = [str(group) for group in range(1000) if re.fullmatch(parameter["AllowedPattern"], str(group))]
    most = transformed(parameters={"SlotGroups": ",".join(groups), **EVERYTHING_ON})["Resources"]

    # CloudFormation's, and SNS's: 200 filter policies a topic.
    assert len(most) <= 500
    filters = [each for each in of_type(most, "AWS::SNS::Subscription").values() if "FilterPolicy" in each]
    assert len(filters) == len(of_type(most, "AWS::SQS::Queue")) == slots_of(",".join(groups)) == 200


def test_nothing_idle_is_billed_but_storage_unless_a_parameter_asks_for_it(
    template: dict[str, Any], resources: dict[str, dict[str, Any]]
) -> None:
    free = {
        "AWS::Events::Rule",
        "AWS::IAM::ManagedPolicy",
        "AWS::IAM::Policy",
        "AWS::IAM::Role",
        "AWS::Lambda::EventInvokeConfig",
        "AWS::Lambda::Function",
        "AWS::Lambda::LayerVersion",
        "AWS::Lambda::Permission",
        "AWS::Logs::LogGroup",
        "AWS::S3::Bucket",
        "AWS::S3::BucketPolicy",
        "AWS::SNS::Subscription",
        "AWS::SNS::Topic",
        "AWS::SNS::TopicPolicy",
        "AWS::SQS::Queue",
        "AWS::SQS::QueuePolicy",
        "AWS::Scheduler::Schedule",
        "AWS::StepFunctions::StateMachine",
        "Custom::Cleanup",
    }
    billed = {"AWS::CloudWatch::Alarm": "Alarms", "AWS::CloudWatch::Dashboard": "Dashboard"}

    assert {resource["Type"] for resource in resources.values()} == free | set(billed)
    for resource in resources.values():
        if resource["Type"] in billed:
            parameter = billed[resource["Type"]]
            assert resource["Condition"] == f"Has{parameter}"
            assert template["Conditions"][f"Has{parameter}"] == {"Fn::Equals": [{"Ref": parameter}, "true"]}
            assert template["Parameters"][parameter]["Default"] == "false"


def test_the_version_is_the_package_s(template: dict[str, Any]) -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")

    assert f'version = "{template["Outputs"]["Version"]["Value"]}"' in project


def test_what_is_off_by_default_is_not_there(template: dict[str, Any]) -> None:
    conditional = {
        name: item["Condition"] for name, item in template["Resources"].items() if "Condition" in item
    }
    defaults = {name: parameter["Default"] for name, parameter in template["Parameters"].items()}

    assert conditional == CONDITIONAL
    assert defaults["ScheduleExpression"] == defaults["NotificationEmail"] == defaults["AutoModel"] == ""
    assert defaults["StartOnUpload"] == defaults["Notifications"] == "false"
    notification = template["Resources"]["Bucket"]["Properties"]["NotificationConfiguration"]["Fn::If"]
    assert notification[0] == "StartsOnUpload"
    assert notification[2] == {"Ref": "AWS::NoValue"}
    assert template["Outputs"]["NotificationTopicArn"]["Condition"] == "Notifies"


@pytest.mark.parametrize(
    ("given", "broken"),
    [
        ({}, None),
        ({"ScheduleExpression": "rate(1 day)"}, "WhatStartsByItselfHasAModel"),
        ({"StartOnUpload": "true"}, "WhatStartsByItselfHasAModel"),
        ({"StartOnUpload": "true", "AutoModel": "s3://b/models/m/"}, None),
        ({"ScheduleExpression": "rate(1 day)", "AutoModel": "s3://b/models/m/"}, None),
        ({"Notifications": "true"}, None),
        ({"NotificationEmail": "a@b.c"}, "WhoIsNotifiedHasATopic"),
        ({"NotificationEmail": "a@b.c", "Notifications": "true"}, None),
        ({"VpcSubnetIds": "subnet-1"}, "SubnetsWithSecurityGroups"),
        ({"VpcSecurityGroupIds": "sg-1"}, "SubnetsWithSecurityGroups"),
        ({"VpcSubnetIds": "subnet-1,subnet-2", "VpcSecurityGroupIds": "sg-1"}, None),
    ],
    ids=str,
)
def test_what_does_not_go_together_is_refused(
    template: dict[str, Any], given: dict[str, str], broken: str | None
) -> None:
    values = {name: parameter["Default"] for name, parameter in template["Parameters"].items()} | given

    assert [name for name, _ in broken_rules(template, values)] == ([broken] if broken else [])


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("AutoModel", ["", "s3://bucket/models/m/"], ["models/m", "s3://bucket"]),
        ("AutoOptions", ["{}", '{"strategy": "serial"}'], ["", "[]", "serial"]),
        (
            "ScheduleExpression",
            ["", "rate(1 day)", "cron(0 6 * * ? *)", "at(2027-01-01T06:00:00)"],
            ["daily", "0 6 * * *"],
        ),
        ("SweepSchedule", ["rate(1 day)", "cron(0 6 * * ? *)", ""], ["daily", "at(2027-01-01T06:00:00)"]),
        ("ScheduleTimezone", ["UTC", "Europe/Berlin", "Etc/GMT+3"], ["", "my time"]),
        (
            "SchedulePrefix",
            ["inputs/", "inputs/day=1/new/"],
            ["", "runs/", "inputs", "inputs/a", 'inputs/"/', "inputs//"],
        ),
        ("NotificationEmail", ["", "a@b.example"], ["nobody", "a b@c"]),
        ("DataBuckets", ["none", "my.bucket-1"], ["", "My", "a/b", "*"]),
        ("KmsKeyArns", ["", f"{KEY}", f"{KEY},{KEY}"], ["*", f"{KEY}, {KEY}", KEY.replace("key/", "alias/")]),
        ("AlarmTopicArn", ["", "arn:aws:sns:eu-west-1:123456789012:ops"], ["ops"]),
        ("VpcSubnetIds", ["", "subnet-0a1b", "subnet-0a1b,subnet-2"], ["sg-1", "subnet-1, subnet-2"]),
        ("VpcSecurityGroupIds", ["", "sg-0a1b", "sg-1,sg-2"], ["subnet-1", "sg-1,"]),
    ],
)
def test_parameters_take_what_they_should(
    template: dict[str, Any], name: str, good: list[str], bad: list[str]
) -> None:
    pattern = template["Parameters"][name]["AllowedPattern"]

    assert [value for value in good if not re.search(pattern, value)] == []
    assert [value for value in bad if re.search(pattern, value)] == []
    assert template["Parameters"][name]["Default"] in good


def test_uploads_below_inputs_alone_reach_intake(resources: dict[str, dict[str, Any]]) -> None:
    rule = resources["UploadRule"]["Properties"]

    assert rule["EventPattern"]["detail"] == {
        "bucket": {"name": [{"Ref": "Bucket"}]},
        "object": {"key": [{"prefix": INPUTS}]},
    }
    assert resources["UploadRulePermission"]["Properties"]["SourceArn"] == {
        "Fn::GetAtt": ["UploadRule", "Arn"]
    }
    event = rule["Targets"][0]["InputTransformer"]["InputTemplate"]
    filled = event.replace("<bucket>", '"b"').replace("<key>", json.dumps('inputs/"a".npy'))
    assert parse_intake_event(json.loads(filled)) == UploadEvent(bucket="b", key='inputs/"a".npy')


def test_the_schedule_s_event_is_one_that_intake_takes(resources: dict[str, dict[str, Any]]) -> None:
    target = resources["Schedule"]["Properties"]["Target"]
    given = target["Input"]["Fn::Sub"].replace("${SchedulePrefix}", "inputs/day/")

    assert parse_intake_event(json.loads(given)) == LookEvent(prefix="inputs/day/")
    assert target["Arn"] == {"Fn::GetAtt": ["IntakeFunction", "Arn"]}


def test_the_sweep_s_timer_sends_what_sweep_takes_and_has_it_remove(
    resources: dict[str, dict[str, Any]],
) -> None:
    target = resources["SweepTimer"]["Properties"]["Target"]

    assert SweepEvent.model_validate(json.loads(target["Input"])) == SweepEvent(remove=True)
    assert target["Arn"] == {"Fn::GetAtt": ["SweepFunction", "Arn"]}
    assert resources["SweepTimer"]["Properties"]["ScheduleExpression"] == {"Ref": "SweepSchedule"}
    assert resources["SweepFunction"]["Properties"]["MemorySize"] == 512


def test_nothing_of_lamella_may_write_below_inputs(resources: dict[str, dict[str, Any]]) -> None:
    for name, role in of_type(resources, "AWS::IAM::Role").items():
        for policy in role["Policies"]:
            for statement in policy["PolicyDocument"]["Statement"]:
                if "s3:PutObject" in json.dumps(statement):
                    assert "/inputs/*" not in json.dumps(statement), name


def test_every_parameter_is_in_a_group_and_in_the_readme(template: dict[str, Any]) -> None:
    interface = template["Metadata"]["AWS::CloudFormation::Interface"]
    grouped = [name for group in interface["ParameterGroups"] for name in group["Parameters"]]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")

    assert sorted(grouped) == sorted(template["Parameters"])
    assert set(interface["ParameterLabels"]) == set(template["Parameters"])
    assert [name for name in template["Parameters"] if f"`{name}`" not in readme] == []


def test_a_start_that_failed_for_good_is_told_where_anything_is(resources: dict[str, dict[str, Any]]) -> None:
    config = resources["IntakeInvokeConfig"]["Properties"]
    condition, told, nothing = config["DestinationConfig"]["Fn::If"]

    assert config["MaximumRetryAttempts"] == 2
    assert (condition, nothing) == ("Notifies", {"Ref": "AWS::NoValue"})
    assert told == {"OnFailure": {"Destination": {"Ref": "NotificationTopic"}}}


def test_only_rule_and_alarms_publish_notifications_and_the_rule_in_words(
    resources: dict[str, dict[str, Any]],
) -> None:
    statements = resources["NotificationTopicPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    allow, of_alarms, deny = statements
    rule = resources["NotificationRule"]["Properties"]
    (target,) = rule["Targets"]

    condition, allow_alarms, nothing = of_alarms["Fn::If"]
    assert (condition, nothing) == ("HasAlarms", {"Ref": "AWS::NoValue"})
    assert allow_alarms["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert allow["Principal"] == {"Service": "events.amazonaws.com"}
    assert allow["Condition"] == {"ArnEquals": {"aws:SourceArn": {"Fn::GetAtt": ["NotificationRule", "Arn"]}}}
    assert (deny["Effect"], deny["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})
    # A service can't use AWS's own key of SNS.
    assert "KmsMasterKeyId" not in resources["NotificationTopic"]["Properties"]
    assert rule["EventPattern"]["detail"] == {
        "stateMachineArn": [{"Ref": "StateMachine"}],
        "status": ["SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED"],
    }
    assert target["Arn"] == {"Ref": "NotificationTopic"}
    lines = target["InputTransformer"]["InputTemplate"]["Fn::Sub"].splitlines()
    assert all(line.startswith('"') and line.endswith('"') and line.count('"') == 2 for line in lines)
    named = {name for line in lines for name in re.findall(r"<(\w+)>", line)}
    assert named == set(target["InputTransformer"]["InputPathsMap"])
