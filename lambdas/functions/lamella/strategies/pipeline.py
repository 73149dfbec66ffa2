"""Every worker has a block of layers, and passes all rows of its last one on to the next worker.

Only with micro-batches do workers compute at the same time: one has the second while the next has the first.
"""

from __future__ import annotations

from collections.abc import Sequence

from lamella.manifest import Manifest
from lamella.plan import Plan, Range
from lamella.strategies.portions import Portion


def pipeline(manifest: Manifest, plan: Plan) -> tuple[Portion, ...]:
    """A block of layers to each, for all samples; work is counted in weights and rows, for every sample."""
    work = [layer.nnz + layer.rows for layer in manifest.layers]
    return tuple(Portion(block, (0, plan.samples)) for block in blocks(work, plan.workers))


def blocks(work: Sequence[int], workers: int) -> list[Range]:
    """Consecutive things in so many blocks, none empty, of which the heaviest is as light as can be.

    Parameters
    ----------
    work
        Of each thing, at least 0; at least as many as there are workers.
    """
    # The least limit that so many blocks keep, by bisection; each block is filled up to it.
    low, high = max(work), sum(work)
    while low < high:
        middle = (low + high) // 2
        if len(_filled(work, middle)) <= workers:
            high = middle
        else:
            low = middle + 1
    return _filled(work, low, workers)


def _filled(work: Sequence[int], limit: int, least: int = 1) -> list[Range]:
    """As few blocks as a limit allows, but at least so many."""
    found: list[Range] = []
    start = filled = 0
    for k, size in enumerate(work):
        few = len(work) - k == least - len(found) - 1
        if k > start and (filled + size > limit or few):
            found.append((start, k))
            start, filled = k, 0
        filled += size
    return [*found, (start, len(work))]
