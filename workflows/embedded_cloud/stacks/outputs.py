"""What a stack puts out, and exports to others."""

from __future__ import annotations

from typing import Any

from moto.cloudformation.models import OutputMap

from workflows.embedded_cloud.stacks.failures import ResourceFailed
from workflows.embedded_cloud.stacks.target import Target, provisioned_in


def publish_outputs(backend: Any, stack: Any, target: Target) -> None:
    """Find what a stack puts out, now that its resources are there.

    Parameters
    ----------
    backend
        Moto's CloudFormation, which keeps the exports of all stacks.

    Raises
    ------
    ResourceFailed
        If another stack exports something of the same name, or an output is of what is not there.
    """
    for resource in provisioned_in(stack).values():
        target.resources._parsed_resources[resource.logical_id] = resource.model
    conditions = target.resources.lazy_condition_map
    shown = {
        name: body
        for name, body in (target.document.get("Outputs") or {}).items()
        if "Condition" not in body or conditions[body["Condition"]]
    }
    outputs = OutputMap(target.resources, {**target.document, "Outputs": shown}, stack.stack_id)
    values, exports = [outputs[name] for name in shown], outputs.exports
    for export in exports:
        other = backend.exports.get(export.name)
        if other is not None and other.exporting_stack_id != stack.stack_id:
            raise ResourceFailed(f"Export with name {export.name} is already exported by another stack")
    withdraw_exports(backend, stack)
    backend.exports.update({export.name: export for export in exports})
    stack.published_exports = exports
    stack.published_outputs = [each for each in values if each]


def withdraw_exports(backend: Any, stack: Any) -> None:
    """Export nothing of a stack any more."""
    for name, export in list(backend.exports.items()):
        if export.exporting_stack_id == stack.stack_id:
            del backend.exports[name]
