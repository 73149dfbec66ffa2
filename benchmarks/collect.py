"""Putting a wide output together in bounded memory: ``python -m benchmarks.collect [--json]``.

Workers' parts of an output that is larger than the function Collect are made up, a block at a time, and
written as workers write them. Then the state Collect itself puts them together, in a process of its own whose
memory is measured, through an S3 in another: predictions and activations. Samples from all over are made up
again and compared, bit by bit.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.table import Table

from lamella.activations import Activations
from lamella.codec import encode
from lamella.collect_memory import COLLECT_MEMORY_MB, collect_need_bytes
from lamella.events import CollectEvent
from lamella.files import Directory
from lamella.layout import MODELS, RunKeys
from lamella.manifest import read_manifest
from lamella.part_writer import write_part
from lamella.parts import block_bounds
from lamella.plan import Plan, Range
from lamella.predictions import SampleBlock, activations_head, prediction_lines, source_rows
from lamella.records import PlanRecord, Share, WorkerReport, to_json
from lamella.runtime import Runtime, peak_memory_bytes
from lamella.states.collect import collect_run
from lamella.storage import Bucket
from lamella.usage import Usage
from model_prep.readers import open_source
from model_prep.writer import write_model
from workflows.cli.console import Output
from workflows.embedded_cloud import EmbeddedCloud

BUCKET = "collect"
RUN = "collected"
PATTERNS = 8
CHECKED = 12
CHECKED_SAMPLES = 50


@dataclass(frozen=True)
class Case:
    """An output that is made up of some patterns, which follow each other at random.

    Attributes
    ----------
    live
        Share of the samples that are not all zero; where it isn't all, half of their cells are zero too.
    """

    name: str
    live: float
    shares: tuple[Share, ...]
    samples: int

    def blocks(self, worker: int) -> list[Range]:
        """As its part has them."""
        return block_bounds(self.shares[worker], len(self.shares))

    def encoded(self, worker: int) -> Iterator[bytes]:
        """A worker's blocks. None depends on where it stands, so a pattern is encoded once."""
        known: dict[tuple[int, int], bytes] = {}
        for number, (start, stop) in enumerate(self.blocks(worker)):
            key = self._pattern(number), stop - start
            if key not in known:
                block = Activations(np.arange(start, stop), self._values(worker, *key))
                known[key] = encode(block, (start, stop))
            yield known[key]

    def columns(self, worker: int, samples: Range) -> NDArray[np.float32]:
        """A worker's rows of some samples."""
        found = []
        for number, (start, stop) in enumerate(self.blocks(worker)):
            if start < samples[1] and stop > samples[0]:
                block = self._values(worker, self._pattern(number), stop - start)
                found.append(block[:, max(samples[0] - start, 0) : samples[1] - start])
        return np.concatenate(found, axis=1)

    def _pattern(self, number: int) -> int:
        return int(np.random.default_rng([1, number]).integers(PATTERNS))

    def _values(self, worker: int, pattern: int, samples: int) -> NDArray[np.float32]:
        rows = self.shares[worker].rows[1] - self.shares[worker].rows[0]
        values = np.random.default_rng([2, worker, pattern]).standard_normal((rows, samples), np.float32)
        # Zeros have no sign in a part: the codec leaves them out.
        values += np.float32(0)
        if self.live < 1:
            np.maximum(values, 0, out=values)
            values[:, np.random.default_rng([3, pattern]).random(samples) >= self.live] = 0
        return values


@dataclass
class Context:
    """What Lambda passes to a handler."""

    memory_limit_in_mb: str = str(COLLECT_MEMORY_MB)
    log_stream_name: str = "benchmark"
    aws_request_id: str = "00000000-0000-0000-0000-000000000000"

    def get_remaining_time_in_millis(self) -> int:
        return 900_000


def leave_model(bucket: Bucket, network: str, workers: int, folder: Path) -> NDArray[np.int64]:
    """Put a network that has the outputs into the bucket; the order of its last layer's rows."""
    write_model(open_source(network), folder, workers=[workers] if workers > 1 else [])
    for path in folder.rglob("*"):
        if path.is_file():
            bucket.write(f"{MODELS}{path.relative_to(folder)}", path.read_bytes())
    files = Directory(folder)
    return source_rows(files, read_manifest(files).layers[-1])


def leave_part(bucket: Bucket, case: Case, worker: int) -> int:
    """Write a worker's part as a worker does, but for never having all of it; its bytes."""
    report = WorkerReport(worker, 0.0, 0.0, 0.0, 0, (), (0, ""), {})
    path, share, workers = RunKeys(RUN).part(worker), case.shares[worker], len(case.shares)
    return write_part(bucket, path, case.encoded(worker), share, workers, report, Usage)


def leave_plan(bucket: Bucket, case: Case) -> None:
    """What Plan would leave."""
    plan = Plan("rows", "sns", len(case.shares), 0, case.samples)
    record = PlanRecord(
        run=RUN,
        attempt=1,
        request={"activations": True},
        plan=plan,
        model=bucket.location(MODELS),
        first_sample=0,
        started_s=0.0,
        deadline_s=0.0,
        shares=case.shares,
        usage={},
    )
    bucket.write(RunKeys(RUN).plan, to_json(record))


