"""Collect: put the workers' parts together, once."""

from __future__ import annotations

import dataclasses
import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save as save_tensors

from lamella.activations import Activations
from lamella.errors import RunError
from lamella.events import CollectEvent
from lamella.files import Files
from lamella.inputs.ids import IdLines
from lamella.kernel.curves import softmax
from lamella.layout import RunKeys
from lamella.manifest import DTYPES, Layer, read_manifest
from lamella.records import Collected, PlanRecord, WorkerReport, from_json, part_from_bytes, to_json
from lamella.runtime import Runtime
from lamella.sealing import with_own_write
from lamella.storage import Bucket, folder

READERS = 16


def collect_run(event: CollectEvent, runtime: Runtime) -> None:
    """Write a run's predictions, and its activations where they were asked for.

    Raises
    ------
    RunError
        If a part is missing or isn't what was planned.
    """
    bucket, keys = runtime.bucket, RunKeys(event.run, event.attempt)
    record = from_json(PlanRecord, bucket.read(keys.plan), keys.plan)
    parts, reports = _read_parts(bucket, keys, record)
    model = folder(runtime.s3, record.model)
    last = read_manifest(model).layers[-1]
    output = finished(merge(parts, record, source_rows(model, last)), last, record.plan.samples)
    table = predictions_csv(output, record.plan.samples, record.first_sample)
    if record.ids:
        table = with_ids(table, bucket.read(keys.ids))
    bucket.write(keys.predictions, table, "text/csv")
    if record.request.get("activations"):
        bucket.write(keys.activations, activations_file(output, record.plan.samples))
    found = Collected(categories=int(np.count_nonzero(output.values.any(axis=0))), workers=reports, usage={})
    body = with_own_write(
        runtime.usage(), lambda usage: to_json(dataclasses.replace(found, usage=usage.to_json()))
    )
    bucket.write(keys.collected, body, "application/json")


def _read_parts(
    bucket: Bucket, keys: RunKeys, record: PlanRecord
) -> tuple[list[Activations], tuple[WorkerReport, ...]]:
    def read(worker: int) -> tuple[Activations, WorkerReport]:
        try:
            data = bucket.read(keys.part(worker))
        except FileNotFoundError as error:
            raise RunError(f"worker {worker} left no part of the output ({error})") from error
        return part_from_bytes(data, record.shares[worker], bucket.location(keys.part(worker)))

    with ThreadPoolExecutor(READERS) as pool:
        found = list(pool.map(read, range(len(record.shares))))
    return [part for part, _ in found], tuple(report for _, report in found)


def source_rows(model: Files, last: Layer) -> NDArray[np.int64]:
    """The source's row of each stored row of the last layer."""
    if last.order is None:
        return np.arange(last.rows)
    start, stop = last.order.span(0, last.order.length)
    return np.frombuffer(model.read(last.order.file, start, stop), DTYPES[last.order.dtype]).astype(np.int64)


def merge(parts: list[Activations], record: PlanRecord, order: NDArray[np.int64]) -> Activations:
    """The whole output, its rows in the source's order, of every sample that is alive in any part."""
    alive = np.zeros(record.plan.samples, bool)
    for part in parts:
        alive[part.live] = True
    live = np.flatnonzero(alive)
    column = np.cumsum(alive) - 1
    values = np.zeros((len(order), len(live)), np.float32)
    for part, share in zip(parts, record.shares, strict=True):
        values[np.ix_(order[slice(*share.rows)], column[part.live])] = part.values
    return Activations(live, values)


def finished(output: Activations, last: Layer, samples: int) -> Activations:
    """What only whole samples can be put through: the last layer's softmax, which leaves none all zero."""
    if last.activation != "softmax":
        return output
    everyone = output.with_all((0, samples))
    return Activations(everyone.live, softmax(everyone.values))


def predictions_csv(output: Activations, samples: int, first_sample: int) -> bytes:
    """One line per sample.

    Its number, the output with the largest activation (the first of equals, from 0), that activation (after
    softmax, a probability), and how many outputs are not zero.
    """
    argmax = np.zeros(samples, np.int64)
    score = np.zeros(samples, np.float32)
    nonzero = np.zeros(samples, np.int64)
    if len(output.live):
        argmax[output.live] = output.values.argmax(axis=0)
        score[output.live] = output.values.max(axis=0)
        nonzero[output.live] = np.count_nonzero(output.values, axis=0)
    text = io.StringIO()
    text.write("sample,argmax,score,nonzero\n")
    columns = (argmax.tolist(), score.astype(str).tolist(), nonzero.tolist())
    text.writelines(
        f"{number},{best},{value},{count}\n"
        for number, best, value, count in zip(
            range(first_sample, first_sample + samples), *columns, strict=True
        )
    )
    return text.getvalue().encode()


def with_ids(table: bytes, ids: bytes) -> bytes:
    """The same with the column ``id`` before the others."""
    header, _, lines = table.partition(b"\n")
    return b"id,%b\n%b" % (header, IdLines(ids).before(lines))


def activations_file(output: Activations, samples: int) -> bytes:
    """``activations``: float32, samples x outputs."""
    dense = np.zeros((samples, len(output.values)), np.float32)
    dense[output.live] = output.values.T
    return save_tensors({"activations": dense})
