"""Metrics, dashboard and alarms of a stack that has them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lamella.client import RunHandle, Stack
from lamella.events import FinishEvent
from tests.integration import batches
from tests.integration.runs import begin, outcome
from tests.integration.stacks import stack_of
from workflows.embedded_cloud import EmbeddedCloud

NAME = "watched"


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return batches.write_npz(tmp_path_factory.mktemp("batch") / "blobs.npz", batches.blobs(400, 16))


@pytest.fixture(scope="module")
def watched(cloud: EmbeddedCloud) -> Iterator[Stack]:
    with stack_of(cloud, NAME, Dashboard="true", Alarms="true", CostAlarmUsd="2.5") as stack:
        yield stack


def total(cloud: EmbeddedCloud, metric: str, strategy: str) -> float | None:
    """The sum of a metric over the last minutes; None where nothing was sent."""
    now = datetime.now(UTC)
    points = cloud.client("cloudwatch").get_metric_statistics(
        Namespace="Lamella",
        MetricName=metric,
        Dimensions=[{"Name": "strategy", "Value": strategy}, {"Name": "service", "Value": NAME}],
        StartTime=now - timedelta(minutes=30),
        EndTime=now + timedelta(minutes=5),
        Period=86400,
        Statistics=["Sum"],
    )["Datapoints"]
    return sum(point["Sum"] for point in points) if points else None


def until_sent(cloud: EmbeddedCloud, metric: str, strategy: str) -> float:
    """Lines of log are copied ten times a second."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        found = total(cloud, metric, strategy)
        if found is not None:
            return found
        time.sleep(0.1)
    raise AssertionError(f"no {metric} of {strategy}")


def finish_again(cloud: EmbeddedCloud, run: RunHandle) -> dict[str, Any]:
    event = FinishEvent(execution=run.execution_arn, run=run.run_id, status="SUCCEEDED")
    answer = cloud.client("lambda").invoke(
        FunctionName=f"{NAME}-Finish", Payload=event.model_dump_json().encode()
    )
    found: dict[str, Any] = json.loads(answer["Payload"].read())
    return found


def test_a_run_is_counted_once_however_often_it_is_finished(
    cloud: EmbeddedCloud, watched: Stack, small_model: Path, batch: Path
) -> None:
    run = begin(watched, small_model, batch, strategy="samples", workers=2)
    answer = json.loads(outcome(run)["output"])
    assert until_sent(cloud, "Runs", "samples") == 1
    assert finish_again(cloud, run)["run_id"] == run.run_id
    other = begin(watched, small_model, batch, strategy="serial")
    outcome(other)

    assert until_sent(cloud, "Runs", "serial") == 1
    assert total(cloud, "Runs", "samples") == 1
    assert total(cloud, "FailedRuns", "samples") == 0
    assert total(cloud, "Retries", "samples") == 0
    assert total(cloud, "RunSeconds", "samples") == pytest.approx(answer["seconds"]["total"])
    assert total(cloud, "RunCostUsd", "samples") == pytest.approx(answer["cost_usd"]["total"])


def test_a_refused_run_is_a_failed_one(
    cloud: EmbeddedCloud, watched: Stack, small_model: Path, batch: Path
) -> None:
    ended = outcome(begin(watched, small_model, batch, strategy="rows", workers=3))

    assert ended["status"] == "FAILED"
    assert until_sent(cloud, "FailedRuns", "unplanned") == 1
    assert total(cloud, "RunCostUsd", "unplanned") is None


def test_a_stack_that_nobody_watches_sends_nothing(
    cloud: EmbeddedCloud, stack: Stack, small_model: Path, batch: Path
) -> None:
    outcome(begin(stack, small_model, batch, strategy="serial"))
    metrics = cloud.client("cloudwatch").list_metrics(Namespace="Lamella")["Metrics"]
    services = {dimension["Value"] for metric in metrics for dimension in metric["Dimensions"]}

    assert stack.name not in services


def test_dashboard_and_alarms_are_there(cloud: EmbeddedCloud, watched: Stack) -> None:
    cloudwatch = cloud.client("cloudwatch")
    body = cloudwatch.get_dashboard(DashboardName=f"{NAME}-us-east-1")["DashboardBody"]
    alarms = {alarm["AlarmName"]: alarm for alarm in cloudwatch.describe_alarms()["MetricAlarms"]}

    assert watched.state_machine_arn in body
    assert f'service=\\"{NAME}\\"' in body
    failed, cost = alarms[f"{NAME}-failed-runs"], alarms[f"{NAME}-cost-a-day"]
    assert failed["Dimensions"] == [{"Name": "StateMachineArn", "Value": watched.state_machine_arn}]
    assert cost["Threshold"] == 2.5
    assert {alarm["TreatMissingData"] for alarm in (failed, cost)} == {"notBreaching"}
