"""What `sam deploy` does, against an embedded cloud."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from workflows.embedded_cloud.errors import EmbeddedCloudError
from workflows.embedded_cloud.launcher import client_for

ARTIFACT_BUCKET = "embedded-cloud-artifacts"
_POLL_S = 0.03
_WAIT_S = 3600.0


def deploy(
    endpoint_url: str, template: Path, stack_name: str, parameters: Mapping[str, str], *, cache_dir: Path
) -> dict[str, str]:
    """Build, package and deploy a SAM template; update the stack if it exists.

    Parameters
    ----------
    endpoint_url
        The embedded cloud.
    template
        Template file, for AWS as it is.
    stack_name
        Name of the stack.
    parameters
        Values of template parameters.
    cache_dir
        Keeps builds and archives, by their content.

    Returns
    -------
    dict
        The stack's outputs.

    Raises
    ------
    EmbeddedCloudError
        With CloudFormation's reason, if the stack cannot be made.
    """
    from workflows.embedded_cloud.sam_template import package_template  # 0.3 s that the server need not spend

    packaged = package_template(template.resolve(), parameters, ARTIFACT_BUCKET, cache_dir)
    s3 = client_for(endpoint_url, "s3", request_checksum_calculation="when_required")
    _upload_artifacts(s3, packaged.artifacts)
    template_key = f"templates/{stack_name}.template"
    s3.put_object(Bucket=ARTIFACT_BUCKET, Key=template_key, Body=packaged.body.encode())
    cloudformation = client_for(endpoint_url, "cloudformation")
    request = {
        "StackName": stack_name,
        "TemplateURL": f"{endpoint_url}/{ARTIFACT_BUCKET}/{template_key}",
        "Parameters": [
            {"ParameterKey": name, "ParameterValue": value} for name, value in packaged.parameters.items()
        ],
        "Capabilities": ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
    }
    existing = _settled(cloudformation, stack_name)
    if existing is not None and existing["StackStatus"] == "ROLLBACK_COMPLETE":
        delete(endpoint_url, stack_name)
        existing = None
    try:
        if existing is None:
            cloudformation.create_stack(**request)
        else:
            cloudformation.update_stack(**request)
    except ClientError as error:
        if "No updates are to be performed" not in str(error):
            message = error.response["Error"]["Message"]
            raise EmbeddedCloudError(f"Stack {stack_name} was refused: {message}") from error
    stack = _wait(cloudformation, stack_name)
    return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}


def delete(endpoint_url: str, stack_name: str) -> None:
    """Delete a stack; one that does not exist is no error.

    Raises
    ------
    EmbeddedCloudError
        If a resource of the stack cannot be deleted.
    """
    cloudformation = client_for(endpoint_url, "cloudformation")
    try:
        cloudformation.delete_stack(StackName=stack_name)
    except ClientError as error:
        raise EmbeddedCloudError(error.response["Error"]["Message"]) from error
    stack = _settled(cloudformation, stack_name)
    if stack is not None:
        raise EmbeddedCloudError(f"Stack {stack_name} cannot be deleted: {stack.get('StackStatusReason')}")


def _upload_artifacts(s3: Any, artifacts: Mapping[str, Path]) -> None:
    try:
        s3.create_bucket(Bucket=ARTIFACT_BUCKET)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
            raise
    for key, path in artifacts.items():
        try:
            s3.head_object(Bucket=ARTIFACT_BUCKET, Key=key)
        except ClientError:
            with path.open("rb") as body:
                s3.put_object(Bucket=ARTIFACT_BUCKET, Key=key, Body=body)


def _describe(cloudformation: Any, stack_name: str) -> dict[str, Any] | None:
    try:
        stack: dict[str, Any] = cloudformation.describe_stacks(StackName=stack_name)["Stacks"][0]
    except ClientError:
        return None
    return stack


def _settled(cloudformation: Any, stack_name: str) -> dict[str, Any] | None:
    """Describe the stack when nothing is under way on it; None if there is none."""
    deadline = time.monotonic() + _WAIT_S
    while time.monotonic() < deadline:
        stack = _describe(cloudformation, stack_name)
        if stack is None or not stack["StackStatus"].endswith("IN_PROGRESS"):
            return stack
        if stack["StackStatus"] == "REVIEW_IN_PROGRESS":
            return stack
        time.sleep(_POLL_S)
    raise EmbeddedCloudError(f"Stack {stack_name} was not ready within {_WAIT_S:.0f} s")


def _wait(cloudformation: Any, stack_name: str) -> dict[str, Any]:
    stack = _settled(cloudformation, stack_name)
    if stack is None:
        raise EmbeddedCloudError(f"Stack {stack_name} is gone")
    status = stack["StackStatus"]
    if status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        raise EmbeddedCloudError(
            f"Stack {stack_name}: {status}: {_reason(cloudformation, stack_name, stack)}"
        )
    return stack


def _reason(cloudformation: Any, stack_name: str, stack: Mapping[str, Any]) -> str:
    events = cloudformation.describe_stack_events(StackName=stack_name)["StackEvents"]
    failures = [
        f"{event['LogicalResourceId']} ({event['ResourceType']}): {event.get('ResourceStatusReason')}"
        for event in events
        if event["ResourceStatus"] in ("CREATE_FAILED", "UPDATE_FAILED", "DELETE_FAILED")
        and event["ResourceType"] != "AWS::CloudFormation::Stack"
    ]
    return failures[0] if failures else str(stack.get("StackStatusReason", "no reason given"))
