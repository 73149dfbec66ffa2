"""Worker: read one's task, meet the gang, walk the steps, leave one's part of the output."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import time
from contextlib import nullcontext

from lamella.abort import AbortWatch
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
from lamella.records import Ending, Share, WeightUse, WorkerReport, to_json
from lamella.runtime import LambdaContext, Runtime, peak_memory_bytes
from lamella.shares import share_from_bytes
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
    life = _Life(event.worker, context.log_stream_name, time.time())
    try:
        _run(event, runtime, context, keys, life)
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        ending = Ending(said, life.report(runtime), runtime.last_lines)
        runtime.bucket.write(keys.ended(event.worker), to_json(ending), "application/json")
        raise


@dataclasses.dataclass
class _Life:
    """What is known of a worker so far; Unix times."""

    worker: int
    log_stream: str
    started_s: float
    joined_s: float = 0.0
    steps: list[StepRecord] = dataclasses.field(default_factory=list)
    weights: WeightUse = dataclasses.field(default_factory=WeightUse)
    objects_left: int = 0

    def report(self, runtime: Runtime) -> WorkerReport:
        """As it stands, but for its usage."""
        now_s = time.time()
        return WorkerReport(
            worker=self.worker,
            started_s=self.started_s,
            joined_s=self.joined_s or now_s,
            ended_s=now_s,
            memory_mb=runtime.memory_mb,
            steps=tuple(dataclasses.astuple(record) for record in self.steps),
            process=(os.getpid(), self.log_stream),
            usage={},
            weights=self.weights,
            peak_bytes=peak_memory_bytes(),
            objects_left=self.objects_left,
            traffic=runtime.meter.traffic(),
        )


def _run(event: WorkerEvent, runtime: Runtime, context: LambdaContext, keys: RunKeys, life: _Life) -> None:
    started_s = life.started_s
    bucket = runtime.bucket
    where = bucket.location(keys.task(event.worker))
    try:
        assignment = parse_assignment(bucket.read(keys.task(event.worker)), where)
    except FileNotFoundError as error:
        raise WorkerError(f"{error}: this run is over, or was never planned") from error
    watch = AbortWatch(event.run, lambda: bucket.exists(keys.abort), time.monotonic)
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
    observer = _Observer(runtime, task, watch, deadline_s, life.steps)
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
        life.joined_s = time.time()
        observer.begin()
        runtime.logger.info("computing", kernel=processor.kernel.name, threads=processor.threads)
        output = run_task(task, manifest, weights, inputs, mailbox, observer, processor=processor)
    life.weights, life.objects_left = weights.use, mailbox.objects_left if mailbox else 0
    report = life.report(runtime)
    share, workers = Share(task.rows, task.samples), assignment.workers
    blocks = encoded_blocks(output, share, workers)
    write_part(bucket, keys.part(event.worker), blocks, share, workers, report, runtime.usage)
    progress = observer.progress
    runtime.logger.info("ended", done=progress.layer, layers=progress.layers, live=progress.live)


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

    def __init__(
        self, runtime: Runtime, task: Task, watch: AbortWatch, deadline_s: float, records: list[StepRecord]
    ) -> None:
        self._records, self._task = records, task
        self.progress = TaskProgress(task)
        self._runtime, self._watch = runtime, watch
        self._deadline_s = deadline_s
        self._logged_s = time.time()

    def begin(self) -> None:
        """From here on, lines of log say the layer that the worker is at."""
        self._log_layer()

    def __call__(self, record: StepRecord) -> None:
        self._records.append(record)
        self.progress.add(record)
        self._log_layer()
        now_s = time.time()
        if now_s - self._logged_s >= PROGRESS_S:
            self._logged_s = now_s
            self._runtime.logger.info(
                "progress",
                done=self.progress.layer,
                layers=self.progress.layers,
                live=self.progress.live,
            )
        if now_s >= self._deadline_s:
            raise DeadlineExceeded(
                f"time was up after layer {record.layer}: raise WorkerTimeout or ask for more workers"
            )
        self._watch.check()

    def _log_layer(self) -> None:
        done = len(self._records)
        if done < len(self._task.steps):
            self._runtime.logger.append_keys(layer=self._task.steps[done].parts[0].layer)
        else:
            self._runtime.logger.remove_keys(["layer"])
