"""One test for each change to moto; with ``WITHOUT_PATCH=name`` in the environment it fails."""

from __future__ import annotations

import json
import re
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest
from botocore.exceptions import ClientError

from tests.cloud.conftest import Sample
from tests.cloud.helpers import (
    RUNTIME,
    archive,
    create_stack,
    finish,
    invoke,
    is_running,
    logged,
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
from workflows.embedded_cloud.patches.apply import PATCHES

PASS = {"Type": "Pass", "End": True}


def unique(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def make_queue(cloud: EmbeddedCloud, **attributes: str) -> str:
    client = cloud.client("sqs")
    return str(client.create_queue(QueueName=unique("q"), Attributes=attributes)["QueueUrl"])


def queue_arn(url: str) -> str:
    return f"arn:aws:sqs:us-east-1:123456789012:{url.rsplit('/', 1)[1]}"


def subscribed(cloud: EmbeddedCloud, topic: str, **attributes: str) -> str:
    url = make_queue(cloud)
    cloud.client("sns").subscribe(
        TopicArn=topic, Protocol="sqs", Endpoint=queue_arn(url), Attributes=attributes
    )
    return url


def receive(cloud: EmbeddedCloud, url: str, **options: Any) -> list[dict[str, Any]]:
    request = {"MaxNumberOfMessages": 10, "WaitTimeSeconds": 1, "MessageAttributeNames": ["All"], **options}
    messages: list[dict[str, Any]] = (
        cloud.client("sqs").receive_message(QueueUrl=url, **request).get("Messages", [])
    )
    return messages


def resource(kind: str, **properties: Any) -> dict[str, Any]:
    return {"Type": kind, "Properties": properties}


def test_every_patch_has_a_test() -> None:
    missing = [patch.__name__ for patch in PATCHES if f"test_{patch.__name__}" not in globals()]
    assert missing == []


# Step Functions


def test_execute_state_machines(cloud: EmbeddedCloud) -> None:
    found = run(cloud, make_machine(cloud, one_state({**PASS, "Result": {"real": 1}})))
    assert json.loads(found["output"]) == {"real": 1}


def test_call_services_at_our_port(cloud: EmbeddedCloud) -> None:
    found = run(cloud, make_machine(cloud, one_state(task(make_function(cloud)))))
    assert found["status"] == "SUCCEEDED"


def test_read_definitions_as_templates_give_them(cloud: EmbeddedCloud) -> None:
    bucket = unique("definitions")
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="m.json", Body=json.dumps(one_state({**PASS, "Result": "${Word}"})))
    location = {"Bucket": bucket, "Key": "m.json"}
    machine = resource(
        "AWS::StepFunctions::StateMachine",
        RoleArn="arn:aws:iam::123456789012:role/any",
        DefinitionS3Location=location,
        DefinitionSubstitutions={"Word": {"Ref": "AWS::Region"}},
    )
    stack = create_stack(cloud, {"Resources": {"M": machine}, "Outputs": {"Arn": {"Value": {"Ref": "M"}}}})
    assert json.loads(run(cloud, stack["Outputs"]["Arn"])["output"]) == "us-east-1"


def test_state_machine_arn_attribute(cloud: EmbeddedCloud) -> None:
    machine = resource(
        "AWS::StepFunctions::StateMachine",
        RoleArn="arn:aws:iam::123456789012:role/any",
        DefinitionString=json.dumps(one_state(PASS)),
    )
    outputs = {"Arn": {"Value": {"Fn::GetAtt": ["M", "Arn"]}}}
    arn = create_stack(cloud, {"Resources": {"M": machine}, "Outputs": outputs})["Outputs"]["Arn"]
    assert ":stateMachine:" in arn


def test_name_executions(cloud: EmbeddedCloud) -> None:
    machine = make_machine(cloud, one_state(PASS))
    first, second = start(cloud, machine), start(cloud, machine)
    assert first != second
    assert {finish(cloud, each)["status"] for each in (first, second)} == {"SUCCEEDED"}


def test_name_lambda_errors_as_aws_does(cloud: EmbeddedCloud) -> None:
    source = (
        "import os, urllib.request as u\n"
        "def handler(event, context):\n"
        "    base = 'http://' + os.environ['AWS_LAMBDA_RUNTIME_API'] + '/2018-06-01/runtime/invocation/'\n"
        "    u.urlopen(u.Request(base + context.aws_request_id + '/error', data=b'{}', method='POST'))\n"
        "    os._exit(0)\n"
    )
    found = run(cloud, make_machine(cloud, one_state(task(make_function(cloud, source)))))
    assert found["error"] == "Lambda.Unknown"


def map_state(function: str, mode: str, **fields: Any) -> dict[str, Any]:
    config = {"Mode": mode} if mode == "INLINE" else {"Mode": mode, "ExecutionType": "STANDARD"}
    processor = {"ProcessorConfig": config, **one_state(task(function, **fields.pop("task", {})))}
    return {"Type": "Map", "ItemsPath": "$.items", "ItemProcessor": processor, "End": True, **fields}


def test_map_passes_on_states_errors(cloud: EmbeddedCloud) -> None:
    state = map_state(make_function(cloud), "INLINE", task={"TimeoutSeconds": 1})
    found = run(cloud, make_machine(cloud, one_state(state)), {"items": [{"sleep_s": 4}]})
    assert (found["status"], found["error"]) == ("FAILED", "States.Timeout")


def test_distributed_map_fails_with_its_items(cloud: EmbeddedCloud) -> None:
    function = make_function(cloud)
    items = {"items": [{"value": 1}, {"fail": "x"}, {"value": 2}]}
    strict = run(cloud, make_machine(cloud, one_state(map_state(function, "DISTRIBUTED"))), items)
    assert (strict["status"], strict["error"]) == ("FAILED", "States.ExceedToleratedFailureThreshold")
    tolerant = one_state(map_state(function, "DISTRIBUTED", ToleratedFailureCount=1))
    assert run(cloud, make_machine(cloud, tolerant), items)["status"] == "SUCCEEDED"


def test_objects_as_json_text_in_sdk_calls(sample: Sample) -> None:
    bucket, key = sample.outputs["BucketName"], unique("object")
    state = {
        "Type": "Task",
        "Resource": "arn:aws:states:::aws-sdk:s3:putObject",
        "Parameters": {"Bucket": bucket, "Key": key, "Body": {"a.$": "$.a"}},
        "End": True,
    }
    assert (
        run(sample.cloud, make_machine(sample.cloud, one_state(state)), {"a": [1, "ü"]})["status"]
        == "SUCCEEDED"
    )
    assert json.loads(objects(sample.cloud, bucket)[key]) == {"a": [1, "ü"]}


def test_quiet_engine(cloud: EmbeddedCloud) -> None:
    machine = make_machine(cloud, one_state(task(make_function(cloud))))
    log = cloud.state_dir / "server.log"
    before = log.stat().st_size
    run(cloud, machine, {"fail": "quietly"})
    assert b"StateTask" not in log.read_bytes()[before:]


def test_stop_really_stops(sample: Sample) -> None:
    cloud, bucket, key = sample.cloud, sample.outputs["BucketName"], unique("after-stop")
    mark = {
        "Type": "Task",
        "Resource": "arn:aws:states:::aws-sdk:s3:putObject",
        "Parameters": {"Bucket": bucket, "Key": key, "Body": {}},
        "End": True,
    }
    work = map_state(make_function(cloud), "INLINE", Catch=[{"ErrorEquals": ["States.ALL"], "Next": "Mark"}])
    del work["End"]
    machine = make_machine(
        cloud, {"StartAt": "Work", "States": {"Work": {**work, "Next": "Mark"}, "Mark": mark}}
    )
    execution = start(cloud, machine, {"items": [{"sleep_s": 2}] * 3})
    time.sleep(0.7)
    client = cloud.client("stepfunctions")
    client.stop_execution(executionArn=execution)
    assert client.describe_execution(executionArn=execution)["status"] == "ABORTED"
    time.sleep(2.5)
    found = client.describe_execution(executionArn=execution)
    assert found["status"] == "ABORTED"
    assert found["stopDate"] >= found["startDate"]
    history = client.get_execution_history(executionArn=execution)["events"]
    assert history[-1]["type"] == "ExecutionAborted"
    assert key not in objects(cloud, bucket)


def test_stop_with_error_and_cause(cloud: EmbeddedCloud) -> None:
    execution = start(cloud, make_machine(cloud, one_state({"Type": "Wait", "Seconds": 30, "End": True})))
    client = cloud.client("stepfunctions")
    client.stop_execution(executionArn=execution, error="Asked", cause="by a test")
    found = client.describe_execution(executionArn=execution)
    assert (found["status"], found["error"], found["cause"]) == ("ABORTED", "Asked", "by a test")


def test_describe_executions_as_json(cloud: EmbeddedCloud) -> None:
    machine = make_machine(cloud, one_state({**PASS, "Parameters": {"at.$": "$$.Execution.StartTime"}}))
    assert json.loads(run(cloud, machine)["output"])["at"].endswith("Z")
    text = run(cloud, make_machine(cloud, one_state({**PASS, "Result": "text"})))
    assert json.loads(text["output"]) == "text"
    slow = {"TimeoutSeconds": 1, **one_state({"Type": "Wait", "Seconds": 9, "End": True})}
    found = run(cloud, make_machine(cloud, slow))
    assert found["status"] == "TIMED_OUT"
    assert found["stopDate"] > found["startDate"]


def rule_to_queue(cloud: EmbeddedCloud, pattern: dict[str, Any]) -> str:
    url, rule, events = make_queue(cloud), unique("rule"), cloud.client("events")
    events.put_rule(Name=rule, EventPattern=json.dumps(pattern))
    events.put_targets(Rule=rule, Targets=[{"Id": "q", "Arn": queue_arn(url)}])
    return url


def test_publish_status_changes(cloud: EmbeddedCloud) -> None:
    good = make_machine(cloud, one_state(PASS))
    bad = make_machine(cloud, one_state({"Type": "Fail", "Error": "E", "Cause": "C"}))
    slow = make_machine(
        cloud, {"TimeoutSeconds": 1, **one_state({"Type": "Wait", "Seconds": 9, "End": True})}
    )
    pattern = {"source": ["aws.states"], "detail": {"stateMachineArn": [good, bad, slow]}}
    url = rule_to_queue(cloud, pattern)
    for machine in (good, bad, slow):
        run(cloud, machine, {"k": 1})
    stopped = start(cloud, slow)
    cloud.client("stepfunctions").stop_execution(executionArn=stopped)
    events: list[dict[str, Any]] = []

    def all_arrived() -> bool:
        events.extend(json.loads(message["Body"]) for message in receive(cloud, url))
        return len({(event["detail"]["executionArn"], event["detail"]["status"]) for event in events}) == 8

    wait_until(all_arrived)
    assert {event["detail-type"] for event in events} == {"Step Functions Execution Status Change"}
    ended = {e["detail"]["status"]: e["detail"] for e in events if e["detail"]["status"] != "RUNNING"}
    assert set(ended) == {"SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED"}
    assert json.loads(ended["SUCCEEDED"]["output"]) == {"k": 1}
    assert json.loads(ended["FAILED"]["input"]) == {"k": 1}
    assert ended["ABORTED"]["executionArn"] == stopped


def test_rules_call_lambda_and_step_functions(sample: Sample) -> None:
    cloud, events = sample.cloud, sample.cloud.client("events")
    name, source = unique("rule"), unique("source")
    events.put_rule(Name=name, EventPattern=json.dumps({"source": [source]}))
    scheduled = unique("schedule")
    events.put_rule(Name=scheduled, ScheduleExpression="rate(1 day)")
    arn = cloud.client("lambda").get_function(FunctionName=sample.outputs["OnEndName"])["Configuration"][
        "FunctionArn"
    ]
    template = '{"name": <key>, "whole": <aws.events.event.json>, "text": "k=<key>"}'
    transformer = {"InputPathsMap": {"key": "$.detail.key"}, "InputTemplate": template}
    events.put_targets(Rule=name, Targets=[{"Id": "f", "Arn": arn, "InputTransformer": transformer}])
    events.put_targets(
        Rule=scheduled, Targets=[{"Id": "f", "Arn": arn, "Input": json.dumps({"name": scheduled})}]
    )
    machine = make_machine(cloud, one_state(PASS))
    target = {
        "Id": "m",
        "Arn": machine,
        "InputPath": "$.detail",
        "RoleArn": "arn:aws:iam::123456789012:role/any",
    }
    events.put_targets(Rule=name, Targets=[target])
    entry = {"Source": source, "DetailType": "T", "Detail": json.dumps({"key": source})}
    assert events.put_events(Entries=[entry])["FailedEntryCount"] == 0
    bucket = sample.outputs["BucketName"]
    event = json.loads(wait_until(lambda: objects(cloud, bucket).get(f"ended/{source}.json")))
    assert event["text"] == f"k={source}"
    assert event["whole"]["detail"] == {"key": source}
    client = cloud.client("stepfunctions")
    (execution,) = wait_until(lambda: client.list_executions(stateMachineArn=machine)["executions"])
    assert json.loads(finish(cloud, execution["executionArn"])["output"]) == {"key": source}
    assert f"ended/{scheduled}.json" not in objects(cloud, bucket)


# CloudFormation


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
    assert "failed to update: [Bad]" in stack["StackStatusReason"]
    assert {each["ParameterKey"]: each["ParameterValue"] for each in stack["Parameters"]} == {"Wait": "5"}
    (output,) = stack["Outputs"]
    found = cloud.client("sqs").get_queue_attributes(
        QueueUrl=output["OutputValue"], AttributeNames=["VisibilityTimeout"]
    )
    assert found["Attributes"]["VisibilityTimeout"] == "5"
    assert (
        execute(cloud, change(cloud, name, "UPDATE", template, Wait="9"))["StackStatus"] == "UPDATE_COMPLETE"
    )


def test_fail_deletions_as_aws_does(cloud: EmbeddedCloud) -> None:
    name, queue = unique("kept"), unique("gone")
    client, s3 = cloud.client("cloudformation"), cloud.client("s3")
    resources = {
        "B": resource("AWS::S3::Bucket", BucketName=name),
        "Q": resource("AWS::SQS::Queue", QueueName=queue),
    }
    outputs = {"Q": {"Value": {"Ref": "Q"}}}
    stack = create_stack(cloud, {"Resources": resources, "Outputs": outputs})["StackName"]
    s3.put_object(Bucket=name, Key="mine", Body=b"data")
    client.delete_stack(StackName=stack)
    found = client.describe_stacks(StackName=stack)["Stacks"][0]
    assert found["StackStatus"] == "DELETE_FAILED"
    assert re.search(r"failed to delete: \[B\].*not empty", found["StackStatusReason"])
    assert not cloud.client("sqs").list_queues(QueueNamePrefix=queue).get("QueueUrls")
    s3.delete_object(Bucket=name, Key="mine")
    client.delete_stack(StackName=stack)
    with pytest.raises(ClientError, match="does not exist"):
        client.describe_stacks(StackName=stack)
    with pytest.raises(ClientError):
        s3.head_bucket(Bucket=name)


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


def test_replace_what_cannot_be_updated(cloud: EmbeddedCloud) -> None:
    name, client = unique("replaced"), cloud.client("cloudformation")
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
    execute(cloud, change(cloud, name, "UPDATE", template, Days="14", Both="no"))
    assert days() == {"Kept": 14}
    execute(cloud, change(cloud, name, "UPDATE", template, Days="14", Both="yes"))
    assert days() == {"Kept": 14, "Conditional": 0}
    client.delete_stack(StackName=name)
    assert days() == {}


def test_retain_except_on_create(cloud: EmbeddedCloud) -> None:
    name = unique("retained")
    bucket = {**resource("AWS::S3::Bucket", BucketName=name), "DeletionPolicy": "RetainExceptOnCreate"}
    stack = create_stack(cloud, {"Resources": {"B": bucket}})
    cloud.client("cloudformation").delete_stack(StackName=stack["StackName"])
    cloud.client("s3").head_bucket(Bucket=name)


def test_templates_at_our_own_address(cloud: EmbeddedCloud) -> None:
    bucket, name, s3 = unique("templates"), unique("own"), cloud.client("s3")
    s3.create_bucket(Bucket=bucket)
    s3.put_object(
        Bucket=bucket, Key="a/t.json", Body=json.dumps({"Resources": {"Q": resource("AWS::SQS::Queue")}})
    )
    client = cloud.client("cloudformation")
    client.create_stack(StackName=name, TemplateURL=f"{cloud.endpoint_url}/{bucket}/a/t.json?versionId=null")
    assert client.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"] == "CREATE_COMPLETE"


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


def change(cloud: EmbeddedCloud, stack: str, kind: str, template: Any, **parameters: str) -> dict[str, Any]:
    """Make a change set with a new name and describe it."""
    client = cloud.client("cloudformation")
    made = client.create_change_set(
        StackName=stack,
        ChangeSetName=unique("c"),
        ChangeSetType=kind,
        TemplateBody=template if isinstance(template, str) else json.dumps(template),
        Parameters=[
            {"ParameterKey": name, "ParameterValue": value}
            if value != "previous"
            else {"ParameterKey": name, "UsePreviousValue": True}
            for name, value in parameters.items()
        ],
    )
    description: dict[str, Any] = client.describe_change_set(ChangeSetName=made["Id"])
    return description


def execute(cloud: EmbeddedCloud, change_set: dict[str, Any]) -> dict[str, Any]:
    client = cloud.client("cloudformation")
    client.execute_change_set(ChangeSetName=change_set["ChangeSetId"])
    stack: dict[str, Any] = client.describe_stacks(StackName=change_set["StackId"])["Stacks"][0]
    return stack


def changed(change_set: dict[str, Any]) -> set[tuple[str, str]]:
    found = [each["ResourceChange"] for each in change_set["Changes"]]
    return {(each["Action"], each["LogicalResourceId"]) for each in found}


def queues_of(cloud: EmbeddedCloud, stack: str) -> set[str]:
    urls = cloud.client("sqs").list_queues(QueueNamePrefix=f"{stack}-").get("QueueUrls", [])
    return {url.rsplit("-", 1)[1] for url in urls}


def test_transform_templates(cloud: EmbeddedCloud) -> None:
    client, name = cloud.client("cloudformation"), unique("loop")
    parameters = [{"ParameterKey": "Wait", "ParameterValue": "5"}]
    client.create_stack(StackName=name, TemplateBody=json.dumps(LOOP), Parameters=parameters)
    assert queues_of(cloud, name) == {"a", "b"}
    kinds = {
        each["ResourceType"] for each in client.describe_stack_resources(StackName=name)["StackResources"]
    }
    assert "AWS::DynamoDB::Table" in kinds
    with pytest.raises(ClientError, match="No updates are to be performed"):
        client.update_stack(StackName=name, TemplateBody=json.dumps(LOOP), Parameters=parameters)
    parameters.append({"ParameterKey": "Names", "ParameterValue": "a,c"})
    client.update_stack(StackName=name, UsePreviousTemplate=True, Parameters=parameters)
    assert queues_of(cloud, name) == {"a", "c"}


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


def function_resource(**properties: Any) -> dict[str, Any]:
    return resource(
        "AWS::Lambda::Function",
        **{
            "Code": {"ZipFile": "def handler(event, context): return context.invoked_function_arn\n"},
            "Handler": "index.handler",
            "Role": "arn:aws:iam::123456789012:role/any",
            "Runtime": RUNTIME,
            **properties,
        },
    )


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


# Lambda


def test_run_functions_as_processes(cloud: EmbeddedCloud) -> None:
    name = make_function(cloud)
    arn = f"arn:aws:lambda:us-east-1:123456789012:function:{name}"
    sns = cloud.client("sns")
    topic = sns.create_topic(Name=unique("t"))["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="lambda", Endpoint=arn)
    sns.publish(TopicArn=topic, Message="to a function")
    wait_until(lambda: list(cloud.log_dir.glob(f"{name}-*.log")))
    assert wait_until(lambda: invoke(cloud, name)[0]["invocations"] >= 2)


def test_refuse_runtimes_that_do_not_run_here(cloud: EmbeddedCloud) -> None:
    with pytest.raises(ClientError, match=r"no Python 3\.99 runs on this machine"):
        make_function(cloud, Runtime="python3.99")


def test_keep_logging_config(cloud: EmbeddedCloud) -> None:
    config = {"LogFormat": "JSON", "LogGroup": "/elsewhere"}
    name = make_function(cloud, LoggingConfig=config)
    client = cloud.client("lambda")
    assert client.get_function_configuration(FunctionName=name)["LoggingConfig"] == config
    invoke(cloud, name)
    wait_until(lambda: logged(cloud, "/elsewhere"))


def test_keep_all_function_properties(cloud: EmbeddedCloud) -> None:
    function = function_resource(
        Architectures=["arm64"],
        MemorySize="192",
        Tags=[{"Key": "a", "Value": "b"}],
        TracingConfig={"Mode": "Active"},
    )
    outputs = {"Name": {"Value": {"Ref": "F"}}}
    name = create_stack(cloud, {"Resources": {"F": function}, "Outputs": outputs})["Outputs"]["Name"]
    found = cloud.client("lambda").get_function(FunctionName=name)
    configuration = found["Configuration"]
    assert configuration["Architectures"] == ["arm64"]
    assert configuration["TracingConfig"] == {"Mode": "Active"}
    assert configuration["MemorySize"] == 192
    assert found["Tags"]["a"] == "b"


def test_layer_versions_keep_their_name(sample: Sample) -> None:
    found = sample.cloud.client("lambda").get_function_configuration(
        FunctionName=sample.outputs["WorkerName"]
    )
    (layer,) = found["Layers"]
    assert layer["Arn"].split(":")[-3:-1] == ["layer", "Layer"]


def test_layer_versions_go_with_their_stack(cloud: EmbeddedCloud) -> None:
    bucket, name, client = unique("layers"), unique("layer"), cloud.client("lambda")
    cloud.client("s3").create_bucket(Bucket=bucket)
    cloud.client("s3").put_object(Bucket=bucket, Key="layer.zip", Body=archive())
    layer = resource(
        "AWS::Lambda::LayerVersion", LayerName=name, Content={"S3Bucket": bucket, "S3Key": "layer.zip"}
    )
    stack = create_stack(cloud, {"Resources": {"L": layer}})
    assert name in [each["LayerName"] for each in client.list_layers()["Layers"]]
    cloud.client("cloudformation").delete_stack(StackName=stack["StackName"])
    assert name not in [each.get("LayerName") for each in client.list_layers()["Layers"]]


def test_stop_environments_of_deleted_functions(cloud: EmbeddedCloud) -> None:
    name = make_function(cloud)
    pid = invoke(cloud, name)[0]["pid"]
    assert is_running(pid)
    cloud.client("lambda").delete_function(FunctionName=name)
    wait_until(lambda: not is_running(pid))


# SQS


def test_forget_models(cloud: EmbeddedCloud) -> None:
    """Messages that were received and deleted leave nothing behind in the server."""
    sqs, url = cloud.client("sqs"), make_queue(cloud)
    server = psutil.Process(cloud.pid)

    def pass_through(count: int) -> None:
        body = "x" * 250_000
        for _ in range(count):
            sqs.send_message_batch(
                QueueUrl=url, Entries=[{"Id": str(n), "MessageBody": body} for n in range(4)]
            )
            for message in receive(cloud, url):
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])

    pass_through(20)
    before = server.memory_info().rss
    pass_through(60)
    assert server.memory_info().rss - before < 30_000_000


