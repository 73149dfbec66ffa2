"""What Plan and Recover answer: which workers to launch, and by which Map."""

from __future__ import annotations

from lamella.events import PlanAnswer
from lamella.launch import is_distributed, map_items
from lamella.layout import RunKeys
from lamella.plan import Plan
from lamella.runtime import Runtime


def launch(runtime: Runtime, keys: RunKeys, plan: Plan) -> PlanAnswer:
    """The workers of an attempt, written down where the Distributed Map is to read them."""
    function = runtime.config.worker_functions()[plan.memory_mb]
    items: str | None = None
    if is_distributed(plan.workers):
        items = keys.items
        body = map_items(keys.run, keys.attempt, function, plan.workers)
        runtime.bucket.write(items, body, "application/json")
    workers = [] if items else list(range(plan.workers))
    return PlanAnswer(run=keys.run, attempt=keys.attempt, function=function, workers=workers, items=items)
