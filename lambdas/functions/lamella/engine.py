"""The only loop there is: for each step, collect the halo, compute, post what the peers need."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lamella.activations import Activations, stack
from lamella.codec import Bases
from lamella.errors import RunError
from lamella.kernel import Layer, Processor, forward
from lamella.mailbox import Mailbox
from lamella.manifest import Manifest
from lamella.memory import GROUP_ENTRIES
from lamella.plan import LayerPart, Range, Step, Task
from lamella.weights import AnyPart

Clock = Callable[[], float]
Span = tuple[int, int, float, float, int]
"""Consecutive layers: the first, the last, seconds reading and computing, and samples that are left live."""


@dataclass(frozen=True)
class StepRecord:
    """What a step took, seconds, and what came of it.

    Attributes
    ----------
    layer
        The step's last.
    wait_s, read_s, compute_s, send_s
        For peers, for weights not read yet, in the kernel, and to encode and post.
    live
        Samples that are not zero in all of this worker's rows.
    first_layer, first_sample
        Of the step's layers and samples.
    began_s
        Unix time.
    letters, sent_bytes
        How many peers it posted something to, and how much.
    spans
        What the kernel took at a time, where that is not the whole step.
    """

    layer: int
    wait_s: float
    read_s: float
    compute_s: float
    send_s: float
    live: int
    first_layer: int = 0
    first_sample: int = 0
    began_s: float = 0.0
    letters: int = 0
    sent_bytes: int = 0
    spans: tuple[Span, ...] = ()


@dataclass
class Progress:
    """What has come of a task's first steps: whoever has it can do the others, and nobody can tell.

    It is consistent between two steps, and while a step waits for its peers.

    Attributes
    ----------
    steps
        How many are done.
    held
        Of each micro-batch that is not through: what its last step gave, the rows of that step's last layer.
    finished
        Of each that is: the task's rows of the model's last layer.
    bases
        What messages are a change against.
    records
        Of the steps that are done.
    """

    steps: int = 0
    held: dict[Range, Activations] = field(default_factory=dict)
    finished: dict[Range, Activations] = field(default_factory=dict)
    bases: Bases = field(default_factory=Bases)
    records: list[StepRecord] = field(default_factory=list)


@dataclass(frozen=True)
class _Held:
    """A micro-batch between two steps: the rows of the layer before that this worker has."""

    rows: NDArray[np.int64]
    block: Activations


def run_task(
    task: Task,
    manifest: Manifest,
    weights: Iterator[AnyPart],
    inputs: Activations,
    mailbox: Mailbox | None,
    observe: Callable[[StepRecord], None],
    clock: Clock = time.monotonic,
    now: Clock = time.time,
    processor: Processor | None = None,
    progress: Progress | None = None,
    keep: Callable[[], None] = lambda: None,
) -> Activations:
    """Walk the steps of a task.

    Parameters
    ----------
    weights
        The parts of what is left of the task (`Task.parts`), in its order, as they arrive.
    inputs
        The features that the task names, of its samples.
    mailbox
        None where the task neither receives nor sends.
    observe
        Called after every step; what it raises ends the task.
    clock, now
        What durations are measured by, and the time of day.
    processor
        What the kernel computes with; by default one thread.
    progress
        Where to go on, and where it is told how far one has come; by default from the beginning.
    keep
        Called after every step, when ``progress`` has it.

    Returns
    -------
    Activations
        Of the task's rows of the model's last layer, and all of its samples; empty if it has none of those.
    """
    features = np.arange(manifest.features) if task.features is None else task.features
    progress = Progress() if progress is None else progress
    rest = task.after(progress.steps)
    rows_held = {step.samples: step.parts[-1].rows for step in task.steps[: progress.steps]}
    ready = _ReadyLayers(manifest, weights, rest.uses)
    left = Counter(step.samples for step in rest.steps)
    for step in rest.steps:
        began, began_s = clock(), now()
        if step.samples in rows_held:
            have = _Held(np.arange(*rows_held[step.samples]), progress.held[step.samples])
        else:
            have = _Held(features, inputs.select(step.samples))
        x = _with_halo(step, have, mailbox, progress.bases)
        received = clock()
        # Nothing else may hold the input: it is as large as the output.
        progress.held.pop(step.samples, None)
        y, read_s = x.block, 0.0
        above = x.rows
        del x, have
        spans: list[Span] = []
        for group in _groups(step.parts):
            asked = clock()
            layers = []
            for part in group:
                layers.append(ready.take(part, above))
                above = np.arange(*part.rows)
            there = clock()
            read_s += there - asked
            timed = _TimedSpans(group, spans, clock, asked, there)
            y = forward(layers, y, step.samples, processor, timed)
            timed.end()
        computed = clock()
        rows = step.parts[-1].rows
        sent_bytes = _post(step, y, rows[0], mailbox, progress.bases)
        left[step.samples] -= 1
        if left[step.samples]:
            rows_held[step.samples], progress.held[step.samples] = rows, y
        elif step.parts[-1].layer == len(manifest.layers) - 1:
            progress.finished[step.samples] = y
        record = StepRecord(
            layer=step.parts[-1].layer,
            wait_s=received - began,
            read_s=read_s,
            compute_s=computed - received - read_s,
            send_s=clock() - computed,
            live=len(y.live),
            first_layer=step.parts[0].layer,
            first_sample=step.samples[0],
            began_s=began_s,
            letters=len(step.send),
            sent_bytes=sent_bytes,
            spans=tuple(spans) if len(spans) > 1 else (),
        )
        progress.steps += 1
        progress.records.append(record)
        observe(record)
        keep()
    return _side_by_side([progress.finished[samples] for samples in sorted(progress.finished)])


class _TimedSpans:
    """Times a group of layers as the kernel goes through it: reading them is told of the first."""

    def __init__(
        self, group: Sequence[LayerPart], spans: list[Span], clock: Clock, asked: float, there: float
    ) -> None:
        self._group, self._spans, self._clock = group, spans, clock
        self._read_s, self._last, self._done = there - asked, there, 0

    def __call__(self, layers: int, live: int) -> None:
        """So many more layers are done."""
        now = self._clock()
        first, last = self._group[self._done].layer, self._group[self._done + layers - 1].layer
        self._spans.append((first, last, self._read_s, now - self._last, live))
        self._read_s, self._last, self._done = 0.0, now, self._done + layers

    def end(self) -> None:
        """The kernel has returned: what it did last was for the last layers."""
        first, last, read_s, compute_s, live = self._spans[-1]
        self._spans[-1] = (first, last, read_s, compute_s + self._clock() - self._last, live)


class _ReadyLayers:
    """Layers in the kernel's form, as their parts arrive, each kept while a later step needs it."""

    def __init__(self, manifest: Manifest, weights: Iterator[AnyPart], uses: Counter[LayerPart]) -> None:
        self._manifest, self._weights, self._left = manifest, weights, uses
        self._kept: dict[LayerPart, tuple[Layer, NDArray[np.int64]]] = {}

    def take(self, part: LayerPart, rows: NDArray[np.int64]) -> Layer:
        """The layer for an input block that holds these rows of the layer before."""
        kept = self._kept.pop(part, None)
        if kept is None:
            kept = _kernel_layer(self._manifest, next(self._weights), rows), rows
        elif not np.array_equal(kept[1], rows):
            raise RunError(f"micro-batches of layer {part.layer} need different rows: start the run again")
        self._left[part] -= 1
        if self._left[part]:
            self._kept[part] = kept
        return kept[0]


