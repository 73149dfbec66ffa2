"""Reading and computing at the same time: ``python -m benchmarks.streaming [--json]``.

A model is read from an S3 whose bandwidth is set so that reading takes as long as computing, by itself, does.
Then both together, a window of the model in memory, must take hardly longer than one of them. The network is
one in which every layer takes as long: where samples die in the first layers, little is left to overlap.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.table import Table

from benchmarks.paced_s3 import paced_bucket
from benchmarks.samples import benchmark_samples
from lamella.activations import Activations
from lamella.engine import StepRecord, run_task
from lamella.files import Directory, Files
from lamella.inputs import read_batch
from lamella.kernel import Processor
from lamella.manifest import Manifest, read_manifest
from lamella.memory import LEAST_WINDOW_BYTES, stored_bytes
from lamella.plan import Plan, Task
from lamella.predictions import source_rows
from lamella.strategies import tasks_of
from lamella.streaming import WeightStream
from lamella.tiles import TileMap, read_tiles
from lamella.weights import StoredPart
from model_prep.readers import open_source
from model_prep.reference import plain_scipy
from model_prep.writer import write_model
from workflows.cli.console import Output

# What the smallest worker has at least.
WINDOW_BYTES = LEAST_WINDOW_BYTES
MOST_SHARE = 0.65


def computed(
    task: Task, manifest: Manifest, weights: Iterator[StoredPart], inputs: Activations
) -> tuple[Activations, float]:
    """A task's output, and its seconds."""
    records: list[StepRecord] = []
    began = time.perf_counter()
    with Processor() as processor:
        output = run_task(task, manifest, weights, inputs, None, records.append, processor=processor)
    return output, time.perf_counter() - began


def read_through(files: Files, manifest: Manifest, tiles: TileMap, task: Task) -> float:
    """Seconds to read a task's weights with nothing to compute."""
    began = time.perf_counter()
    with WeightStream(files, manifest, tiles, task.parts, WINDOW_BYTES) as weights:
        for _ in weights:
            pass
    return time.perf_counter() - began


def dense(output: Activations, rows: NDArray[np.int64], samples: int) -> NDArray[np.float32]:
    """Samples x outputs, in the source's order."""
    values = np.zeros((samples, len(rows)), np.float32)
    values[np.ix_(output.live, rows)] = output.values.T
    return values


def measure(network: str, samples: int, rounds: int, output: Output) -> dict[str, Any]:
    """Reading, computing, and both, in turn; the medians of some rounds."""
    with tempfile.TemporaryDirectory(prefix="lamella-streaming-") as name:
        folder = Path(name)
        output.say(f"preparing {network}")
        write_model(open_source(network), folder / "model")
        files = Directory(folder / "model")
        manifest = read_manifest(files)
        tiles = read_tiles(files, manifest)
        batch = benchmark_samples(manifest.features, folder, samples)
        data = batch.path.read_bytes()
        inputs = read_batch(data, batch.path.name, manifest.features, samples).block(None, (0, samples))
        (task,) = tasks_of(manifest, None, Plan("serial", "none", 1, 0, samples))
        with WeightStream(files, manifest, tiles, task.parts) as weights:
            held = list(weights)
        stored = sum(stored_bytes(manifest.layers[part.layer], part) for part in task.parts)
        seconds: dict[str, list[float]] = {"read_s": [], "compute_s": [], "total_s": []}
        rates, windows, results = [], [], []
        computed(task, manifest, iter(held), inputs)
        for _ in range(rounds):
            result, compute_s = computed(task, manifest, iter(held), inputs)
            # Set anew in every round: a machine that others use too is not always as fast.
            rates.append(stored / compute_s)
            output.say(f"computing takes {compute_s:.2f} s: an S3 of {rates[-1] / 1e6:.0f} MB/s")
            with paced_bucket(folder / "model", rates[-1]) as bucket:
                with WeightStream(bucket, manifest, tiles, task.parts, WINDOW_BYTES) as weights:
                    streamed, total_s = computed(task, manifest, weights, inputs)
                    windows.append(weights.use.window_bytes)
                seconds["read_s"].append(read_through(bucket, manifest, tiles, task))
            seconds["compute_s"].append(compute_s)
            seconds["total_s"].append(total_s)
            results += [result, streamed]
        output.say("running the same in plain scipy")
        plain = plain_scipy(open_source(network), batch.matrix)
        rows = source_rows(files, manifest.layers[-1])
        equal = all(dense(result, rows, samples).tobytes() == plain.tobytes() for result in results)
    shares = [total / (read + alone) for read, alone, total in zip(*seconds.values(), strict=True)]
    medians: dict[str, Any] = {name: round(median(values), 3) for name, values in seconds.items()}
    return medians | {
        "share": round(median(shares), 3),
        "window_bytes": max(windows),
        "model_bytes": stored,
        "bytes_per_s": round(median(rates)),
        "equal": equal,
        "network": network,
        "input": batch.description,
        "rounds": rounds,
    }


def main(
    network: Annotated[str, typer.Option(help="alive:NxL or radixnet:NxL.")] = "alive:4096x24",
    samples: Annotated[int, typer.Option(min=1, max=10_000, help="Images.")] = 1500,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show that reading overlaps computing; exit 1 unless it does, and every bit is right."""
    output = Output(json_)
    data = measure(network, samples, rounds, output)
    table = Table(title=f"{data['network']}, {data['input']}", title_justify="left")
    table.add_column("")
    table.add_column("", justify="right")
    for name, value in data.items():
        table.add_row(name, f"{value:,}" if isinstance(value, int | float) else str(value))
    output.result(data, table)
    if not data["equal"] or data["share"] >= MOST_SHARE:
        sys.exit(1)


if __name__ == "__main__":
    typer.run(main)
