"""Cloud Control tells the URL of a function that has one, and says where there is none."""

from __future__ import annotations

import json

import pytest

from tests.cloud.helpers import make_function
from workflows.embedded_cloud import EmbeddedCloud


def test_function_urls(cloud: EmbeddedCloud) -> None:
    control, name = cloud.client("cloudcontrol"), make_function(cloud)
    request = {"TypeName": "AWS::Lambda::Url", "Identifier": name}
    with pytest.raises(control.exceptions.ResourceNotFoundException, match=name):
        control.get_resource(**request)
    url = cloud.client("lambda").create_function_url_config(FunctionName=name, AuthType="AWS_IAM")[
        "FunctionUrl"
    ]
    found = control.get_resource(**request)["ResourceDescription"]
    assert json.loads(found["Properties"])["FunctionUrl"] == url
    with pytest.raises(control.exceptions.ResourceNotFoundException):
        control.get_resource(TypeName="AWS::Lambda::Url", Identifier="none")


def test_other_types_are_refused(cloud: EmbeddedCloud) -> None:
    control = cloud.client("cloudcontrol")
    with pytest.raises(control.exceptions.UnsupportedActionException, match="AWS::S3::Bucket"):
        control.get_resource(TypeName="AWS::S3::Bucket", Identifier="any")
