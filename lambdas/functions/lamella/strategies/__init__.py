"""How the work is cut: a strategy says which worker owns what, and `build` makes tasks of that."""

from __future__ import annotations

from collections.abc import Callable

from lamella.cut import Cut
from lamella.manifest import Manifest
from lamella.plan import Plan, StrategyName, Task
from lamella.strategies.hybrid import hybrid
from lamella.strategies.pipeline import pipeline
from lamella.strategies.portions import Portion
from lamella.strategies.rows import rows
from lamella.strategies.samples import samples
from lamella.strategies.serial import serial
from lamella.strategies.tasks import build

Strategy = Callable[[Manifest, Plan], tuple[Portion, ...]]

STRATEGIES: dict[StrategyName, Strategy] = {
    "serial": serial,
    "samples": samples,
    "rows": rows,
    "pipeline": pipeline,
    "hybrid": hybrid,
}
NEEDS_CUT: frozenset[StrategyName] = frozenset({"rows", "hybrid"})
TALKS: frozenset[StrategyName] = frozenset({"rows", "pipeline", "hybrid"})


def tasks_of(manifest: Manifest, cut: Cut | None, plan: Plan) -> list[Task]:
    """Every worker's task under a plan.

    Parameters
    ----------
    cut
        For ``plan.row_workers`` workers, if that is more than one.
    """
    return build(manifest, cut, STRATEGIES[plan.strategy](manifest, plan), plan.micro_batches)


__all__ = ["NEEDS_CUT", "STRATEGIES", "TALKS", "Portion", "Strategy", "build", "tasks_of"]
