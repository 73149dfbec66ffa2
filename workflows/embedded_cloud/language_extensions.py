"""AWS::LanguageExtensions, expanded: Fn::ForEach, Fn::Length, functions inside Ref and Fn::GetAtt.

docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/intrinsic-function-reference-foreach.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from workflows.embedded_cloud.errors import EmbeddedCloudError

TRANSFORM = "AWS::LanguageExtensions"
FOR_EACH = "Fn::ForEach::"
_PARTS = 3


def expand(template: Mapping[str, Any], parameters: Mapping[str, str]) -> dict[str, Any]:
    """Return the template without loops.

    Parameters
    ----------
    template
        A template as parsed from YAML or JSON.
    parameters
        Value of every parameter; lists are comma-delimited.

    Raises
    ------
    EmbeddedCloudError
        If a loop is malformed, or runs over something other than a list or a list parameter.
    """
    expanded = _expand(template, parameters)
    if not isinstance(expanded, dict):
        raise EmbeddedCloudError("The template is not an object")
    return expanded


def _expand(node: Any, parameters: Mapping[str, str]) -> Any:
    if isinstance(node, list):
        return [_expand(item, parameters) for item in node]
    if not isinstance(node, Mapping):
        return node
    if set(node) == {"Fn::Length"}:
        return len(_collection(node["Fn::Length"], parameters, "Fn::Length"))
    if set(node) == {"Ref"} and isinstance(node["Ref"], Mapping):
        return {"Ref": _literal(node["Ref"], parameters, "Ref")}
    if set(node) == {"Fn::GetAtt"} and isinstance(node["Fn::GetAtt"], list):
        return {"Fn::GetAtt": [_literal(part, parameters, "Fn::GetAtt") for part in node["Fn::GetAtt"]]}
    result: dict[str, Any] = {}
    for key, value in node.items():
        if not str(key).startswith(FOR_EACH):
            result[key] = _expand(value, parameters)
            continue
        for name, item in _iterate(str(key), value, parameters).items():
            if name in result:
                raise EmbeddedCloudError(
                    f"{key}: {name!r} is there twice; its name must contain the loop's variable"
                )
            result[name] = item
    return result


def _iterate(key: str, loop: Any, parameters: Mapping[str, str]) -> dict[str, Any]:
    if not isinstance(loop, list) or len(loop) != _PARTS or not isinstance(loop[2], Mapping):
        raise EmbeddedCloudError(f"{key}: must be [variable, list, {{output key: output value}}]")
    variable, collection, body = loop
    # AWS's own preprocessing refuses both: `sam build` says so before anything is deployed.
    for what, name in (("loop name", key.removeprefix(FOR_EACH)), ("identifier", str(variable))):
        if name in parameters:
            raise EmbeddedCloudError(f"{key}: {what} {name!r} conflicts with parameter name")
    result: dict[str, Any] = {}
    for value in _collection(collection, parameters, key):
        once = _expand(_substitute(body, str(variable), value), parameters)
        for name, item in once.items():
            if name in result:
                raise EmbeddedCloudError(
                    f"{key}: {name!r} does not contain ${{{variable}}}, or {value!r} is listed twice"
                )
            result[name] = item
    return result


def _collection(source: Any, parameters: Mapping[str, str], key: str) -> list[str]:
    if isinstance(source, list):
        values: list[str] = []
        for item in source:
            values += _collection(item, parameters, key) if isinstance(item, Mapping) else [str(item)]
        return values
    if isinstance(source, Mapping) and set(source) == {"Ref"}:
        name = str(source["Ref"])
        if name not in parameters:
            raise EmbeddedCloudError(f"{key}: {name!r} is not a parameter with a value")
        return [item.strip() for item in str(parameters[name]).split(",") if item.strip()]
    raise EmbeddedCloudError(f"{key}: runs over a list or a Ref to a list parameter, not over {source!r}")


def _literal(node: Any, parameters: Mapping[str, str], key: str) -> str:
    """Resolve what names a resource or an attribute: it must be known before deployment."""
    if isinstance(node, str):
        return node
    if isinstance(node, Mapping) and len(node) == 1:
        ((function, argument),) = node.items()
        if function == "Ref" and argument in parameters:
            return str(parameters[argument])
        if function == "Fn::Sub" and isinstance(argument, str):
            names = set(re.findall(r"\$\{([^!}]+)\}", argument))
            if names <= set(parameters):
                return re.sub(r"\$\{([^!}]+)\}", lambda match: str(parameters[match[1]]), argument)
        if function == "Fn::Join" and isinstance(argument, list) and isinstance(argument[1], list):
            return str(argument[0]).join(_literal(part, parameters, key) for part in argument[1])
    raise EmbeddedCloudError(f"{key}: {node!r} is not known before deployment")


def _substitute(node: Any, variable: str, value: str) -> Any:
    if isinstance(node, str):
        bare = re.sub(r"[^A-Za-z0-9]", "", value)
        return node.replace(f"${{{variable}}}", value).replace(f"&{{{variable}}}", bare)
    if isinstance(node, list):
        return [_substitute(item, variable, value) for item in node]
    if isinstance(node, Mapping):
        if node == {"Ref": variable}:
            return value
        return {
            _substitute(key, variable, value): _substitute(item, variable, value)
            for key, item in node.items()
        }
    return node
