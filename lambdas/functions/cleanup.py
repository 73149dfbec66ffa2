"""Custom resource Cleanup: a stack's deletion, as far as CloudFormation can't do it by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lamella.custom_resource import serve

if TYPE_CHECKING:
    from lamella.runtime import LambdaContext

PHYSICAL_ID = "cleanup"


def handler(event: dict[str, Any], context: LambdaContext) -> None:
    """Answer a request of CloudFormation."""

    def delete(request: Mapping[str, Any]) -> None:
        # Imported here, so that what keeps them from being imported is a reason that CloudFormation is told.
        from lamella.runtime import Runtime
        from lamella.states.cleanup import CleanupProperties, clean_up

        runtime = Runtime()
        runtime.begin(context)
        properties = CleanupProperties.model_validate(request["ResourceProperties"])
        clean_up(request["StackId"], properties, runtime)

    serve(event, context, PHYSICAL_ID, delete)