def test_constant_time_queues(cloud: EmbeddedCloud) -> None:
    sqs, url = cloud.client("sqs"), make_queue(cloud)
    attributes = {"b": {"DataType": "Binary", "BinaryValue": b"\x00\xff"}}
    entries = [{"Id": str(n), "MessageBody": str(n), "MessageAttributes": attributes} for n in range(10)]
    for _ in range(150):
        sqs.send_message_batch(QueueUrl=url, Entries=entries)
    bodies = []
    began = time.monotonic()
    for _ in range(50):
        messages = receive(cloud, url)
        bodies += [message["Body"] for message in messages]
        handles = [{"Id": str(n), "ReceiptHandle": m["ReceiptHandle"]} for n, m in enumerate(messages)]
        assert not sqs.delete_message_batch(QueueUrl=url, Entries=handles).get("Failed")
    assert time.monotonic() - began < 4
    assert bodies == [str(n) for n in range(10)] * 50
    counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert counts["ApproximateNumberOfMessages"] == "1000"


def test_refuse_batches_that_are_too_long(cloud: EmbeddedCloud) -> None:
    sqs, url = cloud.client("sqs"), make_queue(cloud)
    binary = {"b": {"DataType": "Binary", "BinaryValue": b"x" * 400_000}}
    entries = [{"Id": i, "MessageBody": "y" * 100_000, "MessageAttributes": binary} for i in "abc"]
    assert len(sqs.send_message_batch(QueueUrl=url, Entries=entries[:2])["Successful"]) == 2
    with pytest.raises(ClientError, match="BatchRequestTooLong"):
        sqs.send_message_batch(QueueUrl=url, Entries=entries)
    with pytest.raises(ClientError, match="shorter than"):
        sqs.send_message(QueueUrl=url, MessageBody="ü" * 600_000)
    assert len(receive(cloud, url)) == 2


