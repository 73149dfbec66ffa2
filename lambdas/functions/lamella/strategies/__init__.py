"""How the work is cut: each strategy is a pure function of manifest, cut and plan to one task per worker."""

from __future__ import annotations

from collections.abc import Callable

from lamella.manifest import Cut, Manifest
from lamella.plan import Plan, StrategyName, Task
from lamella.strategies.rows import rows
from lamella.strategies.samples import samples
from lamella.strategies.serial import serial

Strategy = Callable[[Manifest, Cut | None, Plan], list[Task]]

STRATEGIES: dict[StrategyName, Strategy] = {"serial": serial, "samples": samples, "rows": rows}
NEEDS_CUT: frozenset[StrategyName] = frozenset({"rows"})

__all__ = ["NEEDS_CUT", "STRATEGIES", "Strategy"]
