"""State Plan: from the user's request to one task per worker."""

from __future__ import annotations

from typing import Any

from lamella.events import PlanEvent
from lamella.runtime import LambdaContext, Runtime
from lamella.states.plan import plan_run

runtime = Runtime()


@runtime.logged
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Plan a run."""
    request = PlanEvent.model_validate(event)
    runtime.begin(context, run=request.run)
    answer = plan_run(request, runtime).model_dump()
    runtime.logger.info("planned", **answer)
    return answer
