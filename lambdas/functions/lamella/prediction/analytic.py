"""Workloads of models that are not there: a cut by formula, for sizes that fit no machine at hand."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lamella.memory import LEAST_WINDOW_BYTES, RUNTIME_BYTES
from lamella.plan import Plan
from lamella.prediction.workload import (
    CELL_BYTES,
    Activity,
    Floats,
    Ints,
    LinkTable,
    StepTable,
    Workload,
    letter_bytes,
)

# Rows of the official network that read the same columns, and what a row reads (its generator's rule).
CLASS_ROWS, ROW_ENTRIES = 16, 32
# What `lamella prep` stores for an entry of it: an index; its values are one constant.
ENTRY_BYTES = 2.0


@dataclass(frozen=True)
class Shape:
    """A network whose layers are all alike.

    Attributes
    ----------
    row_entries
        Weights of each row.
    entry_bytes
        Stored for each.
    """

    neurons: int
    layers: int
    row_entries: int = ROW_ENTRIES
    entry_bytes: float = ENTRY_BYTES


@dataclass(frozen=True)
class Halo:
    """What a cut has every worker exchange in a layer.

    Attributes
    ----------
    share
        Rows that all workers together receive, over the layer's rows.
    peers
        From which each receives.
    """

    share: float
    peers: int


def butterfly_halo(neurons: int, workers: int) -> Halo:
    """Of the official network in the order of its classes.

    Class t of layer k reads the classes t and t + 2^(k mod r) of M = N / 16, r = log2 M. A worker that has M
    / P classes in a row lacks min(1, P 2^j / M) of the second ones; the mean over the strides j is the share.
    Every r-th layer the classes are dealt anew, which then is what a good order can't help: both of its reads
    are someone else's.
    """
    if workers <= 1:
        return Halo(0.0, 0)
    classes = max(neurons // CLASS_ROWS, 2)
    strides = max(round(math.log2(classes)), 1)
    near = sum(min(1.0, workers * 2.0**j / classes) for j in range(strides)) / strides
    dealt = 2 * (1 - 1 / workers) / strides
    return Halo(near * (strides - 1) / strides + dealt, min(workers - 1, 2))


def rows_workload(shape: Shape, plan: Plan, activity: Activity, halo: Halo) -> Workload:
    """Every worker with its part of the rows of every layer, and as much to send to each of its peers.

    Under ``samples`` and ``serial``, whole layers, and nothing to send.
    """
    per_group, groups = plan.row_workers, plan.sample_shares
    workers, layers, batches = per_group * groups, shape.layers, plan.micro_batches
    rows = shape.neurons / per_group
    samples = plan.samples / groups / batches
    live = np.array(activity.live[:layers]) * samples
    after = np.array(activity.live[1:]) * samples
    peers = min(halo.peers, per_group - 1)
    halo_rows = halo.share * shape.neurons / per_group
    # Of one worker: layer by layer, in each its micro-batches.
    layer = np.repeat(np.arange(layers), batches)
    batch = np.tile(np.arange(batches), layers)
    first = batch == 0
    receives = (layer > 0) * (peers > 0)
    sends = (layer < layers - 1) * (peers > 0)
    steps = len(layer)
    everyone = np.arange(workers)
    zeros = np.zeros(workers * steps)
    table = StepTable(
        worker=np.repeat(everyone, steps),
        layer=np.tile(layer, workers),
        batch=np.tile(batch, workers),
        layers=np.ones(workers * steps, np.int64),
        sparse=np.tile(rows * shape.row_entries * live[layer], workers),
        dense=zeros,
        read_bytes=np.tile(first * rows * shape.row_entries * shape.entry_bytes, workers),
        encode_bytes=np.tile(sends * CELL_BYTES * halo_rows * after[layer], workers),
        decode_bytes=np.tile(receives * CELL_BYTES * halo_rows * live[layer], workers),
    )
    links = _ring(workers, per_group, steps, batches, peers, halo_rows, after, activity)
    held = 4 * CELL_BYTES * plan.samples / groups * (rows + halo_rows)
    return Workload(
        plan,
        activity,
        table,
        links,
        input_bytes=np.full(
            workers,
            CELL_BYTES * activity.input_density * plan.samples / groups * min(rows * 2, shape.neurons),
        ),
        output_bytes=np.full(workers, CELL_BYTES * plan.samples / groups * rows),
        read_starts=1.0,
        need_bytes=round(RUNTIME_BYTES + LEAST_WINDOW_BYTES + held),
    )


def _ring(
    workers: int,
    per_group: int,
    steps: int,
    batches: int,
    peers: int,
    halo_rows: float,
    after: Floats,
    activity: Activity,
) -> LinkTable:
    """Letters to the next workers of a group, one for each peer, before every layer but the first."""
    everyone = np.arange(workers)
    group, place = everyone // per_group, everyone % per_group
    sender: list[Ints] = []
    receiver: list[Ints] = []
    sizes: list[Ints] = []
    for step in range(steps - batches):
        size = letter_bytes(round(halo_rows / max(peers, 1)), float(after[step // batches]), activity)
        for k in range(1, peers + 1):
            peer = group * per_group + (place + k) % per_group
            sender.append(everyone * steps + step)
            receiver.append(peer * steps + step + batches)
            sizes.append(np.full(workers, size))
    if not sender:
        none = np.zeros(0, np.int64)
        return LinkTable(none, none, none)
    return LinkTable(np.concatenate(sender), np.concatenate(receiver), np.concatenate(sizes))
