"""Plan: check the request, choose how to run it, lease what it needs, and write every worker's task."""

from __future__ import annotations

import dataclasses
import hashlib
import platform
import time
from concurrent.futures import ThreadPoolExecutor

from lamella.channels import Place
from lamella.checkpoint_cost import checkpoint_cost
from lamella.collect_memory import COLLECT_MEMORY_MB, check_collect, collect_need_bytes
from lamella.config import Config, region
from lamella.cost import architecture_of, book_for, load_book
from lamella.cut import read_cut
from lamella.dealing import Dealing
from lamella.errors import BatchError, InputError, ModelError
from lamella.events import PlanAnswer, PlanEvent, RunRequest, WaitAnswer, parse_request
from lamella.inputs import Batch, check_id_column, read_batch
from lamella.inputs.batch import MAX_BYTES
from lamella.inputs.ids import ids_to_bytes
from lamella.layout import INPUTS, MODELS, UPLOADS, RunKeys
from lamella.lease_table import Amount, Granted
from lamella.leases import NotYet
from lamella.manifest import MANIFEST, Manifest, parse_manifest
from lamella.memory_bound import bounded_memory, spare_bytes
from lamella.plan import Assignment, Plan, Task
from lamella.planner import Capacity
from lamella.prediction import load_profile
from lamella.prediction.candidates import Candidates, Terms
from lamella.prediction.planning import activity_of, offered, predicted, taken
from lamella.records import PlanRecord, Predicted, Share, to_json
from lamella.reservation import reserve, room, run_deadline_s, turn
from lamella.runtime import Runtime
from lamella.sealing import with_own_write
from lamella.shares import small_share, write_share, writing_bytes
from lamella.states.launching import launch
from lamella.storage import Bucket, folder, split_s3_uri
from lamella.strategies.dealing import deal

WRITERS = 16
WRITING_BYTES = 512 << 20  # of what Plan's memory is for; most of it is the input's
JSON = "application/json"


def plan_run(event: PlanEvent, runtime: Runtime) -> PlanAnswer | WaitAnswer:
    """Plan a run, or have it wait for its turn; planning the same run again gives the same plan.

    Raises
    ------
    InputError
        For anything wrong with the request, the model or the input.
    LeaseError, CloudError, RunAborted
        As `reserve`.
    """
    try:
        return _plan(event, runtime)
    except NotYet as turn_to_come:
        runtime.logger.info("waiting", why=str(turn_to_come), wait_s=turn_to_come.wait_s)
        return WaitAnswer(run=event.run, wait_s=turn_to_come.wait_s)


def _plan(event: PlanEvent, runtime: Runtime) -> PlanAnswer:
    started_s = time.time()
    config = runtime.config
    keys = RunKeys(event.run)
    have = room(runtime)
    # First of all: a run that waits is planned when its turn has come, not each time that it asks.
    granted = turn(runtime, keys, have, started_s) or Granted(())
    request = parse_request(event.request)
    model = _model_files(runtime, request)
    manifest, manifest_sha256 = _read_model(model)
    batch = _read_input(runtime, request, manifest)
    found = _offered(runtime, request, model, manifest, batch, have)
    chosen = taken(found, request, config.max_run_usd)
    plan, tasks, expected = chosen.plan, chosen.tasks, predicted(found, chosen)
    del found, chosen
    shares = tuple(Share(task.rows, task.samples) for task in tasks)
    dealing = _dealing(plan, shares, manifest, batch, activations=request.activations)
    deadline_s = run_deadline_s(runtime, started_s)
    channel = reserve(runtime, keys, plan, deadline_s, have)
    assignments = [
        Assignment(
            event.run,
            keys.attempt,
            plan.workers,
            model.location(),
            manifest_sha256,
            channel,
            deadline_s,
            task,
            start_by_s=time.time() + config.start_deadline_s,
            start_within_s=config.start_deadline_s,
            checkpoints=request.checkpoints,
        )
        for task in tasks
    ]
    if dealing.numbers is not None:
        batch.reorder(dealing.numbers)
        runtime.bucket.write(keys.dealt, dealing.to_bytes())
    _write_tasks(runtime.bucket, keys, assignments, batch)
    if batch.ids is not None:
        runtime.bucket.write(keys.ids, ids_to_bytes(batch.ids), "text/plain")
    answer = launch(runtime, keys, plan)
    _write_record(
        runtime,
        keys,
        event,
        request,
        model,
        plan,
        batch,
        dealing,
        tasks,
        started_s,
        deadline_s,
        granted,
        expected,
    )
    return answer


def _model_files(runtime: Runtime, request: RunRequest) -> Bucket:
    _check_place("model", request.model, runtime.config, MODELS)
    return folder(runtime.s3, request.model.removesuffix(MANIFEST))


def _check_place(what: str, uri: str, config: Config, *prefixes: str) -> None:
    """Refuse what this stack's functions have no permission to read; the first place is the user's."""
    own = [f"s3://{config.bucket}/{prefix}" for prefix in prefixes]
    bucket, _ = split_s3_uri(uri)
    if uri.startswith(tuple(own)) or bucket in config.data_buckets:
        return
    ways = f"copy it below {own[0]}"
    if bucket != config.bucket:
        ways += f", or add {bucket} to the stack's parameter DataBuckets"
    raise InputError(f"the {what} {uri} can't be read by this stack: {ways}")


