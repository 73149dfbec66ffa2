"""The paper's: rows of every layer are dealt out, and workers send each other what the next layer needs."""

from __future__ import annotations

from lamella.manifest import Manifest
from lamella.plan import Plan
from lamella.strategies.portions import Portion


def rows(manifest: Manifest, plan: Plan) -> tuple[Portion, ...]:
    """A part of the cut for so many workers to each, for all samples."""
    everything = (0, len(manifest.layers)), (0, plan.samples)
    return tuple(Portion(*everything, part) for part in range(plan.workers))