def test_a_message_wakes_a_long_poll(cloud: EmbeddedCloud) -> None:
    sqs, url = cloud.client("sqs"), make_queue(cloud)
    delays = []
    with ThreadPoolExecutor(1) as pool:
        for _ in range(5):
            polling = pool.submit(lambda: (receive(cloud, url, WaitTimeSeconds=10), time.monotonic()))
            time.sleep(0.4)
            sent = time.monotonic()
            sqs.send_message(QueueUrl=url, MessageBody="wake")
            messages, received = polling.result()
            delays.append(received - sent)
            sqs.delete_message(QueueUrl=url, ReceiptHandle=messages[0]["ReceiptHandle"])
    assert min(delays) < 0.02


def test_visibility_delay_and_dead_letters(cloud: EmbeddedCloud) -> None:
    sqs, dead = cloud.client("sqs"), make_queue(cloud)
    policy = json.dumps({"deadLetterTargetArn": queue_arn(dead), "maxReceiveCount": 2})
    url = make_queue(cloud, VisibilityTimeout="1", RedrivePolicy=policy)
    sqs.send_message(QueueUrl=url, MessageBody="late", DelaySeconds=1)
    assert receive(cloud, url, WaitTimeSeconds=0) == []
    (first,) = receive(cloud, url, WaitTimeSeconds=3)
    assert receive(cloud, url, WaitTimeSeconds=0) == []
    sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=first["ReceiptHandle"], VisibilityTimeout=0)
    (again,) = receive(cloud, url, WaitTimeSeconds=0, MessageSystemAttributeNames=["All"])
    assert again["Attributes"]["ApproximateReceiveCount"] == "2"
    assert receive(cloud, url, WaitTimeSeconds=2) == []
    (letter,) = receive(cloud, dead)
    assert letter["MessageId"] == first["MessageId"]
    with pytest.raises(ClientError, match="ReceiptHandleIsInvalid"):
        sqs.delete_message(QueueUrl=url, ReceiptHandle="nothing")


