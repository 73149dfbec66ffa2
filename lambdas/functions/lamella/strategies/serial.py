"""One worker, no messages."""

from __future__ import annotations

from lamella.manifest import Manifest
from lamella.plan import Plan
from lamella.strategies.portions import Portion


def serial(manifest: Manifest, plan: Plan) -> tuple[Portion, ...]:
    """Every layer and every sample to one worker."""
    return (Portion((0, len(manifest.layers)), (0, plan.samples)),)
