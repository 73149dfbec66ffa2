"""Every worker has the whole model and a share of the samples; no messages."""

from __future__ import annotations

from itertools import pairwise

from lamella.manifest import Cut, Manifest
from lamella.plan import LayerPart, Plan, Range, Step, Task

# Between steps a worker looks whether its run still goes on, and says how far it is.
LAYERS_PER_STEP = 8


def samples(manifest: Manifest, _cut: Cut | None, plan: Plan) -> list[Task]:
    """Contiguous, equal shares of the samples."""
    bounds = [plan.samples * worker // plan.workers for worker in range(plan.workers + 1)]
    return [
        Task(worker, (start, stop), None, whole_layers(manifest, (start, stop)))
        for worker, (start, stop) in enumerate(pairwise(bounds))
    ]


def whole_layers(manifest: Manifest, share: Range) -> tuple[Step, ...]:
    """Steps that take some samples through every layer."""
    parts = [
        LayerPart(k, (0, layer.rows), (0, layer.nnz), layer.sha256) for k, layer in enumerate(manifest.layers)
    ]
    return tuple(
        Step(tuple(parts[start : start + LAYERS_PER_STEP]), share)
        for start in range(0, len(parts), LAYERS_PER_STEP)
    )
