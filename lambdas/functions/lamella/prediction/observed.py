"""What a run showed of a model's activity, for the predictions of those to come: pure, over its records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from pydantic import TypeAdapter, ValidationError

from lamella.errors import MessageError
from lamella.messages import HEADER_BYTES
from lamella.prediction.workload import LETTER_BYTES, Activity, Workload
from lamella.records import PlanRecord, WorkerReport
from lamella.usage import Usage

_ACTIVITY = TypeAdapter(Activity)
# What carries letters; each is of one channel.
_CARRIERS = ("sns.publish_batch", "sqs.send_message_batch")
_LEAST_CELL_BYTES = 0.01


def observed_activity(record: PlanRecord, reports: Sequence[WorkerReport], layers: int) -> Activity:
    """Which share of the samples lived, by layer, as the run's workers saw it.

    Each worker knows which samples are not zero in its own rows: of those that share samples, the one that
    saw most counts. Between the layers that end a step, what lived is interpolated.
    """
    seen: defaultdict[tuple[int, int], list[dict[int, int]]] = defaultdict(list)
    for report in reports:
        by_layer: defaultdict[int, int] = defaultdict(int)
        for step in report.steps:  # micro-batches add up
            by_layer[step[0]] += step[5]
        seen[record.shares[report.worker].samples].append(by_layer)
    known: defaultdict[int, float] = defaultdict(float)
    for workers in seen.values():
        for layer in set().union(*workers):
            known[layer] += max(by_layer.get(layer, 0) for by_layer in workers)
    samples = record.plan.samples
    # Layer k's output is layer k + 1's input; of the batch itself, nothing is known to be dead.
    at = [0, *(layer + 1 for layer in sorted(known))]
    shares = [1.0, *(min(known[layer] / samples, 1.0) for layer in sorted(known))]
    live = np.interp(np.arange(layers + 1), at, shares)
    return Activity(f"what lived in run {record.run}", tuple(live.tolist()))


def with_letters(activity: Activity, workload: Workload, usage: Usage) -> Activity:
    """The same, with the bytes that the run's letters took for each activation; as it is if it had none.

    Parameters
    ----------
    workload
        The run's, under this activity.
    usage
        The run's, of every service.
    """
    letters = len(workload.links.bytes)
    sent = sum(usage.count(name).bytes for name in _CARRIERS)
    cells = (float(workload.links.bytes.sum()) - LETTER_BYTES * letters) / activity.cell_bytes
    if not letters or not sent or cells <= 0:
        return activity
    cell_bytes = (sent - (LETTER_BYTES + HEADER_BYTES) * letters) / cells
    return replace(activity, cell_bytes=max(cell_bytes, _LEAST_CELL_BYTES))


def activity_to_json(activity: Activity) -> bytes:
    """As it is left beside a model."""
    return _ACTIVITY.dump_json(activity)


def activity_from_json(data: bytes, where: str, layers: int) -> Activity:
    """Read what `activity_to_json` wrote.

    Raises
    ------
    MessageError
        If it is something else, or of a model with other layers.
    """
    try:
        activity = _ACTIVITY.validate_json(data)
    except ValidationError as error:
        raise MessageError(f"{where} is no activity: {error.errors()[0]['msg']}") from error
    shares = (*activity.live, activity.input_density)
    if len(activity.live) != layers + 1 or not all(0 <= share <= 1 for share in shares):
        raise MessageError(f"{where} is not the activity of a model with {layers} layers")
    return activity
