"""Functions in a VPC, where the user gives one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from workflows.lint_template import transformed


@pytest.fixture(scope="module")
def resources() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = transformed(parameters={"SlotGroups": "0"})["Resources"]
    return found


def of_type(resources: dict[str, dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {name: item["Properties"] for name, item in resources.items() if item["Type"] == kind}


def test_functions_are_attached_to_subnets_only_where_there_are_some(
    resources: dict[str, dict[str, Any]],
) -> None:
    for function in of_type(resources, "AWS::Lambda::Function").values():
        condition, attached, otherwise = function["VpcConfig"]["Fn::If"]
        assert (condition, otherwise) == ("InVpc", {"Ref": "AWS::NoValue"})
        assert set(attached) == {"SubnetIds", "SecurityGroupIds"}
    for name, role in of_type(resources, "AWS::IAM::Role").items():
        is_lambda_s = "lambda.amazonaws.com" in json.dumps(role["AssumeRolePolicyDocument"])
        assert ("ManagedPolicyArns" in role) == is_lambda_s, name