def test_a_receiver_that_hung_up_swallows_nothing(cloud: EmbeddedCloud) -> None:
    source = (
        "import boto3\n"
        "def handler(event, context):\n"
        "    boto3.client('sqs').receive_message(QueueUrl=event['url'], WaitTimeSeconds=20)\n"
    )
    name, url = make_function(cloud, source, Timeout=2), make_queue(cloud)
    assert invoke(cloud, name, {"url": url})[0]["errorType"] == "Sandbox.Timedout"
    cloud.client("sqs").send_message(QueueUrl=url, MessageBody="for the living")
    assert [message["Body"] for message in receive(cloud, url, WaitTimeSeconds=3)] == ["for the living"]


# SNS


def test_deliver_to_every_subscription(cloud: EmbeddedCloud) -> None:
    sns = cloud.client("sns")
    topic = sns.create_topic(Name=unique("t"))["TopicArn"]
    for number in range(105):
        policy = json.dumps({"to": [str(number)]})
        subscribed(cloud, topic, RawMessageDelivery="true", FilterPolicy=policy)
    last = subscribed(cloud, topic, RawMessageDelivery="true", FilterPolicy=json.dumps({"to": ["last", "x"]}))
    every = subscribed(cloud, topic, RawMessageDelivery="true")
    by_prefix = subscribed(
        cloud, topic, RawMessageDelivery="true", FilterPolicy=json.dumps({"to": [{"prefix": "la"}]})
    )
    to = {"to": {"DataType": "String", "StringValue": "last"}}
    entries = [{"Id": str(n), "Message": str(n), "MessageAttributes": to} for n in range(3)]
    assert len(sns.publish_batch(TopicArn=topic, PublishBatchRequestEntries=entries)["Successful"]) == 3
    for url in (last, every, by_prefix):
        assert sorted(message["Body"] for message in receive(cloud, url)) == ["0", "1", "2"]
    added = subscribed(cloud, topic, RawMessageDelivery="true", FilterPolicy=json.dumps({"to": ["last"]}))
    sns.publish(TopicArn=topic, Message="later", MessageAttributes=to)
    assert [message["Body"] for message in receive(cloud, added)] == ["later"]


