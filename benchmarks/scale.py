"""From the official network to one 64 times larger: ``python -m benchmarks.scale [--neurons N]... [--json]``.

For each size the network of 120 layers and the same images, enlarged, run twice: by one process on one
thread, streamed from disk, and as a whole serial run on the embedded cloud. Both are held to plain scipy.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.table import Table
from safetensors.numpy import load_file

from benchmarks.prepared import prepared_model
from benchmarks.samples import Samples, benchmark_samples
from benchmarks.streaming import dense
from lamella.engine import StepRecord, run_task
from lamella.events import RunRequest
from lamella.files import Directory
from lamella.inputs import read_batch
from lamella.kernel import Processor
from lamella.manifest import read_manifest
from lamella.memory import weight_memory
from lamella.plan import Plan
from lamella.predictions import source_rows
from lamella.runtime import peak_memory_bytes
from lamella.strategies import tasks_of
from lamella.streaming import WeightStream
from lamella.tiles import read_tiles
from model_prep.readers import open_source
from model_prep.reference import plain_scipy
from workflows.cli.cloud import deployed_cloud
from workflows.cli.console import Output
from workflows.cli.runs import place_input, place_model, run_to_end

LAYERS = 120
MEMORY_MB = 3008
ROUNDS = 3


def alone(model: Path, batch: Path, samples: int, answer: Connection) -> None:
    """Run a model in this process, a few times; send what it took, then the activations."""
    files = Directory(model)
    manifest = read_manifest(files)
    images = read_batch(batch.read_bytes(), batch.name, manifest.features, samples)
    inputs = images.block(None, (0, samples))
    del images
    (task,) = tasks_of(manifest, None, Plan("serial", "none", 1, MEMORY_MB, samples))
    room = weight_memory(task, manifest, MEMORY_MB)
    rounds = []
    for _ in range(ROUNDS):
        records: list[StepRecord] = []
        began, began_cpu = time.perf_counter(), time.process_time()
        weights = WeightStream(files, manifest, read_tiles(files, manifest), task.parts, room.window_bytes)
        with weights, Processor() as processor:
            output = run_task(task, manifest, weights, inputs, None, records.append, processor=processor)
        kernel_s = sum(record.compute_s for record in records)
        rounds.append((time.perf_counter() - began, kernel_s, time.process_time() - began_cpu))
    total_s, kernel_s, cpu_s = min(rounds)
    answer.send(
        {
            "seconds": round(total_s, 3),
            "kernel_s": round(kernel_s, 3),
            "cpu_s": round(cpu_s, 3),
            "peak_bytes": peak_memory_bytes(),
            "read_bytes": weights.use.read_bytes,
            "window_bytes": weights.use.window_bytes,
        }
    )
    answer.send(output)
    answer.send(source_rows(files, manifest.layers[-1]))


def in_own_process(model: Path, samples: Samples) -> tuple[dict[str, Any], NDArray[np.float32]]:
    """What `alone` took in a new process, and its activations."""
    ours, theirs = multiprocessing.Pipe()
    count = int(samples.matrix.shape[0])
    process = multiprocessing.get_context("spawn").Process(
        target=alone, args=(model, samples.path, count, theirs)
    )
    process.start()
    theirs.close()
    figures = ours.recv()
    activations = dense(ours.recv(), ours.recv(), count)
    process.join()
    return figures, activations


def on_cloud(model: Path, samples: Samples, folder: Path, output: Output) -> tuple[dict[str, Any], Path]:
    """A whole serial run on the embedded cloud, and where its activations are."""
    with deployed_cloud(output) as (_, stack):
        request = RunRequest(
            model=place_model(stack, str(model)),
            input=place_input(stack, str(samples.path)),
            strategy="serial",
            memory_mb=MEMORY_MB,
            activations=True,
        )
        finished = run_to_end(stack, request, output, destination=folder, local=True)
        summary = json.loads(stack.files().read(f"runs/{finished.handle.run_id}/summary.json"))
    (worker,) = summary["workers_detail"]
    return {
        "memory_mb": summary["memory_mb"],
        "seconds": summary["seconds"],
        "peak_bytes": worker["peak_bytes"],
        "read_bytes": worker["read_bytes"],
        "window_bytes": worker["window_bytes"],
        "gets": worker["usage"]["s3.get_object"]["calls"],
        "cost_usd": summary["cost_usd"]["total"],
    }, folder / "activations.safetensors"


def measure(neurons: int, count: int, cloud: bool, output: Output) -> dict[str, Any]:
    """One size: alone, on the cloud, and plain scipy's verdict on both."""
    network = f"radixnet:{neurons}x{LAYERS}"
    model = prepared_model(network, output)
    with tempfile.TemporaryDirectory(prefix="lamella-scale-") as name:
        folder = Path(name)
        samples = benchmark_samples(neurons, folder, count)
        output.say(f"{network}: one thread")
        figures, activations = in_own_process(model, samples)
        output.say(f"{network}: plain scipy")
        live: dict[int, int] = {0: count}
        began = time.perf_counter()
        plain = plain_scipy(open_source(network), samples.matrix, live.__setitem__)
        scipy_s = time.perf_counter() - began
        equal = bool((activations.view(np.uint32) == plain.view(np.uint32)).all())
        del activations
        run: dict[str, Any] | None = None
        if cloud:
            run, path = on_cloud(model, samples, folder, output)
            got = load_file(path)["activations"]
            run["equal"] = bool((got.view(np.uint32) == plain.view(np.uint32)).all())
    per_layer = read_manifest(Directory(model)).layers[0].nnz
    live_edges = per_layer * sum(live[layer] for layer in range(LAYERS))
    return {
        "network": network,
        "input": samples.description,
        **figures,
        "edges_per_s": round(per_layer * LAYERS * count / figures["seconds"]),
        "live_edges": live_edges,
        "live_edges_per_s": round(live_edges / figures["kernel_s"]),
        "scipy_s": round(scipy_s, 2),
        "equal": equal,
        "cloud": run,
    }


