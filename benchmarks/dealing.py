"""How even workers' live work is: ``python -m benchmarks.dealing [--json]``.

Each image's work in the network of 1,024 neurons is the layers that it is alive in; a worker's is that of all
its images. Set side by side: consecutive images, and images dealt as strategies samples and hybrid do.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.table import Table
from scipy.sparse import csr_array

from benchmarks.samples import PIXELS, SAMPLES, benchmark_samples
from lamella.strategies.dealing import deal, unevenness
from lamella.strategies.portions import even_ranges
from model_prep.readers import open_source
from model_prep.reference import live_layers
from workflows.cli.console import Output

WORKERS = (2, 4, 8, 16, 32)


def spreads(work: NDArray[np.int64], nonzero: NDArray[np.int64], workers: int) -> dict[str, Any]:
    """The most live work of a worker over the mean: of consecutive samples, and of dealt ones."""
    ranges = even_ranges(len(work), workers)
    dealt = deal(nonzero, workers)
    return {
        "workers": workers,
        "consecutive": round(unevenness(work, ranges), 3),
        "dealt": None if dealt is None else round(unevenness(work[dealt], ranges), 3),
    }


def main(
    layers: Annotated[int, typer.Option(min=1)] = 120,
    samples: Annotated[int, typer.Option(min=max(WORKERS), max=SAMPLES, help="Images.")] = SAMPLES,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show how even the live work of workers is."""
    output = Output(json_)
    with tempfile.TemporaryDirectory(prefix="lamella-dealing-") as name:
        batch = benchmark_samples(PIXELS, Path(name), samples)
    output.say("following every image through the network")
    matrix: csr_array[np.float32, tuple[int, int]] = batch.matrix
    work = live_layers(open_source(f"radixnet:{PIXELS}x{layers}"), matrix)
    rows = [spreads(work, np.diff(matrix.indptr).astype(np.int64), workers) for workers in WORKERS]
    table = Table("workers", "consecutive", "dealt", title=f"most over mean live work, {batch.description}")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    output.result({"input": batch.description, "layers": layers, "spreads": rows}, table)


if __name__ == "__main__":
    typer.run(main)
