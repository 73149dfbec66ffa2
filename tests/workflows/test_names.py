"""Names that keep stacks of one account apart."""

from __future__ import annotations

import re
from typing import Any

import pytest

from workflows.lint_template import transformed

NAMES = {
    "AlarmName",
    "BucketName",
    "DashboardName",
    "FunctionName",
    "LayerName",
    "LogGroupName",
    "Name",
    "PolicyName",
    "QueueName",
    "RoleName",
    "StateMachineName",
    "TopicName",
}


@pytest.fixture(scope="module")
def resources() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = transformed(parameters={"SlotGroups": "0"})["Resources"]
    return found


def test_every_name_that_is_given_begins_with_the_prefix(resources: dict[str, dict[str, Any]]) -> None:
    """Two stacks in one account and region share none."""
    # Names inside a role, or of another resource.
    others = {"AWS::IAM::Policy", "AWS::Lambda::EventInvokeConfig", "AWS::Lambda::Permission"}
    given = [
        (logical, resource["Properties"][name])
        for logical, resource in resources.items()
        if resource["Type"] not in others
        for name in NAMES & set(resource["Properties"])
    ]

    known = {"StateMachine", "SlotQueue00", "PlanFunction", "Schedule", "CostAlarm", "RunsDashboard"}
    assert known <= {logical for logical, _ in given}
    for logical, name in given:
        text, names = name["Fn::Sub"]
        assert re.match(r"(/aws/[\w/]+/)?\$\{Prefix\}-", text), logical
        # SAM has put the parameter's value into some.
        condition, _, otherwise = names["Prefix"]["Fn::If"]
        assert (condition, otherwise) == ("HasNamePrefix", {"Ref": "AWS::StackName"}), logical


def test_a_dashboard_has_a_name_of_its_own_in_every_region(resources: dict[str, dict[str, Any]]) -> None:
    """An account's dashboards are the same in all regions."""
    text, _ = resources["RunsDashboard"]["Properties"]["DashboardName"]["Fn::Sub"]

    assert text == "${Prefix}-${AWS::Region}"
