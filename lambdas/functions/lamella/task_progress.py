"""How far a worker is with its task."""

from __future__ import annotations

from lamella.engine import StepRecord
from lamella.plan import Range, Task


class TaskProgress:
    """Counts layers of the task's own; of micro-batches, each is a share of a layer.

    Attributes
    ----------
    layers
        How many layers the task has anything of.
    live
        Samples that were not all zero when they were last computed, of those that were.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._steps = self._parts = 0
        self._all_parts = sum(task.uses.values())
        self._live: dict[Range, int] = {}
        self.layers = len(task.parts)

    def add(self, record: StepRecord) -> None:
        """The next step is done."""
        step = self._task.steps[self._steps]
        self._steps += 1
        self._parts += len(step.parts)
        self._live[step.samples] = record.live

    @property
    def layer(self) -> int:
        """Layers done."""
        return self.layers * self._parts // self._all_parts

    @property
    def live(self) -> int:
        return sum(self._live.values())
