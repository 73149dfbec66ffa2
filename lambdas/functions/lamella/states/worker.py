"""Worker: read one's task, meet the gang, walk the steps, leave one's part of the output."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import time
from contextlib import nullcontext

from lamella.abort import AbortWatch
from lamella.abort_mark import is_ended
from lamella.channels import Channel
from lamella.channels.objects import Objects
from lamella.channels.s3 import S3Channel
from lamella.channels.sns import SnsChannel
from lamella.channels.sqs import SqsChannel
from lamella.engine import StepRecord, run_task
from lamella.errors import DeadlineExceeded, ModelError, WorkerError
from lamella.events import WorkerEvent
from lamella.gang import meet
from lamella.kernel import Processor, threads_for
from lamella.layout import RunKeys
from lamella.mailbox import Mailbox
from lamella.manifest import MANIFEST, Manifest, parse_manifest
from lamella.memory import weight_memory
from lamella.part_writer import write_part
from lamella.parts import encoded_blocks
from lamella.plan import Address, Assignment, S3Address, SnsAddress, SqsAddress, Task, parse_assignment
from lamella.records import Share, WorkerReport
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
    """Do one worker's part of a run.

    Raises
    ------
    LamellaError
        Whatever ends it; an end mark is left in any case.
    """
    keys = RunKeys(event.run, event.attempt)
    try:
        _run(event, runtime, context, keys)
    except Exception as error:
        runtime.bucket.write(keys.ended(event.worker), end_mark(error, runtime.usage()), "application/json")
        raise


def _run(event: WorkerEvent, runtime: Runtime, context: LambdaContext, keys: RunKeys) -> None:
    started_s = time.time()
    bucket = runtime.bucket
    where = bucket.location(keys.task(event.worker))
    try:
        assignment = parse_assignment(bucket.read(keys.task(event.worker)), where)
    except FileNotFoundError as error:
        raise WorkerError(f"{error}: this run is over, or was never planned") from error
    watch = AbortWatch(event.run, lambda: is_ended(bucket, keys), time.monotonic)
    _join(bucket, keys, event.worker, context.log_stream_name, alone=assignment.channel is None)
    watch.check()
    runtime.logger.info("joined")
    task = assignment.task
    model = folder(runtime.s3, assignment.model)
    manifest = _manifest(model, assignment)
    room = weight_memory(task, manifest, runtime.memory_mb)
    runtime.blocks.begin(room.cache_bytes)
    rows = manifest.features if task.features is None else len(task.features)
    inputs = share_from_bytes(
        bucket.read(keys.input(event.worker)), rows, task.samples, keys.input(event.worker)
    )
    deadline_s = min(
        assignment.deadline_s, started_s + context.get_remaining_time_in_millis() / 1000 - ENDING_S
    )
    observer = _Observer(runtime, task, watch, deadline_s)
    mailbox = _mailbox(runtime, assignment, watch, deadline_s)
    tiles = read_tiles(model, manifest)
    weights = WeightStream(model, manifest, tiles, task.parts, room.window_bytes, runtime.blocks)
    with (
        weights,
        Processor(threads_for(runtime.memory_mb)) as processor,
        mailbox or nullcontext(),
    ):
        if mailbox:
            # What is read first is under way meanwhile.
            meet(mailbox, assignment, deadline_s, bucket, keys)
        joined_s = time.time()
        runtime.logger.info("computing", kernel=processor.kernel.name, threads=processor.threads)
        output = run_task(task, manifest, weights, inputs, mailbox, observer, processor=processor)
    report = WorkerReport(
        worker=event.worker,
        started_s=started_s,
        joined_s=joined_s,
        ended_s=time.time(),
        memory_mb=runtime.memory_mb,
        steps=tuple(dataclasses.astuple(record) for record in observer.records),
        process=(os.getpid(), context.log_stream_name),
        usage={},
        weights=weights.use,
        peak_bytes=peak_memory_bytes(),
        objects_left=mailbox.objects_left if mailbox else 0,
    )
    share, workers = Share(task.rows, task.samples), assignment.workers
    blocks = encoded_blocks(output, share, workers)
    write_part(bucket, keys.part(event.worker), blocks, share, workers, report, runtime.usage)
    progress = observer.progress
    runtime.logger.info("ended", layer=progress.layer, layers=progress.layers, live=progress.live)


def _join(bucket: Bucket, keys: RunKeys, worker: int, log_stream: str, *, alone: bool) -> None:
    """Leave the mark that this worker has begun; refuse to begin twice, unless it talks to nobody.

    What its earlier start received is gone from its queue, so it can't go on in its place.
    """
    if alone:
        bucket.write(keys.started(worker), log_stream.encode(), "text/plain")
    elif not bucket.create(keys.started(worker), log_stream.encode()):
        before = bucket.read(keys.started(worker)).decode(errors="replace")
        raise WorkerError(
            f"worker {worker} had begun before and stopped without an answer (killed, out of memory or out "
            f"of time: see log stream {before}), and can't go on"
        )


def _manifest(model: Bucket, assignment: Assignment) -> Manifest:
    data = model.read(MANIFEST)
    if hashlib.sha256(data).hexdigest() != assignment.manifest_sha256:
        raise ModelError(f"{model.location(MANIFEST)} was changed since this run was planned: start it again")
    return parse_manifest(data, model.location(MANIFEST))


def _mailbox(
    runtime: Runtime, assignment: Assignment, watch: AbortWatch, deadline_s: float
) -> Mailbox | None:
    if not assignment.channel:
        return None
    worker = assignment.task.worker
    return Mailbox(
        _channel(runtime, assignment, assignment.channel),
        assignment.run,
        assignment.attempt,
        worker,
        clock=time.time,
        deadline_s=deadline_s,
        watch=watch,
    )


def _channel(runtime: Runtime, assignment: Assignment, address: Address) -> Channel:
    worker = assignment.task.worker
    halo = RunKeys(assignment.run, assignment.attempt).halo
    prefix = address.prefix if isinstance(address, S3Address) else halo
    objects = Objects(runtime.bucket.below(prefix), worker)
    if isinstance(address, SnsAddress):
        return SnsChannel(runtime.sns, runtime.sqs, address, worker, objects)
    if isinstance(address, SqsAddress):
        return SqsChannel(runtime.sqs, address, worker, objects)
    return S3Channel(objects)


class _Observer:
    """Keeps each step's record, logs progress now and then, and ends a task whose run or time is over."""

    def __init__(self, runtime: Runtime, task: Task, watch: AbortWatch, deadline_s: float) -> None:
        self.records: list[StepRecord] = []
        self.progress = TaskProgress(task)
        self._runtime, self._watch = runtime, watch
        self._deadline_s = deadline_s
        self._logged_s = time.time()

    def __call__(self, record: StepRecord) -> None:
        self.records.append(record)
        self.progress.add(record)
        now_s = time.time()
        if now_s - self._logged_s >= PROGRESS_S:
            self._logged_s = now_s
            self._runtime.logger.info(
                "progress",
                layer=self.progress.layer,
                layers=self.progress.layers,
                live=self.progress.live,
            )
        if now_s >= self._deadline_s:
            raise DeadlineExceeded(
                f"time was up after layer {record.layer}: raise WorkerTimeout or ask for more workers"
            )
        self._watch.check()