def collected(environment: dict[str, str]) -> dict[str, Any]:
    """Run Collect in this process, which does nothing else; what it took."""
    os.environ.update(environment | {"LAMELLA_BUCKET": BUCKET})
    runtime = Runtime()
    runtime.begin(Context())
    before_bytes, began = peak_memory_bytes(), time.perf_counter()
    collect_run(CollectEvent(run=RUN, attempt=1), runtime)
    counts = runtime.meter.usage().to_json()
    return {
        "seconds": round(time.perf_counter() - began, 1),
        "peak_bytes": peak_memory_bytes(),
        "start_bytes": before_bytes,
        "gets": counts["s3.get_object"]["calls"],
        "puts": sum(int(count["calls"]) for name, count in counts.items() if name != "s3.get_object"),
    }


def in_process_of_its_own(environment: dict[str, str]) -> dict[str, Any]:
    """`collected`, started anew: memory that this process had is none of Collect's."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(collected, environment).result()


def equal_samples(bucket: Bucket, case: Case, order: NDArray[np.int64]) -> Iterator[bool]:
    """Whether some samples' activations and predictions are what was made up."""
    keys, outputs = RunKeys(RUN), len(order)
    lines = bucket.read(keys.predictions).splitlines(keepends=True)
    yield len(lines) == case.samples + 1
    # All in one request, of which no more is held than what is compared.
    body = bucket.client.get_object(Bucket=bucket.bucket, Key=keys.activations)["Body"]
    head = activations_head(case.samples, outputs)
    yield body.read(len(head)) == head
    at, last = 0, max(case.samples - CHECKED_SAMPLES, 0)
    for start in np.unique(np.linspace(0, last, CHECKED).astype(int)).tolist():
        while at < start:
            skipped = min(start - at, CHECKED_SAMPLES)
            body.read(4 * outputs * skipped)
            at += skipped
        stop = min(start + CHECKED_SAMPLES, case.samples)
        expected = np.empty((stop - at, outputs), np.float32)
        expected[:, order] = np.concatenate(
            [case.columns(worker, (at, stop)) for worker in range(len(case.shares))]
        ).T
        yield body.read(expected.nbytes) == expected.tobytes()
        whole = SampleBlock((at, stop), np.ones(stop - at, bool), expected)
        yield b"".join(lines[1 + at : 1 + stop]) == prediction_lines(whole, first_sample=0)
        at = stop
    yield body.read() == b""


def measure(outputs: int, samples: int, workers: int, output: Output) -> list[dict[str, Any]]:
    """Every case in turn."""
    found = []
    with tempfile.TemporaryDirectory(prefix="lamella-collect-") as name, EmbeddedCloud.start() as cloud:
        client = cloud.client("s3")
        client.create_bucket(Bucket=BUCKET)
        bucket = Bucket(client, BUCKET)
        order = leave_model(bucket, f"radixnet:{outputs}x1", workers, Path(name))
        edges = [worker * outputs // workers for worker in range(workers + 1)]
        shares = tuple(Share((edges[w], edges[w + 1]), (0, samples)) for w in range(workers))
        for title, live in (("all live", 1.0), ("30% live", 0.3)):
            case = Case(title, live, shares, samples)
            output.say(f"{title}: writing the parts of {workers} workers")
            leave_plan(bucket, case)
            part_bytes = sum(leave_part(bucket, case, worker) for worker in range(workers))
            output.say(f"{title}: {part_bytes / 1e6:,.0f} MB; putting them together")
            took = in_process_of_its_own(cloud.environment())
            output.say(f"{title}: comparing")
            found.append(
                {"case": title, "outputs": outputs, "samples": samples, "workers": workers}
                | {"part_bytes": part_bytes, "activation_bytes": 4 * outputs * samples}
                | took
                | {
                    "need_bytes": collect_need_bytes(shares, outputs, samples),
                    "most_bytes": COLLECT_MEMORY_MB << 20,
                    "equal": all(equal_samples(bucket, case, order)),
                }
            )
            client.delete_object(Bucket=BUCKET, Key=RunKeys(RUN).activations)
    return found


def main(
    outputs: Annotated[int, typer.Option(min=1024, help="Of radixnet: 1024, 4096, 16384, 65536.")] = 65_536,
    samples: Annotated[int, typer.Option(min=1)] = 10_000,
    workers: Annotated[int, typer.Option(min=1)] = 8,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show that Collect's memory is bounded; exit 1 unless it is, and every bit is right."""
    output = Output(json_)
    cases = measure(outputs, samples, workers, output)
    table = Table(title=f"{outputs:,} outputs x {samples:,} samples, {workers} workers", title_justify="left")
    table.add_column("")
    for case in cases:
        table.add_column(case["case"], justify="right")
    for name in cases[0]:
        if name not in {"case", "outputs", "samples", "workers"}:
            values = [case[name] for case in cases]
            table.add_row(name, *(str(v) if isinstance(v, bool) else f"{v:,}" for v in values))
    output.result({"cases": cases}, table)
    if not all(
        case["equal"] and case["peak_bytes"] < case["need_bytes"] < case["most_bytes"] for case in cases
    ):
        sys.exit(1)


if __name__ == "__main__":
    typer.run(main)
