"""What patches need to know of the cloud that they are for."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workflows.embedded_cloud.event_bus import EventBus
from workflows.embedded_cloud.event_targets import EventTargets
from workflows.embedded_cloud.faults.plan import FaultPlan
from workflows.embedded_cloud.lambda_functions import LambdaFunctions
from workflows.embedded_cloud.scheduler import Scheduler
from workflows.embedded_cloud.stacks.response_inbox import ResponseInbox

LARGEST_MEMORY_MB = 10_240


@dataclass(frozen=True)
class CloudContext:
    """The cloud's address, logs, functions, limits, what carries events, where custom resources answer."""

    endpoint_url: str
    log_directory: Path
    functions: LambdaFunctions
    scheduler: Scheduler
    targets: EventTargets
    event_bus: EventBus
    inbox: ResponseInbox
    largest_memory_mb: int = LARGEST_MEMORY_MB
    faults: FaultPlan = field(default_factory=FaultPlan)

    def refreshing(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        """Return an operation that has the scheduler look at the schedules again when it is done."""

        @functools.wraps(operation)
        def refreshed(*args: Any, **kwargs: Any) -> Any:
            result = operation(*args, **kwargs)
            self.scheduler.refresh()
            return result

        return refreshed