def test_binary_attributes_in_raw_delivery(cloud: EmbeddedCloud) -> None:
    sns = cloud.client("sns")
    topic = sns.create_topic(Name=unique("t"))["TopicArn"]
    url = subscribed(cloud, topic, RawMessageDelivery="true")
    data = bytes(range(256))
    sns.publish(
        TopicArn=topic, Message="m", MessageAttributes={"b": {"DataType": "Binary", "BinaryValue": data}}
    )
    (message,) = receive(cloud, url)
    assert message["MessageAttributes"]["b"]["BinaryValue"] == data


def test_raw_delivery_can_be_off(cloud: EmbeddedCloud) -> None:
    queue, topic = {"Fn::GetAtt": ["Q", "Arn"]}, {"Ref": "T"}
    resources = {
        "T": resource("AWS::SNS::Topic"),
        "Q": resource("AWS::SQS::Queue"),
        "S": resource(
            "AWS::SNS::Subscription", TopicArn=topic, Endpoint=queue, Protocol="sqs", RawMessageDelivery=False
        ),
    }
    outputs = {"T": {"Value": topic}, "Q": {"Value": {"Ref": "Q"}}}
    found = create_stack(cloud, {"Resources": resources, "Outputs": outputs})["Outputs"]
    cloud.client("sns").publish(TopicArn=found["T"], Message="wrapped")
    (message,) = receive(cloud, found["Q"])
    assert json.loads(message["Body"])["Message"] == "wrapped"


