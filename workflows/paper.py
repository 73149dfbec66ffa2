"""What the authors of FSD-Inference measured on AWS, for comparison.

J. Oakley and H. Ferhatosmanoglu, "FSD-Inference: Fully Serverless Distributed Inference with Scalable Cloud
Communication", ICDE 2024, arXiv 2403.15195: the runs of FSD-Inf-Queue, as the authors published them
(``paper-queue.csv``). Seconds are the mean worker's batch time, without launch and load.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Measurement:
    """One configuration; columns as the authors named them."""

    config: str
    neurons: int
    layers: int
    samples: int
    workers: int
    lambda_mb: int
    batch_seconds: float
    lambda_seconds_all_workers: float
    comm_seconds_all_workers: float
    compute_seconds_all_workers: float
    compress_seconds_all_workers: float
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


def _measured() -> Mapping[tuple[str, int, int], Measurement]:
    text = Path(__file__).with_name("paper-queue.csv").read_text(encoding="utf-8")
    rows = TypeAdapter(list[Measurement]).validate_python(list(csv.DictReader(text.splitlines())))
    return MappingProxyType({("queue", row.neurons, row.workers): row for row in rows})


MEASURED = _measured()
"""By channel (as the paper calls it: ``queue`` is topics with a queue each), neurons and workers."""
