"""What each worker of a plan does, counted: the tasks that the engine walks, as tables.

Which samples live, and how far a message shrinks, a manifest does not know: that is an `Activity`, which has
a name, so that whatever is predicted can say what it assumed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lamella.channels.estimates import Send
from lamella.cut import Cut
from lamella.manifest import Manifest
from lamella.memory import memory_need_bytes, stored_bytes
from lamella.plan import LayerPart, Plan, Step, Task
from lamella.strategies import tasks_of

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ALL_ALIVE = "every sample lives through every layer, and each of its activations takes two bytes of a message"
CELL_BYTES = 4  # of an activation: float32
# In a message, of activations that are all different and of which ReLU made half zero; those of alive:1024x24
# take 1.65.
SENT_CELL_BYTES = 2.0
# Of a letter, beside its cells: shape, which samples live, and how the rest is written (lamella.codec).
LETTER_BYTES = 32


@dataclass(frozen=True)
class Activity:
    """How much of the work is alive.

    Attributes
    ----------
    name
        What it is taken from; printed with every prediction.
    live : (layers + 1,)
        Share of the samples that are not all zero in the input of each layer; the last is the output's.
    cell_bytes
        Of a message, for each row of a live sample.
    input_density
        Share of the input's cells that are not zero.
    """

    name: str
    live: tuple[float, ...]
    cell_bytes: float = SENT_CELL_BYTES
    input_density: float = 1.0

    @classmethod
    def all_alive(cls, layers: int) -> Activity:
        """What is assumed of a model that nobody has run: all the work that there can be."""
        return cls(ALL_ALIVE, (1.0,) * (layers + 1))


@dataclass(frozen=True)
class StepTable:
    """Every step of every worker, worker by worker in their order: an array each, as long as there are steps.

    Attributes
    ----------
    worker, layer, batch
        Whose it is, the first layer that it computes, and which of the worker's micro-batches.
    layers
        How many it computes.
    sparse, dense
        Products of a weight and a live activation, by the kind of layer.
    read_bytes
        Of weights that it is the first to use.
    encode_bytes, decode_bytes
        Live activations sent and received, four bytes each.
    """

    worker: Ints
    layer: Ints
    batch: Ints
    layers: Ints
    sparse: Floats
    dense: Floats
    read_bytes: Floats
    encode_bytes: Floats
    decode_bytes: Floats


@dataclass(frozen=True)
class LinkTable:
    """Every letter: the steps that send and need it, as rows of the `StepTable`, and its bytes."""

    sender: Ints
    receiver: Ints
    bytes: Ints


@dataclass(frozen=True)
class Workload:
    """What a run does.

    Attributes
    ----------
    input_bytes, output_bytes : (workers,)
        Of activations, four bytes each, that are not zero; and of all final ones.
    read_starts
        Ranged reads of weights that a worker can't do without.
    need_bytes
        Memory that the hungriest worker needs.
    """

    plan: Plan
    activity: Activity
    steps: StepTable
    links: LinkTable
    input_bytes: Floats
    output_bytes: Floats
    read_starts: float
    need_bytes: int

    def planned(self, plan: Plan) -> Workload:
        """The same work under a plan with another memory or channel."""
        return replace(self, plan=plan)

    @property
    def workers(self) -> int:
        return len(self.input_bytes)

    @cached_property
    def sends(self) -> tuple[Send, ...]:
        """What each step posts, as a channel prices it."""
        letters: dict[int, dict[int, int]] = {}
        receivers = self.steps.worker[self.links.receiver].tolist()
        for sender, peer, size in zip(
            self.links.sender.tolist(), receivers, self.links.bytes.tolist(), strict=True
        ):
            letters.setdefault(sender, {})[peer] = size
        place = {step: int(self.links.receiver[i]) for i, step in enumerate(self.links.sender.tolist())}
        return tuple(
            Send(
                int(self.steps.worker[step]),
                (int(self.steps.layer[place[step]]), int(self.steps.batch[step])),
                sizes,
            )
            for step, sizes in letters.items()
        )

    @cached_property
    def letters_out(self) -> Ints:
        """Of each step."""
        return self._per_step(self.links.sender)

    @cached_property
    def letters_in(self) -> Ints:
        """Of each step."""
        return self._per_step(self.links.receiver)

    @cached_property
    def bytes_out(self) -> Floats:
        """Of each step."""
        return self._sum(self.links.sender)

    @cached_property
    def bytes_in(self) -> Floats:
        """Of each step."""
        return self._sum(self.links.receiver)

    def of_workers(self, per_step: NDArray[np.generic]) -> Floats:
        """Sums by worker of something that each step has."""
        return np.bincount(self.steps.worker, per_step.astype(np.float64), self.workers).astype(np.float64)

    def _per_step(self, steps: Ints) -> Ints:
        return np.bincount(steps, minlength=len(self.steps.worker))

    def _sum(self, steps: Ints) -> Floats:
        sums = np.bincount(steps, self.links.bytes.astype(np.float64), len(self.steps.worker))
        return sums.astype(np.float64)


def workload_of(manifest: Manifest, cut: Cut | None, plan: Plan, activity: Activity) -> Workload:
    """Count a plan's work.

    Parameters
    ----------
    cut
        As `lamella.strategies.tasks_of` takes it.
    """
    tasks = tasks_of(manifest, cut, plan)
    return of_tasks(tasks, manifest, plan, activity)


def of_tasks(tasks: Sequence[Task], manifest: Manifest, plan: Plan, activity: Activity) -> Workload:
    """The same, of tasks that are there."""
    rows: list[tuple[float, ...]] = []
    at: dict[tuple[int, int, int], int] = {}  # step by worker, first layer and first sample
    letters: list[tuple[int, tuple[int, int, int], int]] = []
    for task in tasks:
        used: set[LayerPart] = set()
        batches = {start: i for i, start in enumerate(sorted({step.samples[0] for step in task.steps}))}
        for step in task.steps:
            number = len(rows)
            first = step.parts[0].layer
            at[task.worker, first, step.samples[0]] = number
            rows.append(
                (task.worker, first, batches[step.samples[0]], *_work(step, manifest, activity, used))
            )
            next_layer = step.parts[-1].layer + 1
            live = _live(activity, next_layer, step)
            letters += [
                (
                    number,
                    (link.peer, next_layer, step.samples[0]),
                    letter_bytes(len(link.rows), live, activity),
                )
                for link in step.send
            ]
    columns = np.array(rows, np.float64).T
    links = LinkTable(
        np.array([sender for sender, _, _ in letters], np.int64),
        np.array([at[target] for _, target, _ in letters], np.int64),
        np.array([size for _, _, size in letters], np.int64),
    )
    return Workload(
        plan,
        activity,
        StepTable(*(column.astype(np.int64) for column in columns[:4]), *columns[4:]),
        links,
        np.array([_input_bytes(task, manifest, activity) for task in tasks]),
        np.array(
            [
                float(CELL_BYTES) * (task.rows[1] - task.rows[0]) * (task.samples[1] - task.samples[0])
                for task in tasks
            ]
        ),
        read_starts=1.0,
        need_bytes=memory_need_bytes(tasks, manifest),
    )


def letter_bytes(rows: int, live: float, activity: Activity) -> int:
    """What a letter with so many rows of so many live samples takes."""
    return LETTER_BYTES + round(rows * live * activity.cell_bytes)


def _live(activity: Activity, layer: int, step: Step) -> float:
    return activity.live[layer] * (step.samples[1] - step.samples[0])


def _work(step: Step, manifest: Manifest, activity: Activity, used: set[LayerPart]) -> tuple[float, ...]:
    """A step's row of the table, from ``layers`` on; marks its parts as used."""
    products: Mapping[bool, list[float]] = {False: [0.0], True: [0.0]}
    read = 0.0
    for part in step.parts:
        layer = manifest.layers[part.layer]
        entries = part.entries[1] - part.entries[0]
        products[layer.dense is not None].append(entries * _live(activity, part.layer, step))
        if part not in used:
            used.add(part)
            read += stored_bytes(layer, part)
    sent = sum(len(link.rows) for link in step.send) * _live(activity, step.parts[-1].layer + 1, step)
    received = sum(len(link.rows) for link in step.receive) * _live(activity, step.parts[0].layer, step)
    return (
        float(len(step.parts)),
        sum(products[False]),
        sum(products[True]),
        read,
        CELL_BYTES * sent,
        CELL_BYTES * received,
    )


def _input_bytes(task: Task, manifest: Manifest, activity: Activity) -> float:
    features = manifest.features if task.features is None else len(task.features)
    return CELL_BYTES * activity.input_density * features * (task.samples[1] - task.samples[0])
