"""Every message of a run by Lamella's codec, and as the paper writes it: ``python -m benchmarks.codec``.

The official network, most samples of which die, and ``alive``, in which none does and no row repeats. Both
sides write and read all messages in turns; the bits of each are compared. Seconds are this thread's.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from benchmarks.codec_sides import (
    Ours,
    Sending,
    csr_from_bytes,
    csr_of,
    csr_to_bytes,
    order0_entropy_bytes,
    sendings,
)
from benchmarks.prepared import prepared_model
from benchmarks.samples import SAMPLES, benchmark_samples
from lamella.activations import Activations
from lamella.errors import LamellaError
from lamella.inputs import Batch, read_batch
from workflows.cli.console import Output

PIXELS = 1024


@dataclass
class Side:
    """What one way to write messages took in a round."""

    bytes: int = 0
    encode_s: float = 0.0
    decode_s: float = 0.0
    equal: bool = True


@dataclass
class Round:
    """One walk through a run."""

    messages: int = 0
    raw_bytes: int = 0
    entropy_bytes: float = 0.0
    kernel_s: float = 0.0
    ours: Side = field(default_factory=Side)
    csr_zlib: Side = field(default_factory=Side)


def walk(model: Path, batch: Batch, workers: int) -> Round:
    """All messages once, by both sides, whose turns change with each worker's sending."""
    done, codec = Round(), Ours(workers)
    kernel_s: list[float] = []
    for number, sending in enumerate(sendings(model, batch, workers, kernel_s.append, time.thread_time)):
        sent = [message for _, message in sending.messages()]
        done.messages += len(sent)
        done.raw_bytes += sum(message.values.nbytes for message in sent)
        done.entropy_bytes += sum(order0_entropy_bytes(message, sending.samples) for message in sent)
        if number % 2:
            by_csr(done.csr_zlib, sending, sent)
        by_ours(done.ours, codec, sending, sent)
        if not number % 2:
            by_csr(done.csr_zlib, sending, sent)
    done.kernel_s = sum(kernel_s)
    return done


def by_ours(side: Side, codec: Ours, sending: Sending, sent: list[Activations]) -> None:
    """One worker's sending through the codec."""
    began = time.thread_time()
    letters = codec.encode(sending)
    encoded = time.thread_time()
    came = codec.decode(sending, letters)
    side.decode_s += time.thread_time() - encoded
    side.encode_s += encoded - began
    side.bytes += sum(len(data) for data in letters.values())
    side.equal &= all(same(a, b) for a, b in zip(sent, came, strict=True))


def by_csr(side: Side, sending: Sending, sent: list[Activations]) -> None:
    """The same as the paper's workers write it, who have their activations as CSR."""
    matrices = [csr_of(message, sending.samples) for message in sent]
    began = time.thread_time()
    letters = [csr_to_bytes(matrix) for matrix in matrices]
    encoded = time.thread_time()
    came = [csr_from_bytes(data, matrix.shape) for data, matrix in zip(letters, matrices, strict=True)]
    side.decode_s += time.thread_time() - encoded
    side.encode_s += encoded - began
    side.bytes += sum(map(len, letters))
    side.equal &= all(
        np.array_equal(getattr(a, name).view(np.uint32), getattr(b, name).view(np.uint32))
        for a, b in zip(matrices, came, strict=True)
        for name in ("indptr", "indices", "data")
    )


def same(a: Activations, b: Activations) -> bool:
    """To the bit."""
    return np.array_equal(a.live, b.live) and np.array_equal(
        a.values.view(np.uint32), b.values.view(np.uint32)
    )


