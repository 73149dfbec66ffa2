"""State Collect: from the workers' parts to predictions."""

from __future__ import annotations

from typing import Any

from lamella.events import CollectEvent
from lamella.runtime import LambdaContext, Runtime
from lamella.states.collect import collect_run

runtime = Runtime()


@runtime.logged
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Collect a run; its predictions go to S3."""
    request = CollectEvent.parse(event)
    runtime.begin(context, run=request.run, attempt=request.attempt)
    collect_run(request, runtime)
    runtime.logger.info("collected")
    return {"run": request.run, "attempt": request.attempt}
