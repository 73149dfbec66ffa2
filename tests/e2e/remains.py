"""What a cloud holds, and what runs in it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil

from workflows.embedded_cloud import EmbeddedCloud

SAM_CLI_KEEPS = "aws-sam-cli-managed"
"""The stack and bucket that SAM CLI makes for its uploads, once per account."""


def remains(cloud: EmbeddedCloud) -> dict[str, list[str]]:
    """Names of everything that the cloud holds, by kind, but what SAM CLI keeps for itself."""
    found = {
        kind: sorted(name for name in names() if SAM_CLI_KEEPS not in name) for kind, names in _kinds(cloud)
    }
    return {kind: names for kind, names in found.items() if names}


def named(found: dict[str, list[str]], part: str) -> dict[str, list[str]]:
    """Those with ``part`` in their names."""
    chosen = {kind: [name for name in names if part in name] for kind, names in found.items()}
    return {kind: names for kind, names in chosen.items() if names}


def lambda_processes(cloud: EmbeddedCloud) -> set[int]:
    """Processes of functions: those that run AWS's runtime client under the cloud."""
    found = set()
    for child in psutil.Process(cloud.pid).children(recursive=True):
        try:
            if any(argument.endswith("bootstrap.py") for argument in child.cmdline()):
                found.add(child.pid)
        except psutil.NoSuchProcess:
            continue
    return found


def wait_for_no_processes(cloud: EmbeddedCloud, limit_s: float = 10.0) -> set[int]:
    """Wait until no function runs; those that do after all that time."""
    until = time.monotonic() + limit_s
    while lambda_processes(cloud) and time.monotonic() < until:
        time.sleep(0.1)
    return lambda_processes(cloud)


def _kinds(cloud: EmbeddedCloud) -> Iterator[tuple[str, Callable[[], list[str]]]]:
    # service, operation, its arguments, where the answer has the list, and what in each is the name
    listed: dict[str, tuple[str, str, dict[str, Any], str, str | None]] = {
        "alarms": ("cloudwatch", "describe_alarms", {}, "MetricAlarms", "AlarmName"),
        "buckets": ("s3", "list_buckets", {}, "Buckets", "Name"),
        "dashboards": ("cloudwatch", "list_dashboards", {}, "DashboardEntries", "DashboardName"),
        "event sources": ("lambda", "list_event_source_mappings", {}, "EventSourceMappings", "UUID"),
        "functions": ("lambda", "list_functions", {}, "Functions", "FunctionName"),
        "instance profiles": ("iam", "list_instance_profiles", {}, "InstanceProfiles", "InstanceProfileName"),
        "layers": ("lambda", "list_layers", {}, "Layers", "LayerName"),
        "log groups": ("logs", "describe_log_groups", {}, "logGroups", "logGroupName"),
        "machines": ("stepfunctions", "list_state_machines", {}, "stateMachines", "name"),
        "policies": ("iam", "list_policies", {"Scope": "Local"}, "Policies", "PolicyName"),
        "queues": ("sqs", "list_queues", {}, "QueueUrls", None),
        "roles": ("iam", "list_roles", {}, "Roles", "RoleName"),
        "rules": ("events", "list_rules", {}, "Rules", "Name"),
        "schedule groups": ("scheduler", "list_schedule_groups", {}, "ScheduleGroups", "Name"),
        "schedules": ("scheduler", "list_schedules", {}, "Schedules", "Name"),
        "security groups": ("ec2", "describe_security_groups", {}, "SecurityGroups", "GroupName"),
        "stacks": ("cloudformation", "describe_stacks", {}, "Stacks", "StackName"),
        "subscriptions": ("sns", "list_subscriptions", {}, "Subscriptions", "SubscriptionArn"),
        "topics": ("sns", "list_topics", {}, "Topics", "TopicArn"),
    }
    # there from the first: the account's own
    given = {"default"}

    def names(
        service: str, operation: str, arguments: dict[str, Any], key: str, name: str | None
    ) -> list[str]:
        answer = getattr(cloud.client(service), operation)(**arguments)
        found = [each if name is None else each[name] for each in answer.get(key, [])]
        return [each for each in found if each not in given]

    for kind, way in listed.items():
        yield kind, lambda way=way: names(*way)
