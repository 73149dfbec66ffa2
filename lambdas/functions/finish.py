"""State Finish: the end of every run, good or bad."""

from __future__ import annotations

from typing import Any

from lamella.events import FinishEvent
from lamella.runtime import LambdaContext, Runtime
from lamella.states.finish import finish_run

runtime = Runtime()


@runtime.logged
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Finish a run; the answer is the execution's output, or the error that it fails with."""
    request = FinishEvent.parse(event)
    runtime.begin(context, run=request.run)
    answer = finish_run(request, runtime)
    runtime.logger.info("finished", answer=answer)
    return answer
