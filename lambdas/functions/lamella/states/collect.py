"""Collect: put the workers' parts together, once."""

from __future__ import annotations

import dataclasses
import time
from contextlib import ExitStack

from lamella.abort_mark import is_ended
from lamella.dealing import Dealing, parse_dealing
from lamella.errors import RunAborted, RunError
from lamella.events import CollectEvent
from lamella.inputs.ids import IdLines
from lamella.layout import RunKeys
from lamella.manifest import read_manifest
from lamella.part_stream import PartStream
from lamella.predictions import (
    CSV_HEADER,
    activations_head,
    categories,
    prediction_lines,
    sample_blocks,
    source_rows,
)
from lamella.records import Collected, PlanRecord, from_json, to_json
from lamella.runtime import Runtime
from lamella.sealing import with_own_write
from lamella.storage import Bucket, folder
from lamella.uploads import Upload
from lamella.usage import Count, Usage

# Whether the run still goes on, after what it used is written down.
_LAST_LOOK = Usage({"s3.get_object": Count(calls=1, billed=1)})


def collect_run(event: CollectEvent, runtime: Runtime) -> None:
    """Write a run's predictions, and its activations where they were asked for.

    Doing it again, even at the same time, writes the same.

    Raises
    ------
    RunError
        If a part is missing or isn't what was planned.
    RunAborted
        If the run was ended meanwhile: nothing is left then that its end did not see.
    """
    started_s = time.time()
    bucket, keys = runtime.bucket, RunKeys(event.run, event.attempt)
    record = from_json(PlanRecord, bucket.read(keys.plan), keys.plan)
    model = folder(runtime.s3, record.model)
    last = read_manifest(model).layers[-1]
    order = source_rows(model, last)
    dealing = _dealing(bucket, keys, record)
    samples, alive = record.plan.samples, 0
    with ExitStack() as stack:
        parts = stack.enter_context(PartStream(bucket, keys.part, record.shares, dealing))
        predictions = stack.enter_context(Upload(bucket, keys.predictions, "text/csv"))
        names = IdLines(bucket.read(keys.ids)) if record.ids else None
        predictions.write(b"id," + CSV_HEADER if names else CSV_HEADER)
        activations = None
        if record.request.get("activations"):
            size = 4 * samples * len(order)
            activations = stack.enter_context(Upload(bucket, keys.activations, expected_bytes=size))
            activations.write(activations_head(samples, len(order)))
        softmaxed = last.activation == "softmax"
        for block in sample_blocks(parts, record.shares, dealing, samples, order, softmaxed=softmaxed):
            lines = prediction_lines(block, record.first_sample)
            predictions.write(names.before(lines) if names else lines)
            if activations:
                activations.write(block.values.data)
            alive += categories(block)
        predictions.finish()
        if activations:
            activations.finish()
    found = Collected(alive, parts.reports, usage={}, started_s=started_s, ended_s=time.time())
    body = with_own_write(
        runtime.usage() + _LAST_LOOK, lambda usage: to_json(dataclasses.replace(found, usage=usage.to_json()))
    )
    bucket.write(keys.collected, body, "application/json")
    # Finish writes the mark and then removes what is there: whichever of the two comes later sees the other.
    if is_ended(bucket, keys):
        bucket.delete([keys.collected])
        raise RunAborted(f"run {event.run} was ended while its output was put together")


def _dealing(bucket: Bucket, keys: RunKeys, record: PlanRecord) -> Dealing:
    if not record.dealt:
        return Dealing()
    try:
        data = bucket.read(keys.dealt)
    except FileNotFoundError as error:
        raise RunError(f"the dealing of the run's samples is gone ({error}): run it again") from error
    dealt = [share.samples for share in record.shares]
    return parse_dealing(data, record.plan.samples, dealt, bucket.location(keys.dealt))