def test_refuse_messages_that_are_too_long(cloud: EmbeddedCloud) -> None:
    sns = cloud.client("sns")
    topic = sns.create_topic(Name=unique("t"))["TopicArn"]
    binary = {"b": {"DataType": "Binary", "BinaryValue": b"x" * 200_000}}
    sns.publish(TopicArn=topic, Message="y" * 62_000, MessageAttributes=binary)
    with pytest.raises(ClientError, match="Message too long"):
        sns.publish(TopicArn=topic, Message="y" * 63_000, MessageAttributes=binary)
    half = {"Message": "y" * 131_072}
    sns.publish_batch(TopicArn=topic, PublishBatchRequestEntries=[{"Id": i, **half} for i in "ab"])
    entries = [{"Id": i, **half} for i in "ab"] + [{"Id": "c", "Message": "z"}]
    with pytest.raises(ClientError, match="BatchRequestTooLong"):
        sns.publish_batch(TopicArn=topic, PublishBatchRequestEntries=entries)


# S3


def test_conditional_writes_are_atomic(sample: Sample) -> None:
    cloud, bucket = sample.cloud, sample.outputs["BucketName"]
    clients = [cloud.client("s3")] * 4
    body = bytes(20 << 20)  # so large that writing it lets another request in between
    refused: list[Any] = []

    def put(client: Any, key: str, **condition: str) -> str | None:
        request = {"Bucket": bucket, "Key": key, "Body": body + uuid.uuid4().bytes, **condition}
        try:
            return str(client.put_object(**request)["ETag"])
        except ClientError as error:
            refused.append(error.response)
            return None

    with ThreadPoolExecutor(len(clients)) as pool:
        for _ in range(3):
            key = unique("lease")
            created = list(pool.map(lambda client, key=key: put(client, key, IfNoneMatch="*"), clients))
            (etag,) = [each for each in created if each]
            replaced = list(
                pool.map(lambda client, key=key, etag=etag: put(client, key, IfMatch=etag), clients)
            )
            assert len([each for each in replaced if each]) == 1
    assert {answer["Error"]["Code"] for answer in refused} == {"PreconditionFailed"}
    assert {answer["ResponseMetadata"]["HTTPStatusCode"] for answer in refused} == {412}


