"""State Worker: one part of the model, run over its samples."""

from __future__ import annotations

from typing import Any

from lamella.events import WorkerEvent
from lamella.runtime import LambdaContext, Runtime
from lamella.states.worker import run_worker

runtime = Runtime()


@runtime.logged
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Run one worker's task; its part of the output goes to S3."""
    request = WorkerEvent.parse(event)
    runtime.begin(context, run=request.run, attempt=request.attempt, worker=request.worker)
    run_worker(request, runtime, context)
    return {"worker": request.worker}
