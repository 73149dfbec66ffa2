"""Alarms and dashboards of templates. They are kept and described; no metric is watched."""

from __future__ import annotations

from typing import Any

from moto.cloudwatch.models import (
    Dashboard,
    Dimension,
    Metric,
    MetricDataQuery,
    MetricStat,
    cloudwatch_backends,
)

from workflows.embedded_cloud.patches.cloudformation_resources import ResourceModel, define
from workflows.embedded_cloud.patches.context import CloudContext
from workflows.embedded_cloud.stacks.failures import ResourceFailed

_STATE = ("state_value", "state_reason", "state_reason_data", "state_updated_timestamp")


def cloudwatch_alarm(_context: CloudContext) -> None:
    """AWS::CloudWatch::Alarm, of one metric or of an expression over several."""

    class AlarmResource(ResourceModel):
        resource_type = "AWS::CloudWatch::Alarm"
        name_property = "AlarmName"

        @classmethod
        def create_from_cloudformation_json(
            cls,
            resource_name: str,
            cloudformation_json: Any,
            account_id: str,
            region_name: str,
            /,
            **_kwargs: Any,
        ) -> ResourceModel:
            backend = cloudwatch_backends[account_id][region_name]
            alarm = backend.put_metric_alarm(**alarm_of(resource_name, cloudformation_json["Properties"]))
            return cls(resource_name, {"Arn": alarm.alarm_arn})

        @classmethod
        def update_from_cloudformation_json(
            cls,
            original_resource: Any,
            _name: str,
            cloudformation_json: Any,
            account_id: str,
            region_name: str,
            /,
        ) -> ResourceModel:
            name = original_resource.physical_resource_id
            backend = cloudwatch_backends[account_id][region_name]
            before = backend.alarms.get(name)
            if before is not None:
                backend.tagger.delete_all_tags_for_resource(before.alarm_arn)
            made = cls.create_from_cloudformation_json(name, cloudformation_json, account_id, region_name)
            for attribute in _STATE if before is not None else ():
                setattr(backend.alarms[name], attribute, getattr(before, attribute))
            return made

        @classmethod
        def delete_from_cloudformation_json(
            cls, resource_name: str, _json: Any, account_id: str, region_name: str, /
        ) -> None:
            cloudwatch_backends[account_id][region_name].delete_alarms([resource_name])

    define(AlarmResource)


def alarm_of(name: str, properties: dict[str, Any]) -> dict[str, Any]:
    """Return what moto makes an alarm of.

    Raises
    ------
    ResourceFailed
        If there is nothing that it could watch, or two things.
    """
    if bool(properties.get("Metrics")) == bool(properties.get("MetricName")):
        raise ResourceFailed("An alarm needs either Metrics or MetricName")
    return {
        "name": name,
        "namespace": properties.get("Namespace"),
        "metric_name": properties.get("MetricName"),
        "metric_data_queries": [_query(each) for each in properties.get("Metrics", [])] or None,
        "comparison_operator": properties["ComparisonOperator"],
        "evaluation_periods": int(properties["EvaluationPeriods"]),
        "datapoints_to_alarm": _whole(properties.get("DatapointsToAlarm")),
        "period": _whole(properties.get("Period")),
        "threshold": float(properties["Threshold"]) if "Threshold" in properties else None,
        "statistic": properties.get("Statistic"),
        "extended_statistic": properties.get("ExtendedStatistic"),
        "description": properties.get("AlarmDescription"),
        "dimensions": properties.get("Dimensions", []),
        "alarm_actions": list(properties.get("AlarmActions", [])),
        "ok_actions": list(properties.get("OKActions", [])),
        "insufficient_data_actions": list(properties.get("InsufficientDataActions", [])),
        "unit": properties.get("Unit"),
        "actions_enabled": str(properties.get("ActionsEnabled", True)).lower() == "true",
        "treat_missing_data": properties.get("TreatMissingData"),
        "evaluate_low_sample_count_percentile": properties.get("EvaluateLowSampleCountPercentile"),
        "threshold_metric_id": properties.get("ThresholdMetricId"),
        "tags": properties.get("Tags"),
    }


def _query(given: dict[str, Any]) -> MetricDataQuery:
    stat, metric = given.get("MetricStat"), (given.get("MetricStat") or {}).get("Metric", {})
    dimensions = [Dimension(each["Name"], each["Value"]) for each in metric.get("Dimensions", [])]
    return MetricDataQuery(
        query_id=given["Id"],
        label=given.get("Label"),
        period=_whole(given.get("Period")),
        return_data=str(given.get("ReturnData", True)).lower() == "true",
        expression=given.get("Expression"),
        metric_stat=stat
        and MetricStat(
            metric=Metric(metric["MetricName"], metric["Namespace"], dimensions),
            period=_whole(stat["Period"]),
            stat=stat["Stat"],
            unit=stat.get("Unit"),
        ),
    )


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)


def dashboards_keep_their_name(_context: CloudContext) -> None:
    """A dashboard is named after its stack, if at all, and keeps that name; moto makes up another one."""

    def create(
        _cls: Any,
        /,
        resource_name: str,
        cloudformation_json: Any,
        account_id: str,
        region_name: str,
        **_kwargs: Any,
    ) -> Any:
        body = cloudformation_json["Properties"]["DashboardBody"]
        return cloudwatch_backends[account_id][region_name].put_dashboard(resource_name, body)

    def update(
        _cls: Any, original_resource: Any, _name: str, cloudformation_json: Any, account_id: str, region: str
    ) -> Any:
        body = cloudformation_json["Properties"]["DashboardBody"]
        return cloudwatch_backends[account_id][region].put_dashboard(original_resource.name, body)

    Dashboard.cloudformation_name_type = staticmethod(lambda: "DashboardName")
    Dashboard.create_from_cloudformation_json = classmethod(create)
    Dashboard.update_from_cloudformation_json = classmethod(update)


PATCHES = (cloudwatch_alarm, dashboards_keep_their_name)
