"""What the tests of the embedded cloud share."""

from __future__ import annotations

import io
import json
import time
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from workflows.embedded_cloud import EmbeddedCloud
from workflows.embedded_cloud.interpreters import running_version

SAMPLE = Path(__file__).parent / "sample"
INLINE = Path(__file__).parent / "inline"
RUNTIME = f"python{running_version()}"
ROLE = "arn:aws:iam::123456789012:role/any"


def unique(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def resource(kind: str, **properties: Any) -> dict[str, Any]:
    """A resource of a template."""
    return {"Type": kind, "Properties": properties}


def archive(source: str | None = None) -> bytes:
    """A deployment package with app.py: the sample's, or the one given."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as opened:
        opened.writestr("app.py", source or (SAMPLE / "function" / "app.py").read_text())
    return data.getvalue()


def make_function(cloud: EmbeddedCloud, source: str | None = None, **settings: Any) -> str:
    name = f"f-{uuid.uuid4().hex[:8]}"
    defaults = {"Runtime": RUNTIME, "Handler": "app.handler", "Timeout": 30, "MemorySize": 256, "Role": ROLE}
    client = cloud.client("lambda")
    client.create_function(FunctionName=name, Code={"ZipFile": archive(source)}, **{**defaults, **settings})
    return name


def invoke(cloud: EmbeddedCloud, name: str, event: Any = None, **options: Any) -> tuple[Any, dict[str, Any]]:
    """Return the decoded payload and the whole answer."""
    client = cloud.client("lambda")
    answer = client.invoke(FunctionName=name, Payload=json.dumps(event or {}).encode(), **options)
    body = answer["Payload"].read()
    return (json.loads(body) if body else None), answer


def wait_until(condition: Callable[[], Any], timeout_s: float = 10.0) -> Any:
    """Return the condition's value as soon as it is true."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {timeout_s} s: {condition}")


def make_machine(cloud: EmbeddedCloud, definition: dict[str, Any]) -> str:
    client = cloud.client("stepfunctions")
    name = f"m-{uuid.uuid4().hex[:8]}"
    made = client.create_state_machine(name=name, definition=json.dumps(definition), roleArn=ROLE)
    return str(made["stateMachineArn"])


def start(cloud: EmbeddedCloud, machine: str, event: Any = None) -> str:
    client = cloud.client("stepfunctions")
    return str(client.start_execution(stateMachineArn=machine, input=json.dumps(event or {}))["executionArn"])


def finish(cloud: EmbeddedCloud, execution: str, timeout_s: float = 20.0) -> dict[str, Any]:
    """Wait for an execution to end and describe it."""
    client = cloud.client("stepfunctions")

    def ended() -> Any:
        found = client.describe_execution(executionArn=execution)
        return found if found["status"] != "RUNNING" else None

    description: dict[str, Any] = wait_until(ended, timeout_s)
    return description


def run(cloud: EmbeddedCloud, machine: str, event: Any = None) -> dict[str, Any]:
    return finish(cloud, start(cloud, machine, event))


def task(function: str, **fields: Any) -> dict[str, Any]:
    """A state that calls a function with the state's input."""
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke",
        "Parameters": {"FunctionName": function, "Payload.$": "$"},
        "OutputPath": "$.Payload",
        "End": True,
        **fields,
    }


def one_state(state: dict[str, Any]) -> dict[str, Any]:
    return {"StartAt": "Only", "States": {"Only": state}}


def settled(cloud: EmbeddedCloud, stack: str) -> dict[str, Any]:
    """Describe a stack as soon as nothing is under way on it; an id finds it when it is deleted too."""
    client = cloud.client("cloudformation")
    description: dict[str, Any] = {}

    def ended() -> bool:
        description.update(client.describe_stacks(StackName=stack)["Stacks"][0])
        return not description["StackStatus"].endswith("_IN_PROGRESS")

    wait_until(ended, 30.0)
    return description


def delete_stack(cloud: EmbeddedCloud, stack: str, **options: Any) -> dict[str, Any]:
    """Delete a stack and describe what is left of it."""
    client = cloud.client("cloudformation")
    stack_id = client.describe_stacks(StackName=stack)["Stacks"][0]["StackId"]
    client.delete_stack(StackName=stack, **options)
    return settled(cloud, stack_id)


def update_stack(
    cloud: EmbeddedCloud, stack: str, template: dict[str, Any], **options: Any
) -> dict[str, Any]:
    """Update a stack and describe it."""
    cloud.client("cloudformation").update_stack(
        StackName=stack, TemplateBody=json.dumps(template), Capabilities=["CAPABILITY_IAM"], **options
    )
    return settled(cloud, stack)


def create_stack(cloud: EmbeddedCloud, template: dict[str, Any], **parameters: str) -> dict[str, Any]:
    """Create a stack of plain CloudFormation and describe it, outputs as a dictionary."""
    client = cloud.client("cloudformation")
    name = f"s-{uuid.uuid4().hex[:8]}"
    given = [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()]
    client.create_stack(
        StackName=name, TemplateBody=json.dumps(template), Parameters=given, Capabilities=["CAPABILITY_IAM"]
    )
    stack = settled(cloud, name)
    stack["Outputs"] = {each["OutputKey"]: each["OutputValue"] for each in stack.get("Outputs", [])}
    return stack


def objects(cloud: EmbeddedCloud, bucket: str) -> dict[str, bytes]:
    client = cloud.client("s3")
    keys = [each["Key"] for each in client.list_objects_v2(Bucket=bucket).get("Contents", [])]
    return {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


def is_running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def logged(cloud: EmbeddedCloud, group: str) -> list[str]:
    """Lines of a log group; none if it does not exist yet."""
    client = cloud.client("logs")
    try:
        found = client.filter_log_events(logGroupName=group)["events"]
    except client.exceptions.ResourceNotFoundException:
        return []
    return [event["message"] for event in found]


def change(
    cloud: EmbeddedCloud,
    stack: str,
    kind: str,
    template: Any,
    *,
    on_failure: str = "ROLLBACK",
    **parameters: str,
) -> dict[str, Any]:
    """Make a change set with a new name and describe it."""
    client = cloud.client("cloudformation")
    made = client.create_change_set(
        StackName=stack,
        ChangeSetName=unique("c"),
        ChangeSetType=kind,
        OnStackFailure=on_failure,
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
    return settled(cloud, change_set["StackId"])


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
