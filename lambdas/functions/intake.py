"""Intake: starts a run for each new input, on a schedule or when it is uploaded."""

from __future__ import annotations

from typing import Any

from lamella.events import parse_intake_event
from lamella.runtime import LambdaContext, Runtime
from lamella.states.intake import take_in

runtime = Runtime()


@runtime.logged
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Start what is new; the answer names the runs, and says how many inputs wait."""
    request = parse_intake_event(event)
    runtime.begin(context)
    answer = take_in(request, runtime).model_dump()
    runtime.logger.info("taken in", **answer)
    return answer
