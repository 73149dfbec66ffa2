"""EventBridge rules: when they fire, and what reaches their targets."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Iterator
from typing import Any

from moto.events.exceptions import InvalidEventPatternException, ValidationException
from moto.events.models import EventPattern, EventPatternParser, EventsBackend, Rule, events_backends
from moto.events.responses import EventsHandler

from workflows.embedded_cloud.event_patterns import check_pattern, matches
from workflows.embedded_cloud.event_targets import SERVICES, RetryPolicy, TargetError
from workflows.embedded_cloud.input_transformer import event_as_sent, target_input
from workflows.embedded_cloud.patches.context import CloudContext
from workflows.embedded_cloud.schedule_expressions import Timetable, parse_expression, parse_zone
from workflows.embedded_cloud.scheduler import Scheduled

_log = logging.getLogger(__name__)


def rules_call_lambda_and_step_functions(context: CloudContext) -> None:
    """Rules reach Lambda functions, state machines and topics, with Input, InputPath and InputTransformer.

    moto raises NotImplementedError for them, has a rule without a pattern (a schedule) match all events, and
    one that is disabled too. Each target is tried by its RetryPolicy; what it does not take goes to its
    dead-letter queue.
    """
    original = Rule.send_to_targets

    def send_to_targets(self: Any, original_event: Any, transform_input: bool = True) -> None:
        pattern = self.event_pattern
        if self.state == "DISABLED" or not pattern.get_pattern() or not pattern.matches_event(original_event):
            return
        call_targets(self, original_event, transform_input)

    def call_targets(self: Any, event: dict[str, Any], transform_input: bool = True) -> None:
        ours = [target for target in self.targets if target["Arn"].split(":")[2] in SERVICES]
        for target in ours:
            _send(context, self, target, event)
        rest = [target for target in self.targets if target not in ours]
        if rest:
            remaining = Rule.__new__(Rule)
            remaining.__dict__.update(self.__dict__, targets=rest)
            original(remaining, {"ingestion-time": event["time"], **event}, transform_input)

    Rule.send_to_targets = send_to_targets
    Rule.call_targets = call_targets


def match_patterns_as_aws_does(_context: CloudContext) -> None:
    """Patterns match lists of objects, tell true from 1, are refused if AWS would; TestEventPattern works.

    moto matches neither lists of objects nor keys with dots, and takes any unknown operator as a match.
    """

    def matches_event(self: Any, event: dict[str, Any]) -> bool:
        pattern = self.get_pattern()
        return not pattern or matches(pattern, event_as_sent(event))

    def validate(_self: Any, pattern: dict[str, Any]) -> None:
        try:
            if pattern:
                check_pattern(pattern)
        except ValueError as error:
            raise InvalidEventPatternException(reason=str(error)) from error

    def test_event_pattern(self: Any) -> tuple[str, dict[str, Any]]:
        pattern = EventPattern.load(self._get_param("EventPattern"))
        try:
            event = json.loads(self._get_param("Event"))
        except ValueError as error:
            raise ValidationException(f"Parameter Event is not valid. Reason: {error}") from error
        return json.dumps({"Result": pattern.matches_event(event)}), self.response_headers

    EventPattern.matches_event = matches_event
    EventPatternParser._validate_event_pattern = validate
    EventsHandler.test_event_pattern = test_event_pattern


def rules_fire_on_schedule(context: CloudContext) -> None:
    """A rule's ScheduleExpression, rate() or cron() in UTC, makes "Scheduled Event"s; moto only keeps it."""
    utc = parse_zone("UTC")
    original_put = EventsBackend.put_rule

    def put_rule(self: Any, name: str, *args: Any, **given: Any) -> Any:
        expression = given.get("scheduled_expression")
        if expression:
            try:
                if not expression.startswith(("rate(", "cron(")):
                    raise ValueError("not rate(...) or cron(...)")
                parse_expression(expression, utc)
            except ValueError as error:
                message = f"Parameter ScheduleExpression is not valid. Reason: {error}"
                raise ValidationException(message) from error
        return original_put(self, name, *args, **given)

    def scheduled_rules() -> Iterator[Scheduled]:
        for regions in list(events_backends.values()):
            for backend in list(regions.values()):
                for rule in list(backend.event_buses["default"].rules.values()):
                    if rule.scheduled_expression and rule.state != "DISABLED":
                        yield _scheduled(rule)

    def _scheduled(rule: Any) -> Scheduled:
        def fire(due_s: float) -> None:
            rule.call_targets(
                {
                    "version": "0",
                    "id": str(uuid.uuid4()),
                    "detail-type": "Scheduled Event",
                    "source": "aws.events",
                    "account": rule.account_id,
                    "time": due_s,
                    "region": rule.region_name,
                    "resources": [rule.arn],
                    "detail": {},
                }
            )

        return Scheduled(rule.arn, Timetable(parse_expression(rule.scheduled_expression, utc), utc), fire)

    EventsBackend.put_rule = put_rule
    for name in ("put_rule", "delete_rule", "enable_rule", "disable_rule"):
        setattr(EventsBackend, name, context.refreshing(getattr(EventsBackend, name)))
    context.scheduler.add_source(scheduled_rules)


def _send(context: CloudContext, rule: Any, target: dict[str, Any], event: dict[str, Any]) -> None:
    payload = target_input(target, event, rule.arn, rule.name)

    def give_up(error: TargetError, retries: int, exhausted: str | None) -> None:
        _log.warning("rule %s: %s: %s: %s", rule.name, target["Arn"], error.code, error)
        attributes = {
            "RULE_ARN": rule.arn,
            "TARGET_ARN": target["Arn"],
            "ERROR_CODE": error.code,
            "ERROR_MESSAGE": str(error) or error.code,
            "RETRY_ATTEMPTS": str(retries),
        }
        if exhausted:
            attributes["EXHAUSTED_RETRY_CONDITION"] = exhausted
        context.targets.bury(target, json.dumps(event_as_sent(event)), attributes)

    context.targets.send_until_taken(
        lambda _number: context.targets.send(target, payload),
        RetryPolicy.of(target),
        give_up,
        final=("NO_RESOURCE", "INVALID_JSON"),
    )


PATCHES = (match_patterns_as_aws_does, rules_call_lambda_and_step_functions, rules_fire_on_schedule)
