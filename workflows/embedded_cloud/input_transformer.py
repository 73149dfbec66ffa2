"""What a target of an EventBridge rule is given for an event.

docs.aws.amazon.com/eventbridge/latest/userguide/eb-transform-target-input.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

_QUOTED = re.compile(r'("(?:[^"\\]|\\.)*")', re.DOTALL)
_PLACEHOLDER = re.compile(r"<([\w.-]+)>")
_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\*|-?\d+|'[^']*'|\"[^\"]*\")\]")
_INGESTION_TIME = "ingestion-time"


def target_input(
    target: Mapping[str, Any], event: Mapping[str, Any], rule_arn: str = "", rule_name: str = ""
) -> str:
    """Return the text that a target is sent.

    Parameters
    ----------
    target
        As PutTargets takes it: with Input, InputPath, InputTransformer or none of them.
    event
        As moto keeps it: ``time`` may be in seconds since the epoch, ``ingestion-time`` may be there.
    """
    if "Input" in target:
        return str(target["Input"])
    event, ingested = event_as_sent(event), event.get(_INGESTION_TIME)
    if "InputPath" in target:
        return _json(value_at(event, target["InputPath"]))
    transformer = target.get("InputTransformer")
    if not transformer:
        return _json(event)
    paths = transformer.get("InputPathsMap") or {}
    values = {name: value_at(event, path) for name, path in paths.items()}
    values |= {
        "aws.events.rule-arn": rule_arn,
        "aws.events.rule-name": rule_name,
        "aws.events.event.ingestion-time": _iso(ingested) if ingested is not None else event.get("time"),
        "aws.events.event": {name: value for name, value in event.items() if name != "detail"},
        "aws.events.event.json": event,
    }
    return fill(transformer["InputTemplate"], values)


def event_as_sent(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event with what moto adds to it taken out, and its time as text."""
    sent = {name: value for name, value in event.items() if name != _INGESTION_TIME}
    if isinstance(sent.get("time"), (int, float)):
        sent["time"] = _iso(sent["time"])
    return sent


def fill(template: str, values: Mapping[str, Any]) -> str:
    """Fill the <placeholders> of an InputTemplate.

    Outside of quotation marks a value becomes JSON. Inside of them a text is put in as it is, not escaped,
    and an object or a list without its quotation marks. Everything else of the template stays: quotation
    marks, line breaks and backslashes too. A value that the event does not have leaves "" or nothing.
    """
    pieces = _QUOTED.split(template)
    for index, piece in enumerate(pieces):
        write = _in_text if index % 2 else _json
        pieces[index] = _PLACEHOLDER.sub(lambda match, to=write: to(values.get(match[1], "")), piece)
    return "".join(pieces)


def value_at(event: Any, path: str) -> Any:
    """Return what a JSON path points at, "" if nothing: names, indices and * as EventBridge knows them."""
    found = [event]
    several = False
    for match in _STEP.finditer(path.removeprefix("$")):
        name, index = match[1], match[2]
        if index is not None and index[0] in "'\"":
            name, index = index[1:-1], None
        if name == "*" or index == "*":
            several = True
            found = [child for each in found for child in _children(each)]
        elif index is not None:
            at = int(index)
            found = [each[at] for each in found if isinstance(each, list) and -len(each) <= at < len(each)]
        else:
            found = [each[name] for each in found if isinstance(each, dict) and name in each]
    if several:
        return found
    return found[0] if found else ""


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _in_text(value: Any) -> str:
    return value if isinstance(value, str) else _json(value).replace('"', "")


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _iso(moment_s: float) -> str:
    return datetime.fromtimestamp(float(moment_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
