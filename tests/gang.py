"""Run a prepared model in this process: workers are threads, and talk through memory."""

from __future__ import annotations

import time
from collections.abc import Sequence
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
from lamella.records import PlanRecord, Share
from lamella.shares import share_from_bytes, share_to_bytes
from lamella.states.collect import finished, merge, source_rows
from lamella.strategies import NEEDS_CUT, STRATEGIES
from lamella.streaming import WeightStream
from lamella.tiles import read_tiles


def plan_record(plan: Plan, tasks: Sequence[Task]) -> PlanRecord:
    """What Plan would leave."""
    shares = tuple(Share(task.rows, task.samples) for task in tasks)
    return PlanRecord("run", 1, {}, plan, "model", 0, 0.0, 0.0, shares, {})


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
    output = finished(merge(parts, plan_record(plan, tasks), source_rows(files, last)), last, batch.samples)
    dense = np.zeros((batch.samples, manifest.outputs), np.float32)
    dense[output.live] = output.values.T
    return dense, records


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
