"""Preparing networks at size: ``python -m benchmarks.prep [--neurons N]... [--json]``.

Each network is prepared by ``lamella prep`` in a process of its own, whose peak memory is what the kernel
counted; an official-format layer is parsed for the speed of reading TSV.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from model_prep.radixnet import RadixNet
from model_prep.readers.graph_challenge import parse_edges
from model_prep.source import source_layer
from workflows.cli.console import Output

LAYERS = 120
ROUNDS = 5
_TSV_NEURONS = 16384
_COMMAND = "from workflows.cli.app import main; main()"


def prepared(neurons: int, out: Path) -> dict[str, Any]:
    """What preparing one network took, and came to."""
    network = f"radixnet:{neurons}x{LAYERS}"
    command = [sys.executable, "-c", _COMMAND, "prep", network, "--out", str(out), "--json"]
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        answer = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    report = json.loads(answer)
    return {
        "network": network,
        "seconds": round(time.perf_counter() - began, 2),
        "peak_bytes": used.ru_maxrss << 10,
        "weights": report["weights"],
        "bytes": report["bytes"],
        "cuts": [cut["workers"] for cut in report["cuts"]],
        "halo_rows": {cut["workers"]: cut["halo_rows"] for cut in report["cuts"]},
    }


def tsv_edges_per_s() -> float:
    """Edges of a Graph Challenge layer read in a second, checks included: the least disturbed round."""
    text = RadixNet(_TSV_NEURONS, 3).tsv(2)
    rates = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        layer = source_layer("layer", parse_edges(text, _TSV_NEURONS, "layer"))
        rates.append(layer.weight.nnz / (time.perf_counter() - began))
    return max(rates)


def main(
    neurons: Annotated[list[int] | None, typer.Option(help="1024, 4096, 16384, 65536.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Time and memory of preparing the Graph Challenge's networks, cuts for 2 to 64 workers included."""
    output = Output(json_)
    networks = []
    for size in neurons or [1024, 4096, 16384, 65536]:
        output.say(f"preparing radixnet:{size}x{LAYERS}")
        with tempfile.TemporaryDirectory(prefix="lamella-prep-") as folder:
            networks.append(prepared(size, Path(folder) / "model"))
    data = {"networks": networks, "tsv_edges_per_s": round(tsv_edges_per_s())}
    table = Table(title=f"TSV: {data['tsv_edges_per_s']:,} edges a second", title_justify="left")
    for name in ("network", "seconds", "peak MiB", "weights", "bytes"):
        table.add_column(name, justify="right")
    for row in networks:
        table.add_row(
            row["network"],
            f"{row['seconds']:,}",
            f"{row['peak_bytes'] >> 20:,}",
            f"{row['weights']:,}",
            f"{row['bytes']:,}",
        )
    output.result(data, table)


if __name__ == "__main__":
    typer.run(main)
