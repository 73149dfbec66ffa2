"""What is told of a stack while it changes: events, and the status of each resource."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from moto.cloudformation.models import Event
from moto.core.utils import utcnow

STACK_TYPE = "AWS::CloudFormation::Stack"


@dataclass(frozen=True)
class ResourceState:
    """A resource as DescribeStackResources tells of it; moto's answers read these attributes."""

    logical_resource_id: str
    physical_resource_id: str
    cf_resource_type: str
    resource_status: str
    resource_status_reason: str | None
    timestamp: datetime


def states_of(stack: Any) -> dict[str, ResourceState]:
    """Return the states of a stack's resources, by logical id."""
    states: dict[str, ResourceState] = stack.__dict__.setdefault("resource_states", {})
    return states


def record_resource(
    stack: Any, resource: tuple[str, str], status: str, *, physical_id: str = "", reason: str | None = None
) -> None:
    """Add an event of a resource, given by its logical id and type, and remember its status."""
    logical_id, kind = resource
    states = states_of(stack)
    if not physical_id and logical_id in states:
        physical_id = states[logical_id].physical_resource_id
    event = Event(
        stack_id=stack.stack_id,
        stack_name=stack.name,
        logical_resource_id=logical_id,
        physical_resource_id=physical_id,
        resource_type=kind,
        resource_status=status,
        resource_status_reason=reason,
        resource_properties=None,
    )
    states[logical_id] = ResourceState(logical_id, physical_id, kind, status, reason, utcnow())
    _notify(stack, event)
    stack.events.append(event)


def record_stack(stack: Any, status: str, reason: str | None = None) -> None:
    """Set a stack's status, and add the event of it."""
    stack.status, stack.status_reason = status, reason
    stack._add_stack_event(status, resource_status_reason=reason)


def _notify(stack: Any, event: Event) -> None:
    with contextlib.suppress(Exception):  # a topic that is gone is no reason for a stack to fail
        event.sendToSns(stack.account_id, stack.region_name, stack.notification_arns)
