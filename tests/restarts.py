"""A gang in this process whose workers die, or are started twice, as often as a test says.

Each start does what state Worker does, in its order, over a channel and an S3 in memory.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lamella.abort import AbortWatch
from lamella.activations import Activations
from lamella.channels import Delivery
from lamella.channels.memory import MemoryChannel, MemoryHub
from lamella.checkpoint import received_until
from lamella.checkpointer import Checkpointer
from lamella.cut import read_cut
from lamella.deadline import Deadline
from lamella.engine import StepRecord, run_task
from lamella.errors import Superseded
from lamella.files import Directory
from lamella.incarnation import take_over
from lamella.inputs import Batch
from lamella.letters import COMING, GOING
from lamella.mailbox import Mailbox
from lamella.manifest import read_manifest
from lamella.plan import Task
from lamella.predictions import source_rows
from lamella.records import Share
from lamella.shares import share_from_bytes, share_to_bytes
from lamella.strategies import tasks_of
from lamella.streaming import WeightStream
from lamella.tiles import read_tiles
from lamella.usage import Usage
from tests.gang import GangPlan, through_bytes
from tests.memory_s3 import MemoryS3
from tests.parts import collected

VISIBILITY_S = 0.3
PATIENCE_S = 40.0


class Killed(BaseException):
    """A worker's process is gone."""


# Called after every step of a start with how many steps are done; what it raises is the start's end.
Fate = Callable[[int], None]


class _NotingChannel(MemoryChannel):
    """Says when anything is acknowledged."""

    def __init__(self, hub: MemoryHub, worker: int, note: Callable[[], None]) -> None:
        super().__init__(hub, worker, visibility_s=VISIBILITY_S)
        self._note = note

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        if deliveries:
            self._note()
        super().acknowledge(deliveries)


@dataclass
class RestartedGang:
    """The workers of one run.

    Attributes
    ----------
    parts
        What each worker has left of the output; the first that it left.
    acknowledged
        By worker: the numbers of the starts that acknowledged anything, in order.
    incarnations
        By worker: the highest number of a start.
    """

    model: Path
    batch: Batch
    planned: GangPlan
    s3: MemoryS3 = field(default_factory=MemoryS3)
    parts: dict[int, Activations] = field(default_factory=dict)
    acknowledged: dict[int, list[int]] = field(default_factory=dict)
    incarnations: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._files = Directory(self.model)
        self._manifest = read_manifest(self._files)
        plan = self.planned.of(self.batch.samples)
        cut = read_cut(self._files, self._manifest, plan.row_workers) if plan.row_workers > 1 else None
        self.tasks = [through_bytes(task) for task in tasks_of(self._manifest, cut, plan)]
        self._hub = MemoryHub(len(self.tasks))

    @property
    def talks(self) -> bool:
        """Whether workers exchange anything."""
        return any(step.receive or step.send for task in self.tasks for step in task.steps)

    def start(self, worker: int, fate: Fate) -> None:
        """One start of a worker, to its end."""
        task, bucket = self.tasks[worker], self.s3.bucket()
        incarnation, left = take_over(bucket, f"{worker}", task, "stream", time.time(), lambda: True)
        number = left.start.incarnation
        self.incarnations[worker] = max(number, self.incarnations.get(worker, 0))
        if number > 1 and worker in self.parts:
            return
        box = self._mailbox(worker, number, incarnation.check) if self.talks else None
        try:
            keeper = Checkpointer(incarnation, left, len(task.steps), box, Usage)
            if box:
                met = {(COMING, peer) for peer in range(len(self.tasks))} | {(GOING, 0)}
                taken = received_until(task, left.progress.steps)
                box.go_on(taken | met if left.progress.steps else taken, left.letters, left.objects_left)
                box.meanwhile(keeper.waiting)
            rest = task.after(left.progress.steps)
            tiles = read_tiles(self._files, self._manifest)
            with WeightStream(self._files, self._manifest, tiles, rest.parts) as weights:
                if box and not left.progress.steps:
                    box.barrier(len(self.tasks), Deadline.after(PATIENCE_S), again=number > 1)

                def observe(_: StepRecord) -> None:
                    fate(left.progress.steps)

                output = run_task(
                    task,
                    self._manifest,
                    weights,
                    self._input(task),
                    box,
                    observe,
                    progress=left.progress,
                    keep=keeper.step_done,
                )
            if box:
                box.flush()
            keeper.end()
            self.parts.setdefault(worker, output)
            fate(len(task.steps) + 1)
            keeper.end()
            if box:
                box.close()
        except BaseException:
            if box:
                # A process that dies sends nothing more; what it held comes again, later.
                box._outbox.abort()
            raise

    def run(self, fates: Mapping[int, Sequence[Fate]], *, at_once: bool = False) -> None:
        """Start every worker until it is done.

        Parameters
        ----------
        fates
            What becomes of each of a worker's starts; of further ones, nothing.
        at_once
            Whether a worker's starts are not one after the other.
        """

        def one(worker: int, fate: Fate) -> None:
            with contextlib.suppress(Killed, Superseded):
                self.start(worker, fate)

        def whole(worker: int) -> None:
            mine = list(fates.get(worker, ()))
            if at_once and mine:
                with ThreadPoolExecutor(len(mine)) as pool:
                    list(pool.map(lambda fate: one(worker, fate), mine))
            else:
                for fate in mine:
                    one(worker, fate)
            while worker not in self.parts:
                one(worker, lambda _: None)

        with ThreadPoolExecutor(len(self.tasks)) as pool:
            list(pool.map(whole, range(len(self.tasks))))

    def output(self) -> NDArray[np.float32]:
        """All activations: samples x outputs."""
        last = self._manifest.layers[-1]
        shares = [Share(task.rows, task.samples) for task in self.tasks]
        parts = [self.parts[worker] for worker in range(len(self.tasks))]
        order = source_rows(self._files, last)
        return collected(parts, shares, self.batch.samples, order, softmaxed=last.activation == "softmax")

    def _mailbox(self, worker: int, number: int, check: Callable[[], None]) -> Mailbox:

        def over() -> bool:
            check()
            return False

        channel = _NotingChannel(
            self._hub, worker, lambda: self.acknowledged.setdefault(worker, []).append(number)
        )
        return Mailbox(
            channel,
            "run",
            1,
            worker,
            deadline=Deadline.after(PATIENCE_S),
            watch=AbortWatch("run", over, time.monotonic),
            holds=True,
        )

    def _input(self, task: Task) -> Activations:
        rows = self._manifest.features if task.features is None else len(task.features)
        data = share_to_bytes(self.batch, task.features, task.samples)
        return share_from_bytes(data, rows, task.samples, "input")


def killed_at(step: int) -> Fate:
    """Dies when so many steps are done; those of the output's writing are one more."""

    def fate(steps: int) -> None:
        if steps == step:
            raise Killed

    return fate
