"""What the resources of a template refer to, and the order that follows from it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

from workflows.embedded_cloud.errors import EmbeddedCloudError

_VARIABLE = re.compile(r"\$\{([^!}][^}]*)\}")


def references(node: Any, conditions: Mapping[str, bool]) -> Iterator[str]:
    """Yield every name that Ref, Fn::GetAtt and Fn::Sub refer to.

    Parameters
    ----------
    node
        A part of a template.
    conditions
        Values of the template's conditions: only the branch of Fn::If that is taken counts.
    """
    if isinstance(node, list):
        for item in node:
            yield from references(item, conditions)
    elif isinstance(node, Mapping):
        for key, value in node.items():
            if key == "Ref":
                yield str(value)
            elif key == "Fn::GetAtt":
                yield value.split(".", 1)[0] if isinstance(value, str) else str(value[0])
            elif key == "Fn::Sub":
                yield from _substituted(value, conditions)
            elif key == "Fn::If" and isinstance(value, list) and value[0] in conditions:
                yield from references(value[1 if conditions[value[0]] else 2], conditions)
            else:
                yield from references(value, conditions)


def _substituted(value: Any, conditions: Mapping[str, bool]) -> Iterator[str]:
    text, given = (value[0], value[1]) if isinstance(value, list) else (value, {})
    names = {match.strip().split(".", 1)[0] for match in _VARIABLE.findall(str(text))}
    yield from sorted(names - set(given))
    yield from references(given, conditions)


def dependencies(
    resources: Mapping[str, Any], known: set[str], conditions: Mapping[str, bool]
) -> dict[str, set[str]]:
    """Return what each resource depends on, by reference or DependsOn, in an order in which they can be made.

    Parameters
    ----------
    resources
        Resources that are to exist, by logical id.
    known
        Names that are no resources: parameters.
    conditions
        Values of the template's conditions.

    Raises
    ------
    EmbeddedCloudError
        In CloudFormation's words, if a reference leads nowhere or round in a circle.
    """
    graph: dict[str, set[str]] = {}
    for name, body in resources.items():
        found = {
            each
            for each in references(body, conditions)
            if each not in known and not each.startswith("AWS::")
        }
        missing = sorted(found - set(resources))
        if missing:
            raise EmbeddedCloudError(
                f"Template format error: Unresolved resource dependencies [{', '.join(missing)}] in the "
                "Resources block of the template"
            )
        explicit = body.get("DependsOn") or []
        explicit = [explicit] if isinstance(explicit, str) else explicit
        graph[name] = found | (set(explicit) & set(resources))
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        circle = ", ".join(sorted(set(error.args[1])))
        raise EmbeddedCloudError(f"Circular dependency between resources: [{circle}]") from error
    return {name: graph[name] for name in order}


def last_first(depends_on: Mapping[str, Iterable[str]]) -> list[str]:
    """Return names in an order in which they can be deleted: what depends on others before these.

    Parameters
    ----------
    depends_on
        Of every name, in the order in which they were made.
    """
    position = {name: number for number, name in enumerate(depends_on)}
    left = {name: {each for each in needs if each in position} for name, needs in depends_on.items()}
    order: list[str] = []
    while left:
        needed = set().union(*left.values())
        free = [name for name in left if name not in needed] or list(
            left
        )  # an update turned references round
        order.append(max(free, key=position.__getitem__))
        del left[order[-1]]
    return order
