"""Every worker has the whole model and a share of the samples; no messages."""

from __future__ import annotations

from lamella.manifest import Manifest
from lamella.plan import Plan
from lamella.strategies.portions import Portion, even_ranges


def samples(manifest: Manifest, plan: Plan) -> tuple[Portion, ...]:
    """Shares of as many samples each; which samples those are is `lamella.strategies.dealing`'s."""
    every_layer = (0, len(manifest.layers))
    return tuple(Portion(every_layer, share) for share in even_ranges(plan.samples, plan.workers))
