"""Parameters that do not go together are refused before anything is made."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.cloud.helpers import create_stack
from workflows.embedded_cloud import EmbeddedCloud
from workflows.embedded_cloud.errors import EmbeddedCloudError
from workflows.embedded_cloud.template_rules import broken_rules

PARAMETERS = {
    "Stage": {"Type": "String", "Default": "test"},
    "Sizes": {"Type": "CommaDelimitedList", "Default": "1,2"},
    "Count": {"Type": "Number", "Default": 3},
}
VALUES = {"Stage": "test", "Sizes": "1,2", "Count": "3"}


def rule(assertion: Any, **condition: Any) -> dict[str, Any]:
    rules = {"Given": {"Assertions": [{"Assert": assertion, "AssertDescription": "not so"}]} | condition}
    return {"Parameters": PARAMETERS, "Rules": rules, "Resources": {"Queue": {"Type": "AWS::SQS::Queue"}}}


@pytest.mark.parametrize(
    ("assertion", "holds"),
    [
        ({"Fn::Equals": [{"Ref": "Stage"}, "test"]}, True),
        ({"Fn::Equals": [{"Ref": "Count"}, 3]}, True),
        ({"Fn::Not": [{"Fn::Equals": [{"Ref": "Stage"}, "test"]}]}, False),
        ({"Fn::Contains": [["live", "test"], {"Ref": "Stage"}]}, True),
        ({"Fn::Contains": [["live"], {"Ref": "Stage"}]}, False),
        ({"Fn::EachMemberIn": [{"Ref": "Sizes"}, ["1", "2", "4"]]}, True),
        ({"Fn::EachMemberIn": [{"Ref": "Sizes"}, ["1", "4"]]}, False),
        ({"Fn::EachMemberEquals": [{"Ref": "Sizes"}, "1"]}, False),
        ({"Fn::EachMemberEquals": [{"Fn::RefAll": "Number"}, "3"]}, True),
        ({"Fn::And": [True, {"Fn::Or": [False, True]}]}, True),
        ({"Fn::And": [True, {"Fn::Or": [False, False]}]}, False),
    ],
    ids=str,
)
def test_functions_of_rules(assertion: Any, holds: bool) -> None:
    assert list(broken_rules(rule(assertion), VALUES)) == ([] if holds else [("Given", "not so")])


def test_a_rule_whose_condition_does_not_hold_asserts_nothing() -> None:
    condition = {"Fn::Equals": [{"Ref": "Stage"}, "live"]}
    assert list(broken_rules(rule(False, RuleCondition=condition), VALUES)) == []


@pytest.mark.parametrize("wrong", [{"Fn::Join": ["", ["a"]]}, {"Ref": "Nothing"}], ids=str)
def test_what_rules_can_not_use_is_refused(wrong: Any) -> None:
    with pytest.raises(EmbeddedCloudError, match="Template error"):
        list(broken_rules(rule(wrong), VALUES))


def test_a_stack_is_refused_by_its_rules_and_nothing_is_left(cloud: EmbeddedCloud) -> None:
    template = rule({"Fn::Equals": [{"Ref": "Stage"}, "live"]})
    formation = cloud.client("cloudformation")
    with pytest.raises(ClientError, match=r"ValidationError.*not so"):
        formation.create_stack(StackName="ruled", TemplateBody=json.dumps(template))
    assert "ruled" not in [each["StackName"] for each in formation.describe_stacks()["Stacks"]]

    name = create_stack(cloud, template, Stage="live")["StackName"]
    with pytest.raises(ClientError, match=r"ValidationError.*not so"):
        formation.update_stack(StackName=name, TemplateBody=json.dumps(template))
    formation.create_change_set(
        StackName=name, ChangeSetName="broken", ChangeSetType="UPDATE", TemplateBody=json.dumps(template)
    )
    broken = formation.describe_change_set(StackName=name, ChangeSetName="broken")
    assert broken["Status"] == "FAILED"
    assert "not so" in broken["StatusReason"]
