"""Sweep: removes what dead runs left, on a schedule, or when ``lamella clean`` asks for it."""

from __future__ import annotations

from typing import Any

from lamella.events import SweepEvent
from lamella.runtime import LambdaContext, Runtime
from lamella.states.sweep import sweep

runtime = Runtime()


@runtime.logged
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Sweep; the answer says what was, or would be, removed."""
    request = SweepEvent.parse(event)
    runtime.begin(context)
    answer = sweep(request, runtime)
    runtime.logger.info("sweep done", removed=answer.removed, total=answer.total)
    return answer.model_dump()
