"""Run a prepared model in this process: workers are threads, and talk through memory."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lamella.abort import AbortWatch
from lamella.activations import Activations
from lamella.channels.memory import MemoryChannel, MemoryHub
from lamella.cut import read_cut
from lamella.deadline import Deadline
from lamella.dealing import Dealing
from lamella.engine import StepRecord, run_task
from lamella.files import Directory
from lamella.inputs import Batch
from lamella.mailbox import Mailbox
from lamella.manifest import Manifest, read_manifest
from lamella.plan import Assignment, Plan, StrategyName, Task, parse_assignment
from lamella.predictions import source_rows
from lamella.records import Share
from lamella.shares import share_from_bytes, share_to_bytes
from lamella.strategies import tasks_of
from lamella.streaming import WeightStream
from lamella.tiles import read_tiles
from tests.parts import collected


def through_bytes(task: Task) -> Task:
    """The task as a worker reads it."""
    assignment = Assignment("run", 1, 1, "s3://b/m/", "0" * 64, None, 0.0, task)
    return parse_assignment(assignment.to_bytes(), "task").task


@dataclass(frozen=True)
class GangPlan:
    """Of what a plan says, what it takes to run here."""

    strategy: StrategyName
    workers: int = 1
    micro_batches: int = 1
    groups: int = 1

    def of(self, samples: int) -> Plan:
        """The whole plan."""
        return Plan(self.strategy, "memory", self.workers, 1024, samples, self.micro_batches, self.groups)


def infer(
    model: Path, batch: Batch, strategy: StrategyName = "serial", workers: int = 1
) -> tuple[NDArray[np.float32], list[list[StepRecord]]]:
    """All activations (samples x outputs) under a strategy, and each worker's steps."""
    return infer_planned(model, batch, GangPlan(strategy, workers))


def infer_planned(
    model: Path, batch: Batch, planned: GangPlan, dealing: Dealing | None = None
) -> tuple[NDArray[np.float32], list[list[StepRecord]]]:
    """The same under any plan; a batch that is dealt is reordered."""
    if dealing is not None and dealing.numbers is not None:
        batch.reorder(dealing.numbers)
    files = Directory(model)
    manifest = read_manifest(files)
    plan = planned.of(batch.samples)
    cut = read_cut(files, manifest, plan.row_workers) if plan.row_workers > 1 else None
    tasks = [through_bytes(task) for task in tasks_of(manifest, cut, plan)]
    hub = MemoryHub(plan.workers)
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

    with ThreadPoolExecutor(plan.workers) as pool:
        parts = list(pool.map(work, tasks))
    last = manifest.layers[-1]
    shares = [Share(task.rows, task.samples) for task in tasks]
    order = source_rows(files, last)
    output = collected(parts, shares, batch.samples, order, dealing, softmaxed=last.activation == "softmax")
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
        deadline=Deadline.after(60),
        watch=AbortWatch("run", lambda: False, time.monotonic),
    )
