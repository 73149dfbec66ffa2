"""What the authors of FSD-Inference measured on AWS, for comparison.

J. Oakley and H. Ferhatosmanoglu, "FSD-Inference: Fully Serverless Distributed Inference with Scalable Cloud
Communication", ICDE 2024, arXiv 2403.15195: the runs of FSD-Inf-Queue (``paper-queue.csv``) and
FSD-Inf-Object (``paper-object.csv``), as the authors published them. Seconds are the mean worker's batch
time, without launch and load.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass

from lamella.usage import Count, Usage

# A cut that the authors drew at random, to compare: not what they propose.
_RANDOM = "_RANDOM"


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Measurement:
    """One configuration; columns as the authors named them, None where they left one empty."""

    config: str
    neurons: int
    layers: int
    samples: int
    workers: int
    lambda_mb: int | None
    batch_seconds: float
    lambda_seconds_all_workers: float
    comm_seconds_all_workers: float
    compute_seconds_all_workers: float
    compress_seconds_all_workers: float


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class QueueMeasurement(Measurement):
    """Of FSD-Inf-Queue: topics, and a queue for each worker."""

    sns_publish_calls: int
    sns_publish_billed: int
    messages_sent: int
    bytes_sent: int
    sqs_receive_calls: int
    messages_received: int
    bytes_received: int
    lambda_usd: float
    sns_usd: float
    sqs_usd: float
    total_usd: float


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ObjectMeasurement(Measurement):
    """Of FSD-Inf-Object: an object in S3 for each pair of workers that talk, and a LIST to find it."""

    s3_puts: int
    s3_gets: int
    s3_lists: int
    bytes_written: int
    bytes_read: int
    lambda_usd: float | None
    s3_usd: float | None
    total_usd: float | None


_Row = TypeVar("_Row", QueueMeasurement, ObjectMeasurement)


def _rows(name: str) -> list[dict[str, str | None]]:
    text = Path(__file__).with_name(name).read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return [{column: value or None for column, value in row.items()} for row in rows]


def _proposed(rows: Iterable[_Row]) -> Mapping[tuple[int, int], _Row]:
    return MappingProxyType(
        {(row.neurons, row.workers): row for row in rows if not row.config.endswith(_RANDOM)}
    )


_QUEUE_ROWS = TypeAdapter(list[QueueMeasurement]).validate_python(_rows("paper-queue.csv"))
_OBJECT_ROWS = TypeAdapter(list[ObjectMeasurement]).validate_python(_rows("paper-object.csv"))
MEASUREMENTS: tuple[QueueMeasurement | ObjectMeasurement, ...] = (*_QUEUE_ROWS, *_OBJECT_ROWS)
"""All of them, in the authors' order, with the cut drawn at random too."""
QUEUE, OBJECT = _proposed(_QUEUE_ROWS), _proposed(_OBJECT_ROWS)
"""By neurons and workers, of the cut that the authors propose."""


def usage_of(row: QueueMeasurement | ObjectMeasurement) -> Usage:
    """What a configuration that says its memory counted; one more function than workers was invoked."""
    memory_mb = row.lambda_mb or 0
    gb_s = row.lambda_seconds_all_workers * memory_mb / 1024
    counts = {"lambda.invoke": Count(row.workers + 1, gb_s)}
    if isinstance(row, QueueMeasurement):
        counts["sns.publish"] = Count(row.sns_publish_calls, row.sns_publish_billed, row.bytes_sent)
        counts["sqs.receive_message"] = Count(
            row.sqs_receive_calls, row.sqs_receive_calls, row.bytes_received
        )
    else:
        puts = row.s3_puts + row.s3_lists
        counts["s3.put_object"] = Count(puts, puts, row.bytes_written)
        counts["s3.get_object"] = Count(row.s3_gets, row.s3_gets, row.bytes_read)
    return Usage(counts)
