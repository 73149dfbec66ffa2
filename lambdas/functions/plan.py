"""States Plan and Recover: one task per worker, from the user's request or for one attempt more."""

from __future__ import annotations

from typing import Any

from lamella.events import RecoverEvent, parse_plan_event
from lamella.runtime import LambdaContext, Runtime
from lamella.states.plan import plan_run
from lamella.states.recover import recover_run

runtime = Runtime()


@runtime.logged
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Plan a run, or decide on one whose workers failed."""
    request = parse_plan_event(event)
    runtime.begin(context, run=request.run)
    if isinstance(request, RecoverEvent):
        answer = recover_run(request, runtime).model_dump()
        runtime.logger.info("recovered", answer=answer)
        return answer
    answer = plan_run(request, runtime).model_dump()
    if "wait_s" not in answer:
        runtime.logger.info("planned", **answer)
    return answer
