"""Worker: read one's task, meet the gang, walk the steps, leave one's part of the output.

A worker that is started again goes on from its checkpoint; `lamella.incarnation` says why that is safe.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext

from botocore.exceptions import BotoCoreError, ClientError

from lamella.abort import AbortWatch
from lamella.abort_mark import is_ended
from lamella.activations import Activations
from lamella.channels import Channel, Source
from lamella.channels.objects import Objects
from lamella.channels.s3 import S3Channel
from lamella.channels.sns import SnsChannel
from lamella.channels.sqs import SqsChannel
from lamella.checkpoint import Checkpoint, received_until
from lamella.checkpointer import Checkpointer
from lamella.deadline import Deadline
from lamella.engine import StepRecord, run_task
from lamella.errors import CloudError, ModelError, Superseded, WorkerError
from lamella.events import WorkerEvent
from lamella.expected import expected_letters
from lamella.gang import meet
from lamella.incarnation import Incarnation, take_over
from lamella.kernel import Processor, threads_for
from lamella.launch import MAX_WORKERS
from lamella.layout import RunKeys
from lamella.letters import COMING, GOING
from lamella.mailbox import Mailbox
from lamella.manifest import MANIFEST, Manifest, parse_manifest
from lamella.memory import weight_memory
from lamella.part_writer import write_part
from lamella.parts import encoded_blocks
from lamella.plan import Address, Assignment, S3Address, SnsAddress, SqsAddress, Task, parse_assignment
from lamella.records import Share, WeightUse, WorkerReport
from lamella.runtime import LambdaContext, Runtime, peak_memory_bytes
from lamella.shares import share_from_bytes
from lamella.spent import end_mark
from lamella.storage import Bucket, folder
from lamella.streaming import WeightStream
from lamella.task_progress import TaskProgress
from lamella.tiles import read_tiles

ENDING_S = 5.0  # kept back of the function's time to say what happened
PROGRESS_S = 0.5  # least time between two lines of progress


def run_worker(event: WorkerEvent, runtime: Runtime, context: LambdaContext) -> None:
    """Do one worker's part of a run, or what an earlier start of it has left to do.

    Raises
    ------
    LamellaError
        Whatever ends it; an end mark is left in any case but one.
    Superseded
        If another start has taken over: that one leaves the mark.
    """
    start = _Start(event, runtime, context)
    try:
        start.run()
    except Superseded:
        raise
    except Exception as error:
        start.leave_mark(error)
        if isinstance(error, (BotoCoreError, ClientError)):
            # So that it is known as one that may pass.
            raise CloudError(f"worker {event.worker}: {error}") from error
        raise


class _Start:
    """One start of a worker."""

    def __init__(self, event: WorkerEvent, runtime: Runtime, context: LambdaContext) -> None:
        self._event, self._runtime, self._context = event, runtime, context
        self._keys = RunKeys(event.run, event.attempt)
        self._started_s = time.time()
        self._incarnation: Incarnation | None = None
        self._keeper: Checkpointer | None = None
        self._mailbox: Mailbox | None = None

    def leave_mark(self, error: Exception) -> None:
        """Say that the worker has left, unless another start of it goes on."""
        bucket, mark = self._runtime.bucket, self._keys.ended(self._event.worker)
        self._runtime.bound_calls(None)
        # Where S3 does not say who goes on, the mark is left: a worker that is waited for in vain costs more.
        with contextlib.suppress(CloudError):
            if self._incarnation is not None and not self._incarnation.is_current():
                return
        used = self._keeper.usage() if self._keeper else self._runtime.usage()
        ending = end_mark(error, self._report(WeightUse()), self._runtime.last_lines, used)
        bucket.write(mark, ending, "application/json")

    def _report(self, weights: WeightUse) -> WorkerReport:
        """What is known of the worker so far, but for its usage."""
        keeper, mailbox, now_s = self._keeper, self._mailbox, time.time()
        return WorkerReport(
            worker=self._event.worker,
            started_s=keeper.began_s if keeper else self._started_s,
            joined_s=keeper.joined(now_s) if keeper else now_s,
            ended_s=now_s,
            memory_mb=self._runtime.memory_mb,
            steps=tuple(dataclasses.astuple(record) for record in keeper.progress.records) if keeper else (),
            process=(os.getpid(), self._context.log_stream_name),
            usage={},
            weights=weights,
            peak_bytes=peak_memory_bytes(),
            objects_left=mailbox.objects_left if mailbox else 0,
            incarnation=keeper.incarnation if keeper else 1,
            checkpoints=keeper.written if keeper else 0,
            traffic=self._runtime.meter.traffic(),
        )

    def run(self) -> None:
        """As `run_worker`, without the mark."""
        event, runtime, keys, bucket = self._event, self._runtime, self._keys, self._runtime.bucket
        # Set before the first call: also a task that can't be read has to be told of in time.
        deadline = runtime.function_end.earlier(ENDING_S)
        runtime.bound_calls(deadline)
        assignment = self._assignment()
        task, part = assignment.task, keys.part(event.worker)
        deadline = deadline.sooner_at(assignment.deadline_s)
        runtime.bound_calls(deadline)
        incarnation, left = take_over(
            bucket,
            keys.checkpoint(event.worker),
            task,
            self._context.log_stream_name,
            self._started_s,
            # Without checkpoints: if what came is not gone from a queue, or is needed no more.
            lambda: assignment.checkpoints or not assignment.channel or bucket.exists(part),
        )
        self._incarnation = incarnation
        fenced, again = assignment.checkpoints, left.start.incarnation > 1

        def over() -> bool:
            if fenced:
                incarnation.check()
            return is_ended(bucket, keys)

        watch = AbortWatch(event.run, over, time.monotonic)
        if again:
            # Before the look for the abort mark: who writes that and then looks for workers sees this one.
            bucket.delete([keys.ended(event.worker)])
        watch.check()
        if again and bucket.exists(part):
            runtime.logger.info("an earlier start has done everything", incarnation=left.start.incarnation)
            return
        runtime.logger.info("joined", incarnation=left.start.incarnation, steps=left.progress.steps)
        self._mailbox = mailbox = _mailbox(runtime, assignment, watch, deadline)
        with mailbox or nullcontext():
            keeper = Checkpointer(incarnation, left, len(task.steps), mailbox, runtime.usage)
            self._keeper = keeper
            if mailbox and fenced:
                _go_on(mailbox, task, left)
                mailbox.meanwhile(keeper.waiting)
            output, use = self._compute(assignment, mailbox, keeper, watch, deadline, again=again)
            if mailbox:
                mailbox.flush()
            if fenced:
                # Whoever finds the run over would leave a part that nobody removes.
                keeper.end()
            share, workers = Share(task.rows, task.samples), assignment.workers
            report = self._report(use)
            write_part(
                bucket,
                part,
                _checked(encoded_blocks(output, share, workers), _check(watch, deadline)),
                share,
                workers,
                report,
                lambda: keeper.usage() + keeper.ending() if fenced else keeper.usage(),
            )
            if fenced:
                # Only now may the last messages be deleted, and only by whoever may go on.
                keeper.end()

    def _assignment(self) -> Assignment:
        bucket, path = self._runtime.bucket, self._keys.task(self._event.worker)
        try:
            return parse_assignment(bucket.read(path), bucket.location(path))
        except FileNotFoundError as error:
            raise WorkerError(f"{error}: this run is over, or was never planned") from error

    def _compute(
        self,
        assignment: Assignment,
        mailbox: Mailbox | None,
        keeper: Checkpointer,
        watch: AbortWatch,
        deadline: Deadline,
        *,
        again: bool,
    ) -> tuple[Activations, WeightUse]:
        """What the worker has of the output, and where its weights came from."""
        runtime, keys, bucket = self._runtime, self._keys, self._runtime.bucket
        task, progress = assignment.task, keeper.progress
        model = folder(runtime.s3, assignment.model)
        manifest = _manifest(model, assignment)
        room = weight_memory(task, manifest, runtime.memory_mb)
        runtime.blocks.begin(room.cache_bytes)
        rows = manifest.features if task.features is None else len(task.features)
        share = assignment.input or bucket.read(keys.input(task.worker))
        inputs = share_from_bytes(share, rows, task.samples, keys.input(task.worker))
        del share
        observer = _Observer(runtime, task, progress.records, watch, deadline)
        parts = task.after(progress.steps).parts
        tiles = read_tiles(model, manifest)

        check = _check(watch, deadline)
        weights = WeightStream(model, manifest, tiles, parts, room.window_bytes, runtime.blocks, check)
        with weights, Processor(threads_for(runtime.memory_mb), check=check) as processor:
            if mailbox and not progress.steps:
                # What is read first is under way meanwhile.
                meet(mailbox, assignment, deadline, bucket, keys, again=again)
            keeper.joined(time.time())
            observer.begin()
            runtime.logger.info("computing", kernel=processor.kernel.name, threads=processor.threads)
            output = run_task(
                task,
                manifest,
                weights,
                inputs,
                mailbox,
                observer,
                processor=processor,
                progress=progress,
                keep=keeper.step_done if assignment.checkpoints else _nothing,
            )
        shown = observer.progress
        runtime.logger.info("ended", done=shown.layer, layers=shown.layers, live=shown.live)
        return output, weights.use


def _check(watch: AbortWatch, deadline: Deadline) -> Callable[[], None]:
    """What ends a worker between two steps."""

    def check() -> None:
        watch.check()
        deadline.check(
            "time was up while weights were read, or a layer computed: raise WorkerTimeout or ask for more "
            "workers"
        )

    return check


def _checked(blocks: Iterable[bytes], check: Callable[[], None]) -> Iterator[bytes]:
    """The same, as long as the run goes on."""
    for block in blocks:
        check()
        yield block


def _nothing() -> None:
    """What follows from a step where there are no checkpoints."""


def _go_on(mailbox: Mailbox, task: Task, left: Checkpoint) -> None:
    """Have the mailbox know what an earlier start had received in the steps that it did."""
    steps = left.progress.steps
    met = {(COMING, worker) for worker in range(MAX_WORKERS)} | {(GOING, 0)} if steps else set()
    mailbox.go_on(received_until(task, steps) | met, left.letters, left.objects_left)


def _manifest(model: Bucket, assignment: Assignment) -> Manifest:
    data = model.read(MANIFEST)
    if hashlib.sha256(data).hexdigest() != assignment.manifest_sha256:
        raise ModelError(f"{model.location(MANIFEST)} was changed since this run was planned: start it again")
    return parse_manifest(data, model.location(MANIFEST))


def _mailbox(
    runtime: Runtime, assignment: Assignment, watch: AbortWatch, deadline: Deadline
) -> Mailbox | None:
    if not assignment.channel:
        return None
    worker = assignment.task.worker
    expected = expected_letters(assignment.task, assignment.workers)
    return Mailbox(
        _channel(runtime, assignment, assignment.channel, expected),
        assignment.run,
        assignment.attempt,
        worker,
        deadline=deadline,
        watch=watch,
        holds=assignment.checkpoints,
        expected=expected,
    )


def _channel(
    runtime: Runtime, assignment: Assignment, address: Address, expected: Mapping[Source, int]
) -> Channel:
    worker = assignment.task.worker
    halo = RunKeys(assignment.run, assignment.attempt).halo
    prefix = address.prefix if isinstance(address, S3Address) else halo
    objects = Objects(runtime.bucket.below(prefix), worker, expected)
    held = assignment.checkpoints
    if isinstance(address, SnsAddress):
        return SnsChannel(runtime.sns, runtime.sqs, address, worker, objects, held=held)
    if isinstance(address, SqsAddress):
        return SqsChannel(runtime.sqs, address, worker, objects, held=held)
    return S3Channel(objects)


class _Observer:
    """Logs progress now and then, and ends a task whose run or time is over."""

    def __init__(
        self,
        runtime: Runtime,
        task: Task,
        before: Iterable[StepRecord],
        watch: AbortWatch,
        deadline: Deadline,
    ) -> None:
        self.progress = TaskProgress(task)
        self._task, self._done = task, 0
        for record in before:
            self.progress.add(record)
            self._done += 1
        self._runtime, self._watch = runtime, watch
        self._deadline = deadline
        self._logged_s = time.monotonic()

    def begin(self) -> None:
        """From here on, lines of log say the layer that the worker is at."""
        self._log_layer()

    def __call__(self, record: StepRecord) -> None:
        self.progress.add(record)
        self._done += 1
        self._log_layer()
        now_s = time.monotonic()
        if now_s - self._logged_s >= PROGRESS_S:
            self._logged_s = now_s
            self._runtime.logger.info(
                "progress",
                done=self.progress.layer,
                layers=self.progress.layers,
                live=self.progress.live,
            )
        self._deadline.check(
            f"time was up after layer {record.layer}: raise WorkerTimeout or ask for more workers"
        )
        self._watch.check()

    def _log_layer(self) -> None:
        if self._done < len(self._task.steps):
            self._runtime.logger.append_keys(layer=self._task.steps[self._done].parts[0].layer)
        else:
            self._runtime.logger.remove_keys(["layer"])
