"""The paper's: rows of every layer are dealt out, and workers send each other what the next layer needs."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from lamella.manifest import Cut, Manifest
from lamella.plan import LayerPart, Link, Plan, Step, Task


def rows(manifest: Manifest, cut: Cut | None, plan: Plan) -> list[Task]:
    """One step per layer: receive the halo, compute the rows of one's own, send the next layer's halo."""
    assert cut is not None
    assert cut.workers == plan.workers
    everything = (0, plan.samples)
    receive: defaultdict[tuple[int, int], list[Link]] = defaultdict(list)
    send: defaultdict[tuple[int, int], list[Link]] = defaultdict(list)
    for (layer, receiver), sources in cut.halo.items():
        for sender, numbers in sources:
            if layer:
                receive[layer, receiver].append(Link(sender, numbers))
                send[layer - 1, sender].append(Link(receiver, numbers))
    tasks = []
    for worker in range(plan.workers):
        steps = tuple(
            Step(
                (LayerPart(k, cut.rows(k, worker), cut.entries(k, worker), cut.digest(k, worker)),),
                everything,
                tuple(receive[k, worker]),
                tuple(send[k, worker]),
            )
            for k in range(len(manifest.layers))
        )
        needed = [numbers for _, numbers in cut.halo.get((0, worker), [])]
        features = needed[0] if needed else np.zeros(0, np.int64)
        tasks.append(Task(worker, everything, features, steps))
    return tasks
