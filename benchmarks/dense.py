"""Dense layers against numpy's matrix product, interleaved in one process, with the same number of threads.

Ours are whole layers: weights as they are stored, bias and ReLU. numpy has float32 weights and multiplies
only. For each batch the network whose ratio is worst stands for all.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.table import Table

from lamella.activations import Activations
from lamella.kernel import DenseWeights, Processor, forward
from lamella.kernel.fused import fused
from lamella.numbers import as_bfloat16, as_float32
from model_prep.dense import BAND_ROWS, banded
from workflows.cli.console import Output

BATCHES = (1, 8, 64, 256)
NETWORKS = {1024: 16, 4096: 4}  # neurons: layers; neither fits a last-level cache
STORED = ("float32", "float16", "bfloat16")
BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
SETTLE_S = 0.1  # OpenBLAS's threads go on waiting at full speed for a while, at the cost of who runs then
CHECKED_ROWS = 16
FEW = 8  # samples, which take so little time that more rounds are needed
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Network:
    """Layers of one width, as numpy has them and as the kernel does."""

    weights: list[NDArray[np.float32]]
    layers: list[DenseWeights]

    def ours(self, x: NDArray[np.float32], processor: Processor) -> NDArray[np.float32]:
        """All layers."""
        samples = (0, x.shape[1])
        return forward(self.layers, Activations(np.arange(*samples), x), samples, processor).values

    def numpy(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """All products, and nothing else."""
        for weight in self.weights:
            x = weight @ x
        return x

    def is_right(self, x: NDArray[np.float32], processor: Processor) -> bool:
        """Some rows of the first layer to the bit, all of them nearly."""
        samples = (0, x.shape[1])
        got = forward(self.layers[:1], Activations(np.arange(*samples), x), samples, processor).values
        rows = np.random.default_rng(0).choice(len(got), CHECKED_ROWS, replace=False)
        sums: NDArray[np.float32] = np.zeros((CHECKED_ROWS, x.shape[1]), np.float32)
        for k in range(len(x)):
            sums = fused(self.weights[0][rows, k : k + 1], x[k], sums)
        bias = self.layers[0].bias
        exact = np.maximum(sums + bias, np.float32(0))
        near = np.maximum(self.weights[0] @ x + bias, np.float32(0))
        return bool(got[rows].tobytes() == exact.tobytes() and np.allclose(got, near, atol=TOLERANCE))


def network(neurons: int, layers: int, stored: str) -> Network:
    """Random weights that keep activations of their size."""
    random = np.random.default_rng(neurons)
    weights, made = [], []
    for k in range(layers):
        weight: NDArray[Any] = random.standard_normal((neurons, neurons), np.float32) / np.float32(
            neurons**0.5
        )
        if stored != "float32":
            weight = weight.astype(np.float16) if stored == "float16" else as_bfloat16(weight)
        weights.append(as_float32(weight))
        made.append(
            DenseWeights(
                number=k,
                columns=neurons,
                rows=neurons,
                inputs=neurons,
                values=banded(weight, BAND_ROWS),
                band=BAND_ROWS,
                positions=None,
                bias=np.float32(0.1),
                bias_on_nonzero=False,
                activation="relu",
                lo=None,
                hi=None,
                zeros_to_zeros=False,
            )
        )
    return Network(weights, made)


def measure(rounds: int, processor: Processor, output: Output) -> dict[str, Any]:
    """Seconds of every network, batch and stored type."""
    result: dict[str, Any] = {str(batch): {"ratio": np.inf, "networks": {}} for batch in BATCHES}
    equal = True
    for neurons, depth in NETWORKS.items():
        for stored in STORED:
            net = network(neurons, depth, stored)
            for batch in BATCHES:
                x = np.random.default_rng(batch).random((neurons, batch), np.float32)
                equal &= net.is_right(x, processor)
                seconds: tuple[list[float], list[float]] = ([], [])
                for _ in range(rounds * (4 if batch <= FEW else 1)):
                    time.sleep(SETTLE_S)
                    began = time.perf_counter()
                    net.ours(x, processor)
                    between = time.perf_counter()
                    net.numpy(x)
                    seconds[0].append(between - began)
                    seconds[1].append(time.perf_counter() - between)
                ours_s, numpy_s = map(median, seconds)
                found = {"ours_s": ours_s, "numpy_s": numpy_s, "ratio": numpy_s / ours_s}
                entry = result[str(batch)]
                entry["networks"][f"{neurons}x{depth} {stored}"] = found
                if found["ratio"] < entry["ratio"]:
                    entry.update(found)
                output.say(f"{neurons} x {depth} {stored}, {batch} samples: {found['ratio']:.2f}")
    return result | {"equal": equal, "threads": processor.threads, "kernel": processor.kernel.name}


def main(
    threads: Annotated[int, typer.Option(help="Of both.")] = 1,
    rounds: Annotated[int, typer.Option(help="Of which the median counts.")] = 9,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare dense layers with numpy's matmul."""
    if any(os.environ.get(name) != str(threads) for name in BLAS_THREADS):
        # numpy's library reads them when it is loaded.
        settings = os.environ | dict.fromkeys(BLAS_THREADS, str(threads))
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks.dense", *sys.argv[1:]], settings)
    output = Output(json_)
    with Processor(threads) as processor:
        result = measure(rounds, processor, output)
    table = Table("samples", "ours, s", "numpy, s", "ratio", title=f"{threads} threads, {result['kernel']}")
    for batch in BATCHES:
        entry = result[str(batch)]
        table.add_row(str(batch), *(f"{entry[name]:.4f}" for name in ("ours_s", "numpy_s", "ratio")))
    output.result(result, table)
    if not result["equal"]:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