def test_ranged_reads_read_the_range(sample: Sample) -> None:
    s3, bucket = sample.cloud.client("s3"), sample.outputs["BucketName"]
    data = bytes(range(256)) * 400_000
    s3.put_object(Bucket=bucket, Key="large", Body=data)
    server = psutil.Process(sample.cloud.pid)

    def cpu_s() -> float:
        times = server.cpu_times()
        return float(times.user + times.system)

    before = cpu_s()
    for start_at in range(0, 40_000_000, 1_000_000):
        part = s3.get_object(Bucket=bucket, Key="large", Range=f"bytes={start_at}-{start_at + 9}")
        assert part["Body"].read() == data[start_at : start_at + 10]
        assert part["ContentRange"] == f"bytes {start_at}-{start_at + 9}/{len(data)}"
    assert cpu_s() - before < 1.0
    assert s3.get_object(Bucket=bucket, Key="large", Range="bytes=-5")["Body"].read() == data[-5:]
    tail = f"bytes={len(data) - 3}-"
    assert s3.get_object(Bucket=bucket, Key="large", Range=tail)["Body"].read() == data[-3:]
    with pytest.raises(ClientError, match="InvalidRange"):
        s3.get_object(Bucket=bucket, Key="large", Range=f"bytes={len(data)}-")
    s3.delete_object(Bucket=bucket, Key="large")


