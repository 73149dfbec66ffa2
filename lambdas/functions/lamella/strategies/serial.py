"""One worker, no messages."""

from __future__ import annotations

from lamella.manifest import Cut, Manifest
from lamella.plan import Plan, Task
from lamella.strategies.samples import whole_layers


def serial(manifest: Manifest, _cut: Cut | None, plan: Plan) -> list[Task]:
    """Every layer and every sample to one worker."""
    everything = (0, plan.samples)
    return [Task(0, everything, None, whole_layers(manifest, everything))]