def _with_halo(step: Step, have: _Held, mailbox: Mailbox | None, bases: Bases) -> _Held:
    """What this worker has, and below it what its peers send for the step."""
    if not step.receive:
        return have
    assert mailbox is not None
    layer = step.parts[0].layer
    letters = mailbox.collect(layer, step.samples[0], [link.peer for link in step.receive])
    received = [
        bases.decode(layer, step.samples, link.peer, letters[link.peer], len(link.rows))
        for link in step.receive
    ]
    rows = np.concatenate([have.rows, *(link.rows for link in step.receive)])
    return _Held(rows, stack([have.block, *received]))


def _post(step: Step, y: Activations, first_row: int, mailbox: Mailbox | None, bases: Bases) -> int:
    """Send what the peers need next; its bytes."""
    if not step.send:
        return 0
    assert mailbox is not None
    layer = step.parts[-1].layer + 1
    letters = bases.encode(layer, step.samples, y, first_row, step.send)
    mailbox.post(layer, step.samples[0], letters)
    return sum(len(letter) for letter in letters.values())


def _groups(parts: Sequence[LayerPart]) -> Iterator[list[LayerPart]]:
    """Consecutive parts that go through the kernel together, as soon as they are there."""
    group: list[LayerPart] = []
    entries = 0
    for part in parts:
        size = part.entries[1] - part.entries[0]
        if group and entries + size > GROUP_ENTRIES:
            yield group
            group, entries = [], 0
        group.append(part)
        entries += size
    if group:
        yield group


def _kernel_layer(manifest: Manifest, part: AnyPart, rows: NDArray[np.int64]) -> Layer:
    """The part, its indices turned into rows of the input block, which holds ``rows`` of the layer before."""
    layer = manifest.layers[part.layer]
    if np.array_equal(rows, np.arange(layer.columns)):
        return part.for_kernel(layer, None, layer.columns)
    position = np.full(layer.columns, -1, np.int32)
    position[rows] = np.arange(len(rows), dtype=np.int32)
    return part.for_kernel(layer, position, len(rows))


def _side_by_side(blocks: list[Activations]) -> Activations:
    """Micro-batches of the same rows, in the order of their samples."""
    if not blocks:
        return Activations(np.zeros(0, np.int64), np.zeros((0, 0), np.float32))
    if len(blocks) == 1:
        return blocks[0]
    live = np.concatenate([block.live for block in blocks])
    return Activations(live, np.concatenate([block.values for block in blocks], axis=1))