# IAM


def test_roles_keep_their_policies_as_json(cloud: EmbeddedCloud) -> None:
    iam, cloudformation = cloud.client("iam"), cloud.client("cloudformation")

    def template(action: str) -> dict[str, Any]:
        statement = {"Effect": "Allow", "Action": action, "Resource": "*"}
        document = {"Version": "2012-10-17", "Statement": [statement]}
        role = resource(
            "AWS::IAM::Role",
            AssumeRolePolicyDocument={"Version": "2012-10-17", "Statement": []},
            Policies=[{"PolicyName": "p", "PolicyDocument": document}],
        )
        return {"Resources": {"Role": role}, "Outputs": {"Name": {"Value": {"Ref": "Role"}}}}

    def allowed() -> str:
        document = iam.get_role_policy(RoleName=stack["Outputs"]["Name"], PolicyName="p")["PolicyDocument"]
        return str(document["Statement"][0]["Action"])

    stack = create_stack(cloud, template("s3:GetObject"))
    assert allowed() == "s3:GetObject"
    cloudformation.update_stack(
        StackName=stack["StackName"],
        TemplateBody=json.dumps(template("s3:PutObject")),
        Capabilities=["CAPABILITY_IAM"],
    )
    wait_until(lambda: allowed() == "s3:PutObject")


def test_refuse_more_memory_than_the_account_may_have(cloud: EmbeddedCloud) -> None:
    client = cloud.client("lambda")
    with pytest.raises(client.exceptions.InvalidParameterValueException, match="less than or equal to 10240"):
        make_function(cloud, MemorySize=10_241)
    make_function(cloud, MemorySize=10_240)


def test_permissions_have_a_physical_id(cloud: EmbeddedCloud) -> None:
    permission = resource(
        "AWS::Lambda::Permission",
        FunctionName=make_function(cloud),
        Action="lambda:InvokeFunction",
        Principal="events.amazonaws.com",
    )
    stack = create_stack(cloud, {"Resources": {"MayCall": permission}})
    name = {"StackName": stack["StackName"]}
    (told,) = cloud.client("cloudformation").describe_stack_resources(**name)["StackResources"]
    assert told["PhysicalResourceId"].startswith(f"{stack['StackName']}-MayCall-")
