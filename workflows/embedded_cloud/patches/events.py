"""Targets of EventBridge rules."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

from moto.awslambda.models import lambda_backends
from moto.events.models import Rule
from moto.sns.models import sns_backends
from moto.sqs.models import sqs_backends
from moto.stepfunctions.parser.models import stepfunctions_parser_backends

from workflows.embedded_cloud.invocation import Invocation
from workflows.embedded_cloud.patches.context import CloudContext

_OURS = ("lambda", "states", "sns", "sqs")


def rules_call_lambda_and_step_functions(context: CloudContext) -> None:
    """Rules reach Lambda functions, state machines and topics, with Input, InputPath and InputTransformer.

    moto raises NotImplementedError for them, and has a rule without a pattern (a schedule) match all events.
    """
    original = Rule.send_to_targets

    def send_to_targets(self: Any, original_event: Any, transform_input: bool = True) -> None:
        if not self.event_pattern.get_pattern() or not self.event_pattern.matches_event(original_event):
            return
        ours = [target for target in self.targets if target["Arn"].split(":")[2] in _OURS]
        for target in ours:
            _send(context, target, original_event)
        rest = [target for target in self.targets if target not in ours]
        if rest:
            remaining = Rule.__new__(Rule)
            remaining.__dict__.update(self.__dict__, targets=rest)
            event = {"ingestion-time": original_event["time"], **original_event}
            original(remaining, event, transform_input)

    Rule.send_to_targets = send_to_targets


def _send(context: CloudContext, target: dict[str, Any], event: dict[str, Any]) -> None:
    arn = target["Arn"]
    payload = target_input(target, event)
    _, _, service, region, account, resource = arn.split(":", 5)
    if service == "lambda":
        function = lambda_backends[account][region].get_function(resource.removeprefix("function:"))
        context.functions.invoke_async(function, Invocation(payload.encode()))
    elif service == "states":
        stepfunctions_parser_backends[account][region].start_execution(arn, None, payload)
    elif service == "sqs":
        group = (target.get("SqsParameters") or {}).get("MessageGroupId")
        sqs_backends[account][region].send_message(resource, payload, group_id=group)
    else:
        sns_backends[account][region].publish(payload, arn=arn)


def target_input(target: dict[str, Any], event: dict[str, Any]) -> str:
    """Return what a target is given for an event, as JSON text."""
    if "Input" in target:
        return str(target["Input"])
    event = {key: value for key, value in event.items() if key != "ingestion-time"}
    moment = event.get("time")
    if isinstance(moment, (int, float)):
        text = datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        event = {**event, "time": text}
    if "InputPath" in target:
        return json.dumps(_at_path(event, target["InputPath"]))
    transformer = target.get("InputTransformer")
    if not transformer:
        return json.dumps(event)
    values = {name: _at_path(event, path) for name, path in (transformer.get("InputPathsMap") or {}).items()}
    values["aws.events.event.json"] = event
    return _fill(transformer["InputTemplate"], values)


def _fill(template: str, values: dict[str, Any]) -> str:
    """Replace <name>: as JSON where it stands alone, as bare text inside a string."""
    pieces = re.split(r'("(?:[^"\\]|\\.)*")', template)
    for index, piece in enumerate(pieces):
        quoted = index % 2 == 1

        def replace(match: re.Match[str], quoted: bool = quoted) -> str:
            value = values.get(match[1])
            if quoted:
                text = value if isinstance(value, str) else json.dumps(value)
                return json.dumps(text)[1:-1]
            return json.dumps(value)

        pieces[index] = re.sub(r"<([\w.-]+)>", replace, piece)
    return "".join(pieces)


def _at_path(event: Any, path: str) -> Any:
    found = event
    for step in path.removeprefix("$").split("."):
        if step:
            found = found.get(step) if isinstance(found, dict) else None
    return found


PATCHES = (rules_call_lambda_and_step_functions,)
