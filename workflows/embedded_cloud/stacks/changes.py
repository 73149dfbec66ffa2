"""What a change set would change."""

from __future__ import annotations

from typing import Any

from moto.cloudformation.models import Change

from workflows.embedded_cloud.stacks import provisioning
from workflows.embedded_cloud.stacks.operations import Target, provisioned_in
from workflows.embedded_cloud.stacks.schemas import requires_replacement


def changes(stack: Any, target: Target) -> list[Change]:
    """Return the changes that would make a stack what it is to become.

    A resource whose properties name something that would be made anew counts as modified.
    """
    existing = provisioned_in(stack)
    for name in set(existing) & set(target.bodies):
        target.resources._parsed_resources[name] = existing[name].model
    found: list[Change] = []
    new: set[str] = set()
    for name, body in target.bodies.items():
        if name not in existing:
            new.add(name)
            found.append(_change("Add", name, str(body.get("Type"))))
            continue
        before = existing[name]
        try:
            declared = provisioning.resolve(body, target.resources)
        except Exception:  # of what does not exist yet
            declared = None
        affected = declared is None or bool(target.depends_on[name] & new & _referred(before, target))
        if declared is not None and not affected and not provisioning.is_changed(before, declared):
            continue
        after = declared["Properties"] if declared else before.declared["Properties"]
        replaced = requires_replacement(before.kind, before.declared["Properties"], after)
        if replaced:
            new.add(name)
        change = _change("Modify", name, before.kind, before.physical_id)
        change.replacement = "True" if replaced else "Conditional" if affected else "False"
        change.scope = ["Properties"]
        found.append(change)
    for name, before in existing.items():
        if name not in target.bodies:
            found.append(_change("Remove", name, before.kind, before.physical_id))
    return found


def _referred(before: provisioning.Provisioned, target: Target) -> set[str]:
    explicit = target.bodies[before.logical_id].get("DependsOn") or []
    return target.depends_on[before.logical_id] - set([explicit] if isinstance(explicit, str) else explicit)


def _change(action: str, logical_id: str, kind: str, physical_id: str | None = None) -> Change:
    change = Change(action, logical_id, kind)
    change.physical_resource_id = physical_id
    return change
