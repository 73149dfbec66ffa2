"""Further stacks of the template beside the one that most tests use, and what is left of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from lamella.client import Stack
from lamella.errors import CloudError
from workflows.cli.cloud import deploy_stack
from workflows.embedded_cloud import EmbeddedCloud
from workflows.embedded_cloud.deploy import delete

SLOT_GROUPS = "0"


def put_stack(cloud: EmbeddedCloud, name: str, **parameters: str) -> Stack:
    """Deploy the template under a name, or update the stack that has it."""
    return deploy_stack(cloud, name, parameters)


@contextmanager
def stack_of(cloud: EmbeddedCloud, name: str, **parameters: str) -> Iterator[Stack]:
    """A stack of few slots; whatever the test did with it, it and its bucket are gone afterwards."""
    stack = put_stack(cloud, name, **{"SlotGroups": SLOT_GROUPS} | parameters)
    try:
        yield stack
    finally:
        with contextlib.suppress(CloudError):
            delete(cloud.endpoint_url, name)
        remove_bucket(cloud, stack.bucket)


def remove_bucket(cloud: EmbeddedCloud, bucket: str) -> None:
    """One that may be gone."""
    s3 = cloud.client("s3")
    with contextlib.suppress(s3.exceptions.ClientError):
        for item in s3.list_objects_v2(Bucket=bucket).get("Contents", []):
            s3.delete_object(Bucket=bucket, Key=item["Key"])
        s3.delete_bucket(Bucket=bucket)


def physical_ids(cloud: EmbeddedCloud, name: str) -> dict[str, str]:
    """Of a stack's resources, by logical id."""
    pages = cloud.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=name)
    return {
        item["LogicalResourceId"]: item["PhysicalResourceId"]
        for page in pages
        for item in page["StackResourceSummaries"]
    }


def left_of(cloud: EmbeddedCloud, prefix: str) -> set[str]:
    """Names of everything whose name begins with a prefix, and ids of processes of such functions."""
    client = cloud.client
    found = {
        *(bucket["Name"] for bucket in client("s3").list_buckets()["Buckets"]),
        *(url.rpartition("/")[2] for url in client("sqs").list_queues(MaxResults=1000).get("QueueUrls", [])),
        *(topic["TopicArn"].rpartition(":")[2] for topic in client("sns").list_topics()["Topics"]),
        *(role["RoleName"] for role in client("iam").list_roles()["Roles"]),
        *(item["PolicyName"] for item in client("iam").list_policies(Scope="Local")["Policies"]),
        *(function["FunctionName"] for function in client("lambda").list_functions()["Functions"]),
        *(layer["LayerName"] for layer in client("lambda").list_layers()["Layers"]),
        *(machine["name"] for machine in client("stepfunctions").list_state_machines()["stateMachines"]),
        *(rule["Name"] for rule in client("events").list_rules()["Rules"]),
        *(item["DashboardName"] for item in client("cloudwatch").list_dashboards()["DashboardEntries"]),
        *(alarm["AlarmName"] for alarm in client("cloudwatch").describe_alarms()["MetricAlarms"]),
        *(
            group["logGroupName"].rpartition("/")[2]
            for group in client("logs").describe_log_groups()["logGroups"]
        ),
        *processes(cloud),
    }
    return {name for name in found if name.startswith(prefix)}


def processes(cloud: EmbeddedCloud) -> set[str]:
    """Function and process id of every execution environment."""
    found = set()
    for process in psutil.Process(cloud.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if function := process.environ().get("AWS_LAMBDA_FUNCTION_NAME"):
                found.add(f"{function} (process {process.pid})")
    return found
