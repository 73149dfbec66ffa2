"""Whether an event matches the pattern of a rule.

docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html
"""

from __future__ import annotations

import ipaddress
import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

_COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    "=": operator.eq,
    ">=": operator.ge,
    ">": operator.gt,
}
_LARGEST_NUMBER = 5e9
_ABSENT = object()


def matches(pattern: Mapping[str, Any], event: Mapping[str, Any]) -> bool:
    """Tell whether an event, as JSON has it, matches a checked pattern."""
    return all(
        any(matches(each, event) for each in wanted)
        if _is_or(name, wanted)
        else _field_matches(wanted, event.get(name, _ABSENT))
        for name, wanted in pattern.items()
    )


def check_pattern(pattern: Any) -> None:
    """Refuse what PutRule refuses.

    Raises
    ------
    ValueError
        Says what is wrong.
    """
    if not isinstance(pattern, dict) or not pattern:
        raise ValueError("Event pattern must be a JSON object that is not empty")
    for name, wanted in pattern.items():
        if _is_or(name, wanted):
            for each in wanted:
                check_pattern(each)
        elif isinstance(wanted, dict):
            check_pattern(wanted)
        elif isinstance(wanted, list):
            if not wanted:
                raise ValueError("Empty arrays are not allowed")
            for condition in wanted:
                _check_condition(name, condition)
        else:
            raise ValueError(f"'{name}' must be an object or an array")


def _is_or(name: str, wanted: Any) -> bool:
    return (
        name == "$or"
        and isinstance(wanted, list)
        and len(wanted) > 1
        and all(isinstance(each, dict) and not _operators(each) for each in wanted)
    )


def _operators(condition: Mapping[str, Any]) -> bool:
    return bool(condition) and all(name in _OPERATORS or name == "exists" for name in condition)


def _field_matches(wanted: Any, found: Any) -> bool:
    if isinstance(wanted, dict):
        # A list of objects matches if one of them does; where nothing is, a field may be asked not to exist.
        children = found if isinstance(found, list) else [found]
        return any(matches(wanted, each if isinstance(each, dict) else {}) for each in children or [{}])
    values = [_ABSENT] if found is _ABSENT else list(_leaves(found))
    return any(_condition_matches(condition, values) for condition in wanted)


def _leaves(found: Any) -> Iterator[Any]:
    """Yield a value, or those of a list; conditions are about these, never about objects."""
    if isinstance(found, list):
        for each in found:
            yield from _leaves(each)
    elif not isinstance(found, dict):
        yield found


def _condition_matches(condition: Any, values: list[Any]) -> bool:
    there = [value for value in values if value is not _ABSENT]
    if not isinstance(condition, dict):
        return any(_equal(condition, value) for value in there)
    ((name, argument),) = condition.items()
    if name == "exists":
        return bool(there) is argument
    return any(_OPERATORS[name](value, argument) for value in there)


def _equal(wanted: Any, value: Any) -> bool:
    if isinstance(wanted, bool) or isinstance(value, bool):
        return wanted is value
    return bool(wanted == value)


def _prefix(value: Any, argument: Any) -> bool:
    return isinstance(value, str) and any(text.startswith(part) for text, part in _texts(value, argument))


def _suffix(value: Any, argument: Any) -> bool:
    return isinstance(value, str) and any(text.endswith(part) for text, part in _texts(value, argument))


def _texts(value: str, argument: Any) -> Iterator[tuple[str, str]]:
    folded = isinstance(argument, dict)
    for part in _listed(argument["equals-ignore-case"] if folded else argument):
        yield (value.casefold(), part.casefold()) if folded else (value, part)


def _equals_ignore_case(value: Any, argument: Any) -> bool:
    return isinstance(value, str) and value.casefold() in [each.casefold() for each in _listed(argument)]


def _wildcard(value: Any, argument: Any) -> bool:
    return isinstance(value, str) and any(
        _wildcard_regex(each).fullmatch(value) for each in _listed(argument)
    )


def _wildcard_regex(text: str) -> re.Pattern[str]:
    pieces = re.findall(r"\\[*\\]|\*|[^*\\]+|\\", text)
    written = [".*" if piece == "*" else re.escape(re.sub(r"^\\(?=.)", "", piece)) for piece in pieces]
    return re.compile("".join(written), re.DOTALL)


def _numeric(value: Any, argument: list[Any]) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    pairs = zip(argument[::2], argument[1::2], strict=True)
    return all(_COMPARISONS[sign](value, number) for sign, number in pairs)


def _cidr(value: Any, argument: Any) -> bool:
    try:
        return any(
            ipaddress.ip_address(value) in ipaddress.ip_network(each, strict=False)
            for each in _listed(argument)
        )
    except ValueError:
        return False


def _anything_but(value: Any, argument: Any) -> bool:
    if isinstance(argument, dict):
        ((name, inner),) = argument.items()
        return not _OPERATORS[name](value, inner)
    return not any(_equal(each, value) for each in _listed(argument))


_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "prefix": _prefix,
    "suffix": _suffix,
    "equals-ignore-case": _equals_ignore_case,
    "wildcard": _wildcard,
    "numeric": _numeric,
    "cidr": _cidr,
    "anything-but": _anything_but,
}
_TEXT_OPERATORS = ("prefix", "suffix", "equals-ignore-case", "wildcard", "cidr")


def _listed(argument: Any) -> list[Any]:
    return argument if isinstance(argument, list) else [argument]


def _check_condition(field: str, condition: Any) -> None:
    if condition is None or isinstance(condition, (str, int, float)):
        return
    if not isinstance(condition, dict) or len(condition) != 1:
        raise ValueError(
            f"Match value of '{field}' must be String, number, true, false, null or one operator"
        )
    ((name, argument),) = condition.items()
    if name == "exists":
        if not isinstance(argument, bool):
            raise ValueError("exists match pattern must be either true or false.")
    elif name == "numeric":
        _check_numeric(argument)
    elif name == "anything-but" and isinstance(argument, dict):
        if len(argument) != 1 or next(iter(argument)) not in _TEXT_OPERATORS[:4]:
            raise ValueError("anything-but takes values, prefix, suffix, equals-ignore-case or wildcard")
        _check_condition(field, argument)
    elif name == "anything-but":
        if not _listed(argument) or any(isinstance(each, (dict, list)) for each in _listed(argument)):
            raise ValueError("anything-but takes values, not objects or nothing")
    elif name in _TEXT_OPERATORS:
        if (
            name in ("prefix", "suffix")
            and isinstance(argument, dict)
            and set(argument) == {"equals-ignore-case"}
        ):
            argument = argument["equals-ignore-case"]
        if not _listed(argument) or not all(isinstance(each, str) for each in _listed(argument)):
            raise ValueError(f"{name} match pattern must be a string")
        if name == "wildcard" and any("**" in each for each in _listed(argument)):
            raise ValueError("Consecutive wildcard characters")
    else:
        raise ValueError(f"Unrecognized match type {name}")


def _check_numeric(argument: Any) -> None:
    if not isinstance(argument, list) or len(argument) not in (2, 4):
        raise ValueError("Value of numeric must be an array of one or two comparisons")
    for sign, number in zip(argument[::2], argument[1::2], strict=True):
        if sign not in _COMPARISONS:
            raise ValueError(f"Unrecognized numeric range operator: {sign}")
        known = isinstance(number, (int, float)) and not isinstance(number, bool) and math.isfinite(number)
        if not known or abs(number) > _LARGEST_NUMBER:
            raise ValueError(f"Value of {sign} must be numeric and between -5e9 and 5e9")
