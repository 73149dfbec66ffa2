"""How many workers can be launched together, and by which Map of the state machine.

==================  =================================================================================
workers             launched by
==================  =================================================================================
up to 40            an inline Map, in the run's own execution
up to 1,000         a Distributed Map, which reads its items from S3 and has an execution for each
==================  =================================================================================
"""

from __future__ import annotations

import json

MAX_INLINE_WORKERS = 40
"""Iterations that an inline Map runs at a time (Step Functions developer guide, Map state in Inline mode)."""

MAX_WORKERS = 1000
"""``MaxConcurrency`` of workflows/state_machine's Distributed Map; MaxWorkers is at most this."""

MAX_SNS_WORKERS = 200
"""Filter policies that a topic may have (SNS quotas): one for each slot."""


def is_distributed(workers: int) -> bool:
    """Whether a gang is launched by the Distributed Map."""
    return workers > MAX_INLINE_WORKERS


def map_items(run: str, attempt: int, function: str, workers: int) -> bytes:
    """What the Distributed Map reads: for each worker all that its execution needs, which sees no other."""
    each = {"run": run, "attempt": attempt, "function": function}
    return json.dumps([each | {"worker": worker} for worker in range(workers)]).encode()
