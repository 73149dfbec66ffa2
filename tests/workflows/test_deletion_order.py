"""In which order CloudFormation deletes the stack: the reverse of what depends on what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from workflows.lint_template import transformed

# What starts a run or a function by itself.
STARTERS = {"AWS::Events::Rule", "AWS::Lambda::Permission", "AWS::Scheduler::Schedule"}
STARTED_BY_ITSELF = {"IntakeFunction", "SweepFunction"}
# Only looks on, or tells.
WATCHERS = {
    "AWS::CloudWatch::Alarm",
    "AWS::CloudWatch::Dashboard",
    "AWS::SNS::Subscription",
    "AWS::SNS::Topic",
}
TELLERS = {"NotificationRule"}
# Takes effect, and stops to, while no run needs it: each denies what is not TLS, or lets what is named read.
POLICIES = {
    "AWS::IAM::Policy",
    "AWS::S3::BucketPolicy",
    "AWS::SNS::TopicPolicy",
    "AWS::SQS::QueuePolicy",
}


@pytest.fixture(scope="module")
def resources() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = transformed(parameters={"SlotGroups": "0,1"})["Resources"]
    return found


def named(node: Any) -> Iterator[str]:
    """Every logical id that a value refers to."""
    if isinstance(node, list):
        for item in node:
            yield from named(item)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key == "Ref":
                yield value
            elif key == "Fn::GetAtt":
                yield value[0] if isinstance(value, list) else value.split(".")[0]
            elif key == "Fn::Sub":
                text = value if isinstance(value, str) else value[0]
                yield from (part.split("}")[0].split(".")[0] for part in text.split("${")[1:])
                yield from named(value[1:] if isinstance(value, list) else [])
            else:
                yield from named(value)


def needs(resources: dict[str, dict[str, Any]], name: str) -> set[str]:
    """What a resource depends on, directly or through others, and so is deleted after it."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        resource = resources[waiting.pop()]
        on = resource.get("DependsOn", [])
        direct = {*named(resource["Properties"]), *([on] if isinstance(on, str) else on)}
        new = (direct & set(resources)) - found
        found |= new
        waiting += new
    return found


def test_whatever_starts_something_is_deleted_before_cleanup(resources: dict[str, dict[str, Any]]) -> None:
    starters = {
        name for name, resource in resources.items() if resource["Type"] in STARTERS and name not in TELLERS
    }

    assert {"StoppedRule", "Schedule", "SweepTimer", "UploadRule"} <= starters
    starters |= STARTED_BY_ITSELF
    assert [name for name in starters if "Cleanup" not in needs(resources, name)] == []


def test_whatever_a_run_needs_is_deleted_after_cleanup(resources: dict[str, dict[str, Any]]) -> None:
    after = needs(resources, "Cleanup")
    before = {name for name in resources if name != "Cleanup"} - after

    assert {"Bucket", "StateMachine", "SlotQueue00", "SlotQueue17", "CleanupRole", "CleanupLogGroup"} <= after
    of_these = set(STARTED_BY_ITSELF)
    for function in STARTED_BY_ITSELF:
        of_these |= {name for name in before if function in needs(resources, name)}
        of_these |= needs(resources, function) & before
    roles = {"SweepScheduleRole", "ScheduleRole"}
    assert roles <= of_these
    assert {resources[name]["Type"] for name in before - of_these} <= STARTERS | WATCHERS | POLICIES