def shown(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The sizes below each other."""
    table = Table(
        title="one thread, from disk; live edges: weights x samples alive before them", title_justify="left"
    )
    names = ("network", "s", "kernel s", "edges/s", "live edges/s", "peak MiB", "read MB", "cloud s", "exact")
    for name in names:
        table.add_column(name, justify="right")
    for row in rows:
        cloud = row["cloud"]
        exact = row["equal"] and (cloud is None or cloud["equal"])
        table.add_row(
            row["network"],
            f"{row['seconds']:.2f}",
            f"{row['kernel_s']:.2f}",
            f"{row['edges_per_s']:.3g}",
            f"{row['live_edges_per_s']:.3g}",
            f"{row['peak_bytes'] >> 20:,}",
            f"{row['read_bytes'] / 1e6:,.0f}",
            f"{cloud['seconds']['total']:.1f}" if cloud else "",
            "yes" if exact else "NO",
        )
    return table


def main(
    neurons: Annotated[
        list[int] | None, typer.Option(help="1024, 4096, 16384, 65536; may be repeated.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, max=10_000, help="Images.")] = 1000,
    cloud: Annotated[bool, typer.Option(help="Run on the embedded cloud as well.")] = True,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Cost against the size of the network; exit 1 unless every bit is right."""
    output = Output(json_)
    rows = [measure(size, samples, cloud, output) for size in neurons or [1024, 4096, 16384, 65536]]
    first, last = rows[0], rows[-1]
    growth = {
        "seconds": round(last["seconds"] / first["seconds"], 2),
        "live_edges": round(last["live_edges"] / first["live_edges"], 2),
    }
    output.result({"networks": rows, "growth": growth}, shown(rows))
    if not all(row["equal"] and (not row["cloud"] or row["cloud"]["equal"]) for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    typer.run(main)
