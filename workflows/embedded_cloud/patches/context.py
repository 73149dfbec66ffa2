"""What patches need to know of the cloud that they are for."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from workflows.embedded_cloud.event_bus import EventBus
from workflows.embedded_cloud.event_targets import EventTargets
from workflows.embedded_cloud.lambda_functions import LambdaFunctions
from workflows.embedded_cloud.scheduler import Scheduler


@dataclass(frozen=True)
class CloudContext:
    """The cloud's own address, the functions that it runs, and what carries its events."""

    endpoint_url: str
    functions: LambdaFunctions
    scheduler: Scheduler
    targets: EventTargets
    event_bus: EventBus

    def refreshing(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        """Return an operation that has the scheduler look at the schedules again when it is done."""

        @functools.wraps(operation)
        def refreshed(*args: Any, **kwargs: Any) -> Any:
            result = operation(*args, **kwargs)
            self.scheduler.refresh()
            return result

        return refreshed