def _read_model(model: Bucket) -> tuple[Manifest, str]:
    """The manifest and its sha256, once every file it names is there with its size."""
    try:
        data = model.read(MANIFEST)
    except FileNotFoundError as error:
        raise ModelError(
            f"{model.location()} is not a prepared model ({error}): upload one that 'lamella prep' made"
        ) from error
    manifest = parse_manifest(data, model.location(MANIFEST))
    there = model.sizes_of(manifest.files)
    for path, file in manifest.files.items():
        if path not in there:
            raise ModelError(f"{model.location(path)} is missing: upload the model again")
        if there[path] != file.bytes:
            raise ModelError(
                f"{model.location(path)} has {there[path]} bytes, not {file.bytes}: upload the model again"
            )
    return manifest, hashlib.sha256(data).hexdigest()


def _read_input(runtime: Runtime, request: RunRequest, manifest: Manifest) -> Batch:
    _check_place("input", request.input, runtime.config, INPUTS, UPLOADS)
    check_id_column(request.input, request.id_column)
    bucket, key = split_s3_uri(request.input)
    try:
        with bounded_memory(spare_bytes()):
            data = Bucket(runtime.s3, bucket).read_at_most(key, MAX_BYTES)
            return read_batch(data, request.input, manifest.features, request.samples, request.id_column)
    except FileNotFoundError as error:
        raise BatchError(f"{error}: upload the input, or correct its address") from error
    except MemoryError as error:
        raise BatchError(
            f"{request.input} takes more memory to read than the {runtime.memory_mb:,} MB that there are: "
            "split it into several runs, or save it as a sparse .npz"
        ) from error


def _offered(
    runtime: Runtime, request: RunRequest, model: Bucket, manifest: Manifest, batch: Batch, have: Amount
) -> Candidates:
    """What the request leaves open, predicted."""
    nonzero = int(batch.nonzero().sum())
    terms = Terms(
        activity_of(len(manifest.layers), batch.samples, manifest.features, nonzero),
        load_profile(),
        load_book(book_for(region())),
        architecture_of(platform.machine()),
        runtime.config.worker_timeout_s,
    )
    capacity = _capacity(runtime.config, have)
    return offered(request, manifest, batch.samples, lambda p: read_cut(model, manifest, p), capacity, terms)


def _capacity(config: Config, have: Amount) -> Capacity:
    return Capacity(have.slots, have.units, list(config.worker_functions()), config.max_workers)


def _dealing(
    plan: Plan, shares: tuple[Share, ...], manifest: Manifest, batch: Batch, *, activations: bool
) -> Dealing:
    """Which samples each worker gets: evenly, unless Collect could then not put their outputs together."""
    whole = shares, manifest.outputs, batch.samples
    numbers = deal(batch.nonzero(), plan.sample_shares) if plan.sample_shares > 1 else None
    need_bytes = collect_need_bytes(*whole, dealt=True, activations=activations)
    if numbers is None or need_bytes > COLLECT_MEMORY_MB << 20:
        check_collect(*whole, activations=activations)
        return Dealing()
    check_collect(*whole, dealt=True, activations=activations)
    return Dealing(numbers)


def _write_tasks(bucket: Bucket, keys: RunKeys, assignments: list[Assignment], batch: Batch) -> None:
    def write(assignment: Assignment) -> None:
        task = assignment.task
        share = small_share(batch, task.features, task.samples)
        if share is None:
            write_share(bucket, keys.input(task.worker), batch, task.features, task.samples)
        bucket.write(keys.task(task.worker), dataclasses.replace(assignment, input=share or b"").to_bytes())

    most = max(
        writing_bytes(batch.features if task.features is None else len(task.features), task.samples)
        for task in (assignment.task for assignment in assignments)
    )
    with ThreadPoolExecutor(min(max(WRITING_BYTES // max(most, 1), 1), WRITERS)) as pool:
        list(pool.map(write, assignments))


def _write_record(
    runtime: Runtime,
    keys: RunKeys,
    event: PlanEvent,
    request: RunRequest,
    model: Bucket,
    plan: Plan,
    batch: Batch,
    dealing: Dealing,
    tasks: list[Task],
    started_s: float,
    deadline_s: float,
    granted: Granted,
    expected: Predicted,
) -> None:
    record = PlanRecord(
        run=event.run,
        attempt=keys.attempt,
        request=request.model_dump(),
        plan=plan,
        model=model.location(),
        first_sample=batch.first,
        started_s=started_s,
        deadline_s=deadline_s,
        shares=tuple(Share(task.rows, task.samples) for task in tasks),
        usage={},
        places=_places(tasks),
        dealt=dealing.numbers is not None,
        ids=batch.ids is not None,
        waited_s=granted.waited_s,
        looks=granted.looks,
        checkpoints=(
            checkpoint_cost(plan.workers, deadline_s - started_s, load_book(book_for(region())))
            if request.checkpoints
            else None
        ),
        planned_s=time.time(),
        predicted=expected,
    )
    body = with_own_write(
        runtime.usage(), lambda usage: to_json(dataclasses.replace(record, usage=usage.to_json()))
    )
    runtime.bucket.write(keys.plan, body, JSON)


def _places(tasks: list[Task]) -> tuple[Place, ...]:
    sending = {
        (step.parts[-1].layer + 1, step.samples[0]) for task in tasks for step in task.steps if step.send
    }
    return tuple(sorted(sending))
