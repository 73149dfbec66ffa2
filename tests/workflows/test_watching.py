"""Dashboard and alarms: of the shape that CloudWatch documents, and only of metrics that there are."""

from __future__ import annotations

import json
import re
from typing import Any, get_args

import pytest

from lamella.plan import StrategyName
from lamella.run_metrics import METRICS, STRATEGY
from workflows.lint_template import transformed

NAMESPACE = "Lamella"
# docs.aws.amazon.com/step-functions/latest/dg/procedure-cw-metrics.html,
# docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
OF_AWS = {
    "AWS/States": {
        "ExecutionsStarted",
        "ExecutionsSucceeded",
        "ExecutionsFailed",
        "ExecutionsAborted",
        "ExecutionsTimedOut",
        "ExecutionTime",
    },
    "AWS/Lambda": {"Invocations", "Errors", "Throttles", "Duration", "ConcurrentExecutions"},
}
SEARCH = re.compile(
    r"SEARCH\('\{(?P<namespace>\w+),(?P<dimensions>[\w,]+)\} service=\"(?P<service>[^\"]+)\" "
    r"MetricName=\"(?P<metric>\w+)\"', '(?P<statistic>Sum|Average)', (?P<period>\d+)\)"
)
GRID_COLUMNS = 24


@pytest.fixture(scope="module")
def resources() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = transformed(parameters={"SlotGroups": "0"})["Resources"]
    return found


@pytest.fixture(scope="module")
def widgets(resources: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """As CloudFormation fills them in."""
    text, names = resources["RunsDashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    assert set(names) == {"Prefix"}
    filled = re.sub(r"\$\{(?!!)([\w:]+)\}", lambda match: f"<{match[1]}>", text).replace("${!", "${")
    found: list[dict[str, Any]] = json.loads(filled)["widgets"]
    return found


def searched(widgets: list[dict[str, Any]]) -> list[dict[str, str]]:
    expressions = [
        metric[0]["expression"]
        for widget in widgets
        for metric in widget["properties"]["metrics"]
        if isinstance(metric[0], dict)
    ]
    found = [SEARCH.fullmatch(expression) for expression in expressions]
    assert all(found), expressions
    return [match.groupdict() for match in found if match]


def test_widgets_are_metric_widgets_that_lie_in_the_grid_and_not_on_each_other(
    widgets: list[dict[str, Any]],
) -> None:
    taken: set[tuple[int, int]] = set()
    for widget in widgets:
        assert set(widget) == {"type", "x", "y", "width", "height", "properties"}
        assert widget["type"] == "metric"
        assert widget["x"] + widget["width"] <= GRID_COLUMNS
        cells = {
            (x, y)
            for x in range(widget["x"], widget["x"] + widget["width"])
            for y in range(widget["y"], widget["y"] + widget["height"])
        }
        assert not cells & taken
        taken |= cells
        properties = widget["properties"]
        assert properties["region"] == "<AWS::Region>"
        assert properties["view"] == "timeSeries"
        assert properties["title"]
        assert set(properties) <= {"title", "region", "view", "stacked", "stat", "period", "metrics"}


def test_the_dashboard_shows_every_metric_of_runs_by_strategy(widgets: list[dict[str, Any]]) -> None:
    found = searched(widgets)

    assert sorted(search["metric"] for search in found) == sorted(METRICS)
    for search in found:
        assert search["namespace"] == NAMESPACE
        # CloudWatch wants a metric's dimensions all, and in alphabetic order.
        assert search["dimensions"] == "service,strategy"
        assert search["service"] == "<Prefix>"
    labels = {
        metric[0]["label"]
        for widget in widgets
        for metric in widget["properties"]["metrics"][:1]
        if isinstance(metric[0], dict)
    }
    assert labels == {f"${{PROP('Dim.{STRATEGY}')}}"}


def test_its_other_metrics_are_aws_s_own_of_the_stack_s_resources(
    widgets: list[dict[str, Any]], resources: dict[str, dict[str, Any]]
) -> None:
    dimensions = {"AWS/States": "StateMachineArn", "AWS/Lambda": "FunctionName"}
    of_functions = set()
    for widget in widgets:
        for metric in widget["properties"]["metrics"]:
            if isinstance(metric[0], dict):
                continue
            namespace, name, dimension, value = metric
            assert name in OF_AWS[namespace]
            assert dimension == dimensions[namespace]
            assert value.strip("<>") in resources
            if namespace == "AWS/Lambda":
                of_functions.add((name, value.strip("<>")))

    states = ("Plan", "WorkerSmall", "WorkerMedium", "WorkerLarge", "Collect", "Finish")
    assert of_functions == {
        (name, f"{state}Function") for name in ("Errors", "Throttles") for state in states
    }


def test_the_alarm_on_failures_is_of_step_functions_own_metric(resources: dict[str, dict[str, Any]]) -> None:
    alarm = resources["FailedRunsAlarm"]["Properties"]

    assert alarm["MetricName"] in OF_AWS[alarm["Namespace"]]
    assert alarm["Dimensions"] == [{"Name": "StateMachineArn", "Value": {"Ref": "StateMachine"}}]
    assert (alarm["Threshold"], alarm["ComparisonOperator"]) == (1, "GreaterThanOrEqualToThreshold")


def test_the_alarm_on_cost_adds_up_a_day_of_every_strategy(resources: dict[str, dict[str, Any]]) -> None:
    alarm = resources["CostAlarm"]["Properties"]
    (total,) = [metric for metric in alarm["Metrics"] if metric["ReturnData"]]
    summed = [metric["MetricStat"] for metric in alarm["Metrics"] if not metric["ReturnData"]]

    assert total["Expression"] == "SUM(FILL(METRICS(), 0))"
    assert alarm["Threshold"] == {"Ref": "CostAlarmUsd"}
    strategies = set()
    for each in summed:
        assert (each["Stat"], each["Period"]) == ("Sum", 86400)
        assert (each["Metric"]["Namespace"], each["Metric"]["MetricName"]) == (NAMESPACE, "RunCostUsd")
        dimensions = {item["Name"]: item["Value"] for item in each["Metric"]["Dimensions"]}
        assert set(dimensions) == {"service", STRATEGY}
        strategies.add(dimensions[STRATEGY])
    assert strategies >= set(get_args(StrategyName))
    # CloudWatch takes no more than ten metrics in an alarm's expression.
    assert len(summed) <= 10


@pytest.mark.parametrize("name", ["FailedRunsAlarm", "CostAlarm"])
def test_alarms_are_quiet_while_nothing_runs_and_go_to_the_topics_that_there_are(
    resources: dict[str, dict[str, Any]], name: str
) -> None:
    alarm = resources[name]["Properties"]

    assert alarm["TreatMissingData"] == "notBreaching"
    assert alarm["AlarmActions"] == [
        {"Fn::If": ["Notifies", {"Ref": "NotificationTopic"}, {"Ref": "AWS::NoValue"}]},
        {"Fn::If": ["HasAlarmTopic", {"Ref": "AlarmTopicArn"}, {"Ref": "AWS::NoValue"}]},
    ]


def test_finish_counts_runs_only_for_who_looks(resources: dict[str, dict[str, Any]]) -> None:
    of_functions = {
        name: resource["Properties"]["Environment"]["Variables"].get("LAMELLA_METRICS")
        for name, resource in resources.items()
        if resource["Type"] == "AWS::Lambda::Function"
    }

    assert of_functions.pop("FinishFunction") == {"Fn::If": ["CountsRuns", "true", "false"]}
    assert set(of_functions.values()) == {None}
