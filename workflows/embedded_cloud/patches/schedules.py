"""EventBridge Scheduler: moto keeps schedules and never fires them."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from moto.scheduler.exceptions import ScheduleGroupNotFound, ValidationException
from moto.scheduler.models import EventBridgeSchedulerBackend, Schedule, scheduler_backends
from moto.scheduler.responses import EventBridgeSchedulerResponse

from workflows.embedded_cloud.clock import iso_time
from workflows.embedded_cloud.event_targets import RetryPolicy, TargetError
from workflows.embedded_cloud.patches.context import CloudContext
from workflows.embedded_cloud.schedule_expressions import At, Timetable, parse_expression, parse_zone
from workflows.embedded_cloud.scheduler import Scheduled

_EARLIEST_START_S = 300
_JSON_TARGETS = ("lambda", "states", "events")

_log = logging.getLogger(__name__)


def schedules_fire(context: CloudContext) -> None:
    """Schedules call their targets when they are due by the cloud's clock, made by an API call or a stack.

    A flexible time window is used at its start. ActionAfterCompletion is carried out.
    """

    def enabled_schedules() -> Iterator[Scheduled]:
        for regions in list(scheduler_backends.values()):
            for backend in list(regions.values()):
                for group in list(backend.schedule_groups.values()):
                    for schedule in list(group.schedules.values()):
                        if schedule.state == "ENABLED":
                            yield _scheduled(context, backend, schedule)

    for name in ("create_schedule", "update_schedule", "delete_schedule", "delete_schedule_group"):
        original = getattr(EventBridgeSchedulerBackend, name)
        setattr(EventBridgeSchedulerBackend, name, context.refreshing(original))
    context.scheduler.add_source(enabled_schedules)


def refuse_schedules_as_aws_does(context: CloudContext) -> None:
    """Expressions, time zones, dates, groups and inputs are checked; moto takes any."""
    original_create = EventBridgeSchedulerBackend.create_schedule
    original_update = EventBridgeSchedulerBackend.update_schedule

    def create_schedule(self: Any, *args: Any, **given: Any) -> Any:
        if (given.get("group_name") or "default") not in self.schedule_groups:
            raise ScheduleGroupNotFound(given["group_name"])
        _check(given, context.scheduler.clock.now())
        schedule = original_create(self, *args, **given)
        schedule.creation_date = schedule.last_modified_date = context.scheduler.clock.now()
        return schedule

    def update_schedule(self: Any, *args: Any, **given: Any) -> Any:
        _check(given, None)
        schedule = original_update(self, *args, **given)
        schedule.last_modified_date = context.scheduler.clock.now()
        return schedule

    Schedule._validate_start_date = lambda _self, start_date: start_date
    EventBridgeSchedulerBackend.create_schedule = create_schedule
    EventBridgeSchedulerBackend.update_schedule = update_schedule


def updates_replace_the_whole_schedule(_context: CloudContext) -> None:
    """UpdateSchedule gives what is left out its default; moto keeps the action, and sets no State."""
    original = EventBridgeSchedulerBackend.update_schedule
    original_response = EventBridgeSchedulerResponse.update_schedule

    def update_schedule(self: Any, *args: Any, **given: Any) -> Any:
        given["state"] = given.get("state") or "ENABLED"
        action = given.pop("action_after_completion", None)
        schedule = original(self, *args, **given)
        schedule.action_after_completion = action or "NONE"
        return schedule

    def respond(self: Any) -> str:
        answer = str(original_response(self))
        name = self.uri.split("?")[0].split("/")[-1]
        schedule = self.scheduler_backend.get_schedule(self._get_param("GroupName"), name)
        schedule.action_after_completion = self._get_param("ActionAfterCompletion") or "NONE"
        return answer

    EventBridgeSchedulerBackend.update_schedule = update_schedule
    EventBridgeSchedulerResponse.update_schedule = respond


def _scheduled(context: CloudContext, backend: Any, schedule: Any) -> Scheduled:
    zone = parse_zone(schedule.schedule_expression_timezone)
    timetable = Timetable(
        parse_expression(schedule.schedule_expression, zone),
        zone,
        _moment(schedule.start_date),
        _moment(schedule.end_date),
        at_once=True,
    )

    def completed() -> None:
        if schedule.action_after_completion == "DELETE":
            backend.delete_schedule(schedule.group_name, schedule.name)

    return Scheduled(
        schedule.arn, timetable, lambda due_s: _fire(context, backend, schedule, due_s), completed
    )


def _fire(context: CloudContext, backend: Any, schedule: Any, due_s: float) -> None:
    target, arn, due = schedule.target, schedule.arn, iso_time(due_s, "seconds")
    execution_id = secrets.token_hex(8)
    text = target.get("Input") or json.dumps(_default_input(backend, arn, due, execution_id))

    def filled(attempt: int) -> str:
        given = text.replace("<aws.scheduler.scheduled-time>", due)
        given = given.replace("<aws.scheduler.schedule-arn>", arn)
        given = given.replace("<aws.scheduler.execution-id>", execution_id)
        return given.replace("<aws.scheduler.attempt-number>", str(attempt))

    def give_up(error: TargetError, retries: int, exhausted: str | None) -> None:
        _log.warning("schedule %s: %s: %s", schedule.name, error.service_code, error)
        attributes = {
            "ERROR_CODE": error.service_code,
            "ERROR_MESSAGE": str(error) or error.service_code,
            "EXECUTION_ID": execution_id,
            "IS_PAYLOAD_TRUNCATED": "false",
            "RETRY_ATTEMPTS": str(retries),
            "SCHEDULED_TIME": due,
            "SCHEDULE_ARN": arn,
            "TARGET_ARN": target["Arn"],
        }
        if exhausted:
            attributes["EXHAUSTED_RETRY_CONDITION"] = exhausted
        context.targets.bury(target, filled(retries + 1), attributes)

    context.targets.send_until_taken(
        lambda attempt: context.targets.send(target, filled(attempt)),
        RetryPolicy.of(target),
        give_up,
        final=("INVALID_JSON",),
    )


def _default_input(backend: Any, arn: str, due: str, execution_id: str) -> dict[str, Any]:
    return {
        "version": "0",
        "id": execution_id,
        "detail-type": "Scheduled Event",
        "source": "aws.scheduler",
        "account": backend.account_id,
        "time": due,
        "region": backend.region_name,
        "resources": [arn],
        "detail": "{}",
    }


def _check(given: dict[str, Any], now_s: float | None) -> None:
    expression = given["schedule_expression"]
    try:
        zone = parse_zone(given.get("schedule_expression_timezone"))
    except ValueError as error:
        raise ValidationException(f"The ScheduleExpressionTimezone is not valid: {error}.") from error
    try:
        parsed = parse_expression(expression, zone)
    except ValueError as error:
        raise ValidationException(f"Invalid Schedule Expression {expression}.") from error
    start, end = _moment(given.get("start_date")), _moment(given.get("end_date"))
    if not isinstance(parsed, At):
        if now_s is not None and start is not None and start < now_s - _EARLIEST_START_S:
            raise ValidationException("The StartDate you specify cannot be earlier than 5 minutes ago.")
        if start is not None and end is not None and end <= start:
            raise ValidationException("The EndDate you specify must come after the StartDate.")
    target = given["target"]
    text = target.get("Input")
    if text is not None and str(target["Arn"]).split(":")[2] in _JSON_TARGETS:
        try:
            json.loads(text)
        except ValueError as error:
            raise ValidationException(f"Invalid RequestJson provided. Reason {error}.") from error


def _moment(given: Any) -> float | None:
    """Read a date of the API, seconds since the epoch, or of a template, ISO 8601."""
    if given is None or given == "":
        return None
    if isinstance(given, (int, float)):
        return float(given)
    try:
        return float(given)
    except ValueError:
        moment = datetime.fromisoformat(str(given).replace("Z", "+00:00"))
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


PATCHES = (updates_replace_the_whole_schedule, refuse_schedules_as_aws_does, schedules_fire)