def compare(
    network: str, batch: Batch, description: str, workers: int, rounds: int, output: Output
) -> dict[str, Any]:
    """Bytes, and median speeds, of all messages of a run."""
    model = prepared_model(network, output, workers)
    output.say(f"{network}, {description}, {workers} workers")
    walks = [walk(model, batch, workers) for _ in range(rounds)]
    first = walks[0]
    sides = {name: [getattr(done, name) for done in walks] for name in ("ours", "csr_zlib")}
    return {
        "network": network,
        "input": description,
        "samples": batch.samples,
        "workers": workers,
        "messages": first.messages,
        "equal": all(side.equal for rounds_ in sides.values() for side in rounds_),
        "raw_bytes": first.raw_bytes,
        "order0_entropy_bytes": round(first.entropy_bytes),
        "kernel_s": round(median(done.kernel_s for done in walks), 3),
        **{name: figures(side, first.raw_bytes) for name, side in sides.items()},
    }


def figures(rounds: list[Side], raw_bytes: int) -> dict[str, float]:
    """Of one side; speeds in MB of raw float32 numbers."""
    encode_s, decode_s = median(r.encode_s for r in rounds), median(r.decode_s for r in rounds)
    return {
        "bytes": rounds[0].bytes,
        "encode_s": round(encode_s, 3),
        "encode_mb_per_s": round(raw_bytes / 1e6 / encode_s, 1),
        "decode_s": round(decode_s, 3),
        "decode_mb_per_s": round(raw_bytes / 1e6 / decode_s, 1),
    }


def shown(result: Mapping[str, Any]) -> Table:
    """One network as a table."""
    verdict = "all bits equal" if result["equal"] else "NOT EQUAL"
    table = Table(
        title=f"{result['network']}, {result['input']}, {result['workers']} workers, "
        f"{result['messages']:,} messages: {verdict}",
        title_justify="left",
    )
    for name in ("", "bytes", "of raw", "encode MB/s", "decode MB/s", "encode s", "decode s"):
        table.add_column(name, justify="right" if name else "left")
    raw = result["raw_bytes"]
    for name, label in (("ours", "Lamella"), ("csr_zlib", "CSR + zlib")):
        side = result[name]
        speeds = [f"{side[key]:,.0f}" for key in ("encode_mb_per_s", "decode_mb_per_s")]
        seconds = [f"{side[key]:.2f}" for key in ("encode_s", "decode_s")]
        table.add_row(label, f"{side['bytes']:,}", f"{side['bytes'] / raw:.4f}", *speeds, *seconds)
    entropy = result["order0_entropy_bytes"]
    table.add_row("order-0 entropy", f"{entropy:,}", f"{entropy / raw:.4f}")
    table.add_row("float32, live samples", f"{raw:,}", "1")
    table.add_row("kernel, all layers", *[""] * 4, f"{result['kernel_s']:.2f}")
    return table


def main(
    workers: Annotated[int, typer.Option(min=2, help="How many.")] = 8,
    network: Annotated[str, typer.Option(help="As prep takes it.")] = "radixnet:1024x120",
    alive: Annotated[str, typer.Option(help="The network in which no sample dies.")] = "alive:1024x120",
    samples: Annotated[int, typer.Option(min=1, max=SAMPLES, help="Of the first network.")] = SAMPLES,
    alive_samples: Annotated[int, typer.Option(min=1, max=SAMPLES, help="Of the second.")] = 128,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    json_: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """Write every message in both ways; exit 1 unless every bit is right."""
    output = Output(json_)
    results = []
    try:
        for source, count in ((network, samples), (alive, alive_samples)):
            with tempfile.TemporaryDirectory(prefix="lamella-benchmark-") as folder:
                images = benchmark_samples(PIXELS, Path(folder), count)
                batch = read_batch(images.path.read_bytes(), images.path.name, PIXELS, count)
            results.append(compare(source, batch, images.description, workers, rounds, output))
    except LamellaError as error:
        output.err.print(f"error: {error}", markup=False, soft_wrap=True)
        raise typer.Exit(error.exit_code) from error
    if json_:
        sys.stdout.write(json.dumps(results) + "\n")
    for result in results if not json_ else ():
        output.out.print(shown(result))
    if not all(result["equal"] for result in results):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
