"""What a stack is to become: a template that was checked, and which of its resources are to exist."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from moto.cloudformation import parsing
from moto.cloudformation.exceptions import ValidationError
from moto.cloudformation.models import ResourceMap

from workflows.embedded_cloud.errors import EmbeddedCloudError
from workflows.embedded_cloud.stacks import provisioning
from workflows.embedded_cloud.stacks.dependencies import dependencies
from workflows.embedded_cloud.stacks.provisioning import Provisioned


@dataclass(frozen=True)
class Target:
    """What a stack is to become.

    Attributes
    ----------
    resources
        Moto's map: parameters, conditions and, once made, resources.
    bodies
        Parts of the template of resources that are to exist, in an order in which they can be made.
    """

    template: str
    document: dict[str, Any]
    parameters: dict[str, Any]
    resources: Any
    bodies: dict[str, dict[str, Any]]
    depends_on: dict[str, set[str]]


def target_of(stack: Any, template: str, parameters: dict[str, Any]) -> Target:
    """Check a template for a stack.

    Raises
    ------
    ValidationError
        In CloudFormation's words.
    """
    document = stack.parse_template(template)
    resources = ResourceMap(
        stack.stack_id,
        stack.name,
        parameters,
        stack.tags,
        account_id=stack.account_id,
        region_name=stack.region_name,
        template=document,
        cross_stack_resources=stack.cross_stack_resources,
    )
    resources.load()
    conditions = dict(resources.lazy_condition_map)
    bodies = {
        name: body
        for name, body in document["Resources"].items()
        if "Condition" not in body or conditions[body["Condition"]]
    }
    for name, body in bodies.items():
        _check_policies(name, body, resources)
    known = set(document.get("Parameters") or {}) | set(document.get("Mappings") or {})
    try:
        graph = dependencies(bodies, known, conditions)
    except EmbeddedCloudError as error:
        raise ValidationError(message=str(error)) from error
    return Target(template, document, parameters, resources, {name: bodies[name] for name in graph}, graph)


def _check_policies(name: str, body: dict[str, Any], resources: Any) -> None:
    for policy, allowed in provisioning.POLICIES.items():
        value = parsing.clean_json(body.get(policy), resources)
        if value is not None and value not in allowed:
            raise ValidationError(
                message=f"Template error: resource {name} has {policy} {value}, which is none of "
                f"{', '.join(allowed)}"
            )


def provisioned_in(stack: Any) -> dict[str, Provisioned]:
    """Return the resources that a stack has, by logical id."""
    found: dict[str, Provisioned] = stack.__dict__.setdefault("provisioned", {})
    return found
