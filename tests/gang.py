"""Run a prepared model in this process: workers are threads, and talk through memory."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lamella.abort import AbortWatch
from lamella.activations import Activations
from lamella.channels.memory import MemoryChannel, MemoryHub
from lamella.engine import StepRecord, run_task
from lamella.files import Directory
from lamella.inputs import Batch
from lamella.mailbox import Mailbox
from lamella.manifest import Manifest, read_cut, read_manifest
from lamella.plan import Assignment, Plan, StrategyName, Task, parse_assignment
from lamella.predictions import source_rows
from lamella.records import Share
from lamella.shares import share_from_bytes, share_to_bytes
from lamella.strategies import NEEDS_CUT, STRATEGIES
from lamella.streaming import WeightStream
from lamella.tiles import read_tiles
from tests.parts import collected


def through_bytes(task: Task) -> Task:
    """The task as a worker reads it."""
    assignment = Assignment("run", 1, 1, "s3://b/m/", "0" * 64, None, 0.0, task)
    return parse_assignment(assignment.to_bytes(), "task").task


def infer(
    model: Path, batch: Batch, strategy: StrategyName = "serial", workers: int = 1
) -> tuple[NDArray[np.float32], list[list[StepRecord]]]:
    """All activations (samples x outputs) under a strategy, and each worker's steps."""
    files = Directory(model)
    manifest = read_manifest(files)
    plan = Plan(strategy, "memory", workers, 1024, batch.samples)
    cut = read_cut(files, manifest, workers) if strategy in NEEDS_CUT else None
    tasks = [through_bytes(task) for task in STRATEGIES[strategy](manifest, cut, plan)]
    hub = MemoryHub(workers)
    records: list[list[StepRecord]] = [[] for _ in tasks]

    def work(task: Task) -> Activations:
        with WeightStream(files, manifest, read_tiles(files, manifest), task.parts) as weights:
            return run_task(
                task,
                manifest,
                weights,
                _share(batch, manifest, task),
                _mailbox(hub, task.worker),
                records[task.worker].append,
            )

    with ThreadPoolExecutor(workers) as pool:
        parts = list(pool.map(work, tasks))
    last = manifest.layers[-1]
    shares = [Share(task.rows, task.samples) for task in tasks]
    order = source_rows(files, last)
    output = collected(parts, shares, batch.samples, order, softmaxed=last.activation == "softmax")
    return output, records


def _share(batch: Batch, manifest: Manifest, task: Task) -> Activations:
    rows = manifest.features if task.features is None else len(task.features)
    return share_from_bytes(share_to_bytes(batch, task.features, task.samples), rows, task.samples, "input")


def _mailbox(hub: MemoryHub, worker: int) -> Mailbox:
    return Mailbox(
        MemoryChannel(hub, worker),
        "run",
        1,
        worker,
        clock=time.time,
        deadline_s=time.time() + 60,
        watch=AbortWatch("run", lambda: False, time.time),
    )
