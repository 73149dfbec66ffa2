"""Intake: start one run for each new input, and never a second one.

A run's name is computed from its input (bucket, key, ETag) and its request from the stack's parameters. So
StartExecution, which refuses a name that it has had, or gives the execution under way, is what decides
(Step Functions API reference): two firings at once, an event delivered twice, the schedule and an upload that
see the same object all ask for the same execution. Step Functions forgets a name 90 days after its execution
ended; therefore a mark is written after the start (If-None-Match), is never deleted, and whatever has one is
not looked at again.

Nothing is lost or doubled wherever this function dies:

- before the start: nothing has happened. Lambda invokes it again, twice; the next firing finds the input
  without a mark. Only an upload whose three tries fail, in a stack that has no schedule, is left: it is told
  to the notifications' topic.
- between start and mark: the next try, or firing, asks for the same name, is told that it was had, and writes
  the mark. Only if nobody looks for 90 days after the run ended is it started again.
- after the mark: there is nothing left to do for it.

A run that fails has its mark too, and is not tried again: what made it fail is most likely in its input. What
every run would fail of, parameters that make no request or a model that isn't there, is looked at first, and
then nothing is started.

An object overwritten before its run has read it gives both runs the later content. Of an upload the ETag is
asked for when the event is handled, so a late event is of what is there by then.

The count of runs under way is Step Functions' own, which may lag by moments: firings at the same time may
together exceed the limit, though never start an input twice.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

from botocore.exceptions import ClientError

from lamella.errors import InputError
from lamella.events import IntakeAnswer, LookEvent, UploadEvent
from lamella.intake import InputObject, automatic_request, is_batch, waiting
from lamella.layout import INTAKE
from lamella.manifest import MANIFEST
from lamella.runtime import Runtime
from lamella.storage import split_s3_uri

SHOWN = 10
EXAMPLE = "s3://bucket/inputs/samples.npy"


def take_in(event: LookEvent | UploadEvent, runtime: Runtime) -> IntakeAnswer:
    """Start a run for each input that is new, or for the one that was uploaded.

    Raises
    ------
    InputError
        If the stack's parameters give no valid request, or the event is of another bucket.
    """
    _check_parameters(runtime)
    return _upload(event, runtime) if isinstance(event, UploadEvent) else _look(event, runtime)


def _check_parameters(runtime: Runtime) -> None:
    model = runtime.config.auto_model
    automatic_request(model, runtime.config.auto_options, EXAMPLE)
    bucket, prefix = split_s3_uri(model.removesuffix(MANIFEST))
    key = f"{prefix.rstrip('/')}/{MANIFEST}"
    # Where it may not be read, Plan will know better.
    try:
        there = _etag(runtime, bucket, key)
    except PermissionError:
        return
    if there is None:
        raise InputError(f"AutoModel {model} is no prepared model: upload one that 'lamella prep' made")


def _look(event: LookEvent, runtime: Runtime) -> IntakeAnswer:
    found = list(_objects(runtime, event.prefix))
    passed_over = [item.key for item in found if not is_batch(item.key) and not item.key.endswith("/")]
    if passed_over:
        runtime.logger.info("no samples", files=len(passed_over), first=passed_over[:SHOWN])
    new = waiting(found, runtime.bucket.sizes(INTAKE).keys())
    free = max(0, runtime.config.schedule_runs - _under_way(runtime, runtime.config.schedule_runs))
    started: list[str] = []
    had = 0
    for item in new:
        if len(started) == free:
            break
        if _start(runtime, item):
            started.append(item.run)
        else:
            had += 1
    return IntakeAnswer(started=started, waiting=len(new) - len(started) - had)


def _upload(event: UploadEvent, runtime: Runtime) -> IntakeAnswer:
    bucket = runtime.config.bucket
    if event.bucket != bucket:
        raise InputError(f"an upload to {event.bucket} starts no run: this stack's bucket is {bucket}")
    nothing = IntakeAnswer(started=[], waiting=0)
    if not is_batch(event.key):
        runtime.logger.info("no samples", files=1, first=[event.key])
        return nothing
    etag = _etag(runtime, bucket, event.key)
    if etag is None:
        runtime.logger.info("the upload is gone", key=event.key)
        return nothing
    item = InputObject(bucket, event.key, etag)
    if runtime.bucket.exists(item.mark) or not _start(runtime, item):
        return nothing
    return IntakeAnswer(started=[item.run], waiting=0)


def _etag(runtime: Runtime, bucket: str, key: str) -> str | None:
    """Of an object; None if there is none.

    Raises
    ------
    PermissionError
        If that may not be known.
    """
    try:
        return runtime.s3.head_object(Bucket=bucket, Key=key)["ETag"].strip('"')
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code")
        if code in {"404", "NoSuchKey"}:
            return None
        if code in {"403", "AccessDenied"}:
            raise PermissionError(f"s3://{bucket}/{key} may not be read") from error
        raise


def _objects(runtime: Runtime, prefix: str) -> Iterator[InputObject]:
    bucket = runtime.config.bucket
    for page in runtime.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for item in page.get("Contents", []):
            modified_s = item["LastModified"].timestamp()
            yield InputObject(bucket, item["Key"], item["ETag"].strip('"'), modified_s)


def _under_way(runtime: Runtime, enough: int) -> int:
    """How many runs of this stack are, whoever started them; it stops counting at ``enough``."""
    pages = runtime.stepfunctions.get_paginator("list_executions").paginate(
        stateMachineArn=runtime.config.state_machine_arn, statusFilter="RUNNING"
    )
    count = 0
    for page in pages:
        count += len(page["executions"])
        if count >= enough:
            break
    return count


def _start(runtime: Runtime, item: InputObject) -> bool:
    """Start an input's run and mark it; whether it may be under way because of this call."""
    config = runtime.config
    request = automatic_request(config.auto_model, config.auto_options, item.uri)
    asked = json.dumps(request.model_dump(exclude_defaults=True), sort_keys=True)
    started = True
    try:
        runtime.stepfunctions.start_execution(
            stateMachineArn=config.state_machine_arn, name=item.run, input=asked
        )
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") != "ExecutionAlreadyExists":
            raise
        started = False
    mark = {"run": item.run, "input": item.uri, "etag": item.etag, "marked_s": round(time.time(), 3)}
    runtime.bucket.create(item.mark, json.dumps(mark).encode())
    runtime.logger.info("started" if started else "had before", run=item.run, input=item.uri)
    return started
