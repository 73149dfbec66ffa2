"""Schedules that a stack has: moto's CloudFormation knows none."""

from __future__ import annotations

from typing import Any

from moto.scheduler.models import EventBridgeSchedulerBackend, scheduler_backends

from workflows.embedded_cloud.patches.cloudformation_resources import ResourceModel, Wanted, define
from workflows.embedded_cloud.patches.context import CloudContext


def scheduler_schedule(_context: CloudContext) -> None:
    """AWS::Scheduler::Schedule; one that changes keeps its timetable unless that is what changes."""

    class ScheduleResource(ResourceModel):
        resource_type = "AWS::Scheduler::Schedule"
        name_property = "Name"

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
            wanted = Wanted(resource_name, cloudformation_json["Properties"], account_id, region_name)
            schedule = _backend(wanted).create_schedule(**_request(wanted))
            return cls(schedule.name, {"Arn": schedule.arn})

        @classmethod
        def update_from_cloudformation_json(
            cls,
            original_resource: Any,
            new_resource_name: str,
            cloudformation_json: Any,
            account_id: str,
            region_name: str,
            /,
        ) -> ResourceModel:
            wanted = Wanted(new_resource_name, cloudformation_json["Properties"], account_id, region_name)
            group = wanted.properties.get("GroupName") or "default"
            arn = str(original_resource.properties["Arn"])
            if arn.endswith(f":schedule/{group}/{new_resource_name}"):
                schedule = _backend(wanted).update_schedule(**_request(wanted))
                return cls(schedule.name, {"Arn": schedule.arn})
            old_group, old_name = arn.split("/")[1:]
            _backend(wanted).delete_schedule(old_group, old_name)
            return cls.create_from_cloudformation_json(
                new_resource_name, cloudformation_json, account_id, region_name
            )

        @classmethod
        def remove(cls, physical_id: str, wanted: Wanted) -> None:
            group = wanted.properties.get("GroupName")
            schedules = _backend(wanted).get_schedule_group(group).schedules
            if physical_id in schedules:  # one that deletes itself is gone already
                _backend(wanted).delete_schedule(group, physical_id)

    define(ScheduleResource)


def scheduler_schedule_group(_context: CloudContext) -> None:
    """AWS::Scheduler::ScheduleGroup."""

    class ScheduleGroupResource(ResourceModel):
        resource_type = "AWS::Scheduler::ScheduleGroup"
        name_property = "Name"

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
            tags = cloudformation_json["Properties"].get("Tags", [])
            group = scheduler_backends[account_id][region_name].create_schedule_group(resource_name, tags)
            return cls(group.name, {"Arn": group.arn})

        @classmethod
        def remove(cls, physical_id: str, wanted: Wanted) -> None:
            _backend(wanted).delete_schedule_group(physical_id)

    define(ScheduleGroupResource)


def _backend(wanted: Wanted) -> EventBridgeSchedulerBackend:
    return scheduler_backends[wanted.account_id][wanted.region]


def _request(wanted: Wanted) -> dict[str, Any]:
    given = wanted.properties
    return {
        "name": wanted.name,
        "group_name": given.get("GroupName"),
        "description": given.get("Description"),
        "schedule_expression": given["ScheduleExpression"],
        "schedule_expression_timezone": given.get("ScheduleExpressionTimezone"),
        "start_date": given.get("StartDate"),
        "end_date": given.get("EndDate"),
        "flexible_time_window": given["FlexibleTimeWindow"],
        "kms_key_arn": given.get("KmsKeyArn"),
        "state": given.get("State"),
        "target": dict(given["Target"]),
        "action_after_completion": given.get("ActionAfterCompletion"),
    }


PATCHES = (scheduler_schedule, scheduler_schedule_group)
