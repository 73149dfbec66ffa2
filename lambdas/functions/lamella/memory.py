"""What a worker's memory is for: pure arithmetic over its task.

``runtime + activations + letters + layers in the kernel's form + window + blocks kept for later runs``; all
but the last must fit, and the window is at least a few reads long. A worker of a pipeline with micro-batches
keeps all layers of its block in the kernel's form; all others, those of a step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from lamella.manifest import Layer, Manifest
from lamella.outbox import MOST_BYTES, MOST_POSTS
from lamella.plan import LayerPart, Link, Range, Task

RUNTIME_BYTES = 220 << 20  # Python, numpy and boto3, as measured in a worker
LEAST_WINDOW_BYTES = 64 << 20
MOST_WINDOW_BYTES = 128 << 20
# Weights that are in the form of the kernel at the same time; a larger layer goes alone.
GROUP_ENTRIES = 1 << 21
_KERNEL_ENTRY_BYTES = 8  # an int32 index and a float32 value
_KERNEL_ROW_BYTES = 16
# What the codec takes for a letter, over the bytes of its activations, and beside that.
_CODEC_TIMES = 4
_CODEC_BYTES = 16 << 20


@dataclass(frozen=True)
class WeightMemory:
    """What a worker's weights may take.

    Attributes
    ----------
    window_bytes
        Read ahead of the computation.
    cache_bytes
        Kept for later runs.
    """

    window_bytes: int
    cache_bytes: int


def memory_need_bytes(tasks: Sequence[Task], manifest: Manifest) -> int:
    """Of the hungriest worker, however many layers the model has."""
    return max(_fixed_bytes(task, manifest) + LEAST_WINDOW_BYTES for task in tasks)


def weight_memory(task: Task, manifest: Manifest, memory_mb: int) -> WeightMemory:
    """How a worker spends the memory that its task leaves: first on the window, then on the cache."""
    spare = (memory_mb << 20) - _fixed_bytes(task, manifest)
    window = min(max(spare, LEAST_WINDOW_BYTES), MOST_WINDOW_BYTES)
    return WeightMemory(window, max(0, spare - window))


def _fixed_bytes(task: Task, manifest: Manifest) -> int:
    activations = _activation_bytes(task, manifest.features) + _letter_bytes(task)
    return RUNTIME_BYTES + activations + _kernel_bytes(task, manifest)


def _letter_bytes(task: Task) -> int:
    """What waits to be sent, and one letter that is being encoded or decoded, if none can be made shorter."""
    posted = largest = 0
    for step in task.steps:
        sample_bytes = 4 * (step.samples[1] - step.samples[0])
        # Peers that are sent the same rows are sent the same letter.
        letters = {id(link.rows): link for link in step.send}.values()
        posted = max(posted, sample_bytes * sum(len(link.rows) for link in letters))
        longest = max(map(_rows, (*step.receive, *step.send)), default=0)
        largest = max(largest, sample_bytes * longest)
    if not largest:
        return 0
    under_way = min(MOST_POSTS * posted, max(MOST_BYTES, posted))
    return under_way + _CODEC_TIMES * largest + _CODEC_BYTES


def _rows(link: Link) -> int:
    return len(link.rows)


def _activation_bytes(task: Task, features: int) -> int:
    """A step's input and output, each twice; with micro-batches, also the input and what others wait with."""
    most = waiting = 0
    held: dict[Range, int] = {}
    left = Counter(step.samples for step in task.steps)
    inputs = features if task.features is None else len(task.features)
    for step in task.steps:
        samples = step.samples[1] - step.samples[0]
        before = held.get(step.samples, 0)
        waiting -= before * samples
        came = (before or inputs) + sum(len(link.rows) for link in step.receive)
        have = max(part.rows[1] - part.rows[0] for part in step.parts)
        most = max(most, 4 * waiting + 2 * 4 * samples * (came + have))
        left[step.samples] -= 1
        held[step.samples] = have if left[step.samples] or task.rows != (0, 0) else 0
        waiting += held[step.samples] * samples
    if len(held) == 1:
        return most
    count = task.samples[1] - task.samples[0]
    # In the end they are put side by side.
    return 4 * count * inputs + max(most, 2 * 4 * count * (task.rows[1] - task.rows[0]))


def _kernel_bytes(task: Task, manifest: Manifest) -> int:
    """The largest layer, as it is read and as the kernel has it; or as many small ones as go together.

    Beside those, what is kept for later steps.
    """
    largest = kept = 0
    uses = task.uses
    left = dict(uses)
    for step in task.steps:
        for part in step.parts:
            entries, rows = part.entries[1] - part.entries[0], part.rows[1] - part.rows[0]
            layer = manifest.layers[part.layer]
            # Dense weights are used as they are stored.
            size = (layer.entry_bytes if layer.dense else _KERNEL_ENTRY_BYTES) * entries
            if left[part] == uses[part]:
                ready = max(size, _KERNEL_ENTRY_BYTES * GROUP_ENTRIES) + _KERNEL_ROW_BYTES * rows
                largest = max(largest, kept + ready + stored_bytes(layer, part))
                kept += size + _KERNEL_ROW_BYTES * rows if uses[part] > 1 else 0
            left[part] -= 1
            if not left[part] and uses[part] > 1:
                kept -= size + _KERNEL_ROW_BYTES * rows
    return largest


def stored_bytes(layer: Layer, part: LayerPart) -> int:
    """Bytes of a part as it is stored."""
    entries, rows = part.entries[1] - part.entries[0], part.rows[1] - part.rows[0]
    return entries * layer.entry_bytes + rows * layer.row_bytes
