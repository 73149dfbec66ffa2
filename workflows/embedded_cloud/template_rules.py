"""The section Rules of a template: which parameter values do not go together.

docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/rules-section-structure.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from workflows.embedded_cloud.errors import EmbeddedCloudError


def broken_rules(document: Mapping[str, Any], values: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield name and description of each assertion that parameters do not satisfy.

    Parameters
    ----------
    values
        Of every parameter, as text; lists are comma-delimited.

    Raises
    ------
    EmbeddedCloudError
        If a rule uses what rules can't.
    """
    for name, rule in (document.get("Rules") or {}).items():
        if "RuleCondition" in rule and not _value(rule["RuleCondition"], document, values):
            continue
        for assertion in rule.get("Assertions") or []:
            if not _value(assertion["Assert"], document, values):
                yield name, str(assertion.get("AssertDescription", f"rule {name} is not satisfied"))


def check_rules(document: Mapping[str, Any], values: Mapping[str, str]) -> None:
    """Refuse parameters that do not go together.

    Raises
    ------
    EmbeddedCloudError
        With the description of the first assertion that does not hold.
    """
    for name, description in broken_rules(document, values):
        raise EmbeddedCloudError(f"Template error: rule {name} is not satisfied: {description}")


def _value(node: Any, document: Mapping[str, Any], values: Mapping[str, str]) -> Any:
    if isinstance(node, list):
        return [_value(item, document, values) for item in node]
    if not isinstance(node, dict):
        return node
    ((function, argument),) = node.items()
    if function == "Ref":
        return _parameter(str(argument), document, values)
    if function == "Fn::RefAll":
        slots = document.get("Parameters") or {}
        return [values[name] for name, slot in slots.items() if slot.get("Type") == argument]
    found = _value(argument, document, values)
    match function:
        case "Fn::And":
            return all(found)
        case "Fn::Or":
            return any(found)
        case "Fn::Not":
            return not found[0]
        case "Fn::Equals":
            return _text(found[0]) == _text(found[1])
        case "Fn::Contains":
            return _text(found[1]) in map(_text, found[0])
        case "Fn::EachMemberIn":
            return set(map(_text, found[0])) <= set(map(_text, found[1]))
        case "Fn::EachMemberEquals":
            return all(_text(item) == _text(found[1]) for item in found[0])
    raise EmbeddedCloudError(f"Template error: {function} is not a function of rules")


def _parameter(name: str, document: Mapping[str, Any], values: Mapping[str, str]) -> str | list[str]:
    if name not in values:
        raise EmbeddedCloudError(f"Template error: a rule refers to {name}, which is no parameter")
    kind = str(document["Parameters"][name].get("Type", "String"))
    several = kind == "CommaDelimitedList" or kind.startswith("List<")
    return [item.strip() for item in values[name].split(",")] if several else values[name]


def _text(value: Any) -> Any:
    """Numbers and booleans of a template equal the parameters that are written like them."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value
