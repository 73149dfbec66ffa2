"""Lines of log in CloudWatch's embedded metric format become metrics."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.cloud.helpers import invoke, make_function, wait_until
from workflows.embedded_cloud import EmbeddedCloud
from workflows.embedded_cloud.embedded_metrics import data_of


def document(**changes: Any) -> dict[str, Any]:
    directive = {
        "Namespace": "Shop",
        "Dimensions": [["service"], ["service", "kind"]],
        "Metrics": [{"Name": "Sales", "Unit": "Count"}, {"Name": "Took"}],
    }
    told = {
        "_aws": {"Timestamp": 1_700_000_000_123, "CloudWatchMetrics": [directive]},
        "service": "till",
        "kind": "card",
        "Sales": [1, 2],
        "Took": 0.5,
    }
    return told | changes


def test_each_metric_is_there_under_each_set_of_dimensions() -> None:
    found = list(data_of(json.dumps(document())))

    assert {(datum.name, datum.values, datum.unit, len(datum.dimensions)) for datum in found} == {
        ("Sales", (1.0, 2.0), "Count", 1),
        ("Sales", (1.0, 2.0), "Count", 2),
        ("Took", (0.5,), "None", 1),
        ("Took", (0.5,), "None", 2),
    }
    assert found[1].dimensions == (("service", "till"), ("kind", "card"))
    assert found[0].at == datetime(2023, 11, 14, 22, 13, 20, 123_000)


def test_what_lambda_writes_before_a_document_does_not_matter() -> None:
    assert len(list(data_of(f"2026-11-24T10:00:00Z\tid\tINFO\t{json.dumps(document())}"))) == 4


@pytest.mark.parametrize(
    "line",
    [
        "",
        "no JSON",
        '["_aws"]',
        '{"_aws"',
        '{"_aws": 3}',
        '{"_aws": {"CloudWatchMetrics": []}}',
        json.dumps(document(service=7, kind=7)),
        json.dumps(document(service="")),
        json.dumps({"message": "_aws"}),
    ],
)
def test_what_is_no_valid_document_is_no_metric(line: str) -> None:
    assert list(data_of(line)) == []


@pytest.mark.parametrize("value", ["many", None, True, [1] * 101, ["1"]])
def test_a_metric_without_a_number_is_left_out_alone(value: Any) -> None:
    assert {datum.name for datum in data_of(json.dumps(document(Sales=value)))} == {"Took"}


@pytest.mark.parametrize("log_format", ["Text", "JSON"])
def test_what_a_function_prints_is_in_cloudwatch(cloud: EmbeddedCloud, log_format: str) -> None:
    name = make_function(cloud, LoggingConfig={"LogFormat": log_format})
    told = document(service=name)
    told["_aws"]["Timestamp"] = int(time.time() * 1000)
    invoke(cloud, name, {"print": json.dumps(told)})
    cloudwatch = cloud.client("cloudwatch")
    now = datetime.now(UTC)

    def points() -> list[Any]:
        found: list[Any] = cloudwatch.get_metric_statistics(
            Namespace="Shop",
            MetricName="Sales",
            Dimensions=[{"Name": "service", "Value": name}, {"Name": "kind", "Value": "card"}],
            StartTime=now - timedelta(minutes=5),
            EndTime=now + timedelta(minutes=5),
            Period=3600,
            Statistics=["Sum", "SampleCount"],
        )["Datapoints"]
        return found

    wait_until(lambda: bool(points()))
    (point,) = points()
    assert (point["Sum"], point["SampleCount"], point["Unit"]) == (3.0, 2.0, "Count")
