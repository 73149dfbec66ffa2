"""Rows x samples: groups of workers have a share of the samples each, and share the rows as ``rows`` does."""

from __future__ import annotations

from lamella.manifest import Manifest
from lamella.plan import Plan
from lamella.strategies.portions import Portion, even_ranges


def hybrid(manifest: Manifest, plan: Plan) -> tuple[Portion, ...]:
    """Worker ``group * p + part`` has a part of the cut for p workers, and its group's samples.

    p is the smallest cut, of 2 parts or more, that divides the number of all workers and whose workers fit
    their memory: the fewer share the rows, the less they send.
    """
    every_layer = (0, len(manifest.layers))
    return tuple(
        Portion(every_layer, share, part)
        for share in even_ranges(plan.samples, plan.groups)
        for part in range(plan.row_workers)
    )
