"""Parameters of a template: their values, and whether the template allows them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from workflows.embedded_cloud.errors import EmbeddedCloudError


def parameter_values(document: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, str]:
    """Return the value of every parameter, as text; lists are comma-delimited.

    Parameters
    ----------
    document
        The template.
    given
        Values that are not to be the template's defaults.

    Raises
    ------
    EmbeddedCloudError
        In CloudFormation's words, if one is unknown, missing or not allowed.
    """
    slots: Mapping[str, Any] = document.get("Parameters") or {}
    unknown = sorted(set(given) - set(slots))
    if unknown:
        raise EmbeddedCloudError(f"Parameters: [{', '.join(unknown)}] do not exist in the template")
    values = {name: as_parameter(slot["Default"]) for name, slot in slots.items() if "Default" in slot}
    values |= {name: as_parameter(value) for name, value in given.items()}
    missing = [name for name in slots if name not in values]
    if missing:
        raise EmbeddedCloudError(f"Parameters: [{', '.join(missing)}] must have values")
    for name, slot in slots.items():
        for complaint in _complaints(slot, values[name]):
            raise EmbeddedCloudError(f"Parameter {name} {complaint}")
    return values


def as_parameter(value: Any) -> str:
    """Return a parameter's value as a request to CloudFormation has it."""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(str(item) for item in value) if isinstance(value, list) else str(value)


def _complaints(slot: Mapping[str, Any], value: str) -> Iterator[str]:
    """Yield what the slot's constraints forbid of a value."""
    kind = str(slot.get("Type", "String"))
    if kind.startswith("AWS::SSM::"):  # the value names what the constraints are for
        return
    several = kind == "CommaDelimitedList" or kind.startswith("List<")
    described = slot.get("ConstraintDescription")
    for item in [part.strip() for part in value.split(",")] if several else [value]:
        for rule in _broken(slot, item, number="Number" in kind):
            yield f"failed to satisfy constraint: {described}" if described else f"is {item!r}, {rule}"


def _broken(slot: Mapping[str, Any], item: str, *, number: bool) -> Iterator[str]:
    allowed = [as_parameter(value) for value in slot.get("AllowedValues", [])]
    if allowed and item not in allowed:
        yield f"must be one of AllowedValues: {', '.join(allowed)}"
    pattern = slot.get("AllowedPattern")
    if pattern is not None and not re.fullmatch(str(pattern), item):
        yield f"must match pattern {pattern}"
    if number:
        try:
            size, what = float(item), "Value"
        except ValueError:
            yield "must be a number"
            return
    else:
        size, what = float(len(item)), "Length"
    if size < float(slot.get(f"Min{what}", size)):
        yield f"must be at least {slot[f'Min{what}']} ({f'Min{what}'})"
    if size > float(slot.get(f"Max{what}", size)):
        yield f"must be at most {slot[f'Max{what}']} ({f'Max{what}'})"
