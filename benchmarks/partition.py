"""Partitioners, by halo rows and seconds: ``python -m benchmarks.partition [--workers P]... [--quick]``.

``overlap`` orders the rows for one number of workers, as ``lamella prep --workers P`` does;
``overlap, shared`` is one order for all, as without ``--workers``; ``hypergraph``, KaHyPar, partitions
every layer for each number; all but blocks and random are aligned from layer to layer in the same way.
Balance is that of the worst layer. Each network and partitioner has a process of its own, whose peak memory
is what the kernel counted.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.table import Table

from lamella.runtime import peak_memory_bytes
from model_prep.partition import partitioner_named
from model_prep.partition.cutting import Cutter
from model_prep.partition.rows_in_order import RowsInOrder
from model_prep.readers import open_source
from workflows.cli.console import Output

WORKERS = (2, 4, 8, 16, 20, 32, 42, 62, 64)
SHARED = "overlap, shared"
PARTITIONERS = ("overlap", SHARED, "hypergraph", "blocks", "random")


@dataclass(frozen=True)
class Case:
    """One network, to be partitioned by one partitioner for these numbers of workers."""

    network: str
    partitioner: str
    workers: tuple[int, ...]


def cases(workers: Sequence[int], quick: bool) -> list[Case]:
    """The official network by everything, then a large one and an unstructured one by ours."""
    network = "radixnet:1024x12" if quick else "radixnet:1024x120"
    found = [Case(network, partitioner, tuple(workers)) for partitioner in PARTITIONERS]
    large = "radixnet:4096x12" if quick else "radixnet:16384x120"
    random = "alive:512x4" if quick else "alive:4096x8"
    return [
        *found,
        Case(large, "overlap", (64,)),
        Case(random, "overlap", (8,)),
        Case(random, "blocks", (8,)),
    ]


def partitioned(case: Case) -> list[dict[str, Any]]:
    """Halo rows, pairs, balance and seconds of a case, for each number of workers."""
    partitioner = partitioner_named(case.partitioner.partition(",")[0])
    together = case.partitioner == SHARED or case.partitioner in ("blocks", "random")
    groups = [case.workers] if together else [(p,) for p in case.workers]
    rows = []
    for group in groups:
        in_order = RowsInOrder(partitioner, group, () if case.partitioner == SHARED else group)
        cutters = [Cutter(p) for p in group]
        seconds = cpu_s = 0.0
        for layer in open_source(case.network):
            began, began_cpu = time.perf_counter(), time.process_time()
            stored = in_order.of(layer.weight)
            seconds += time.perf_counter() - began
            cpu_s += time.process_time() - began_cpu
            for cutter in cutters:
                bounds = stored.bounds[cutter.workers]
                cutter.add(
                    stored.rows.starts, stored.rows.columns, layer.inputs, bounds, lambda *_: bytes(32)
                )
        rows += [
            {
                "network": case.network,
                "workers": cutter.workers,
                "partitioner": case.partitioner,
                "halo_rows": cutter.halo_rows,
                "pairs": cutter.pairs,
                "balance": round(cutter.balance, 4),
                "seconds": round(seconds, 3),
                "cpu_s": round(cpu_s, 3),
            }
            for cutter in cutters
        ]
    peak = peak_memory_bytes()
    return [row | {"peak_bytes": peak} for row in rows]


def compared(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each with its halo rows and its time over KaHyPar's, where that was run.

    An order for all numbers of workers is made once: its time is over that of KaHyPar for all of them.
    """
    theirs = {(row["network"], row["workers"]): row for row in rows if row["partitioner"] == "hypergraph"}
    found = []
    for row in rows:
        other = theirs.get((row["network"], row["workers"]))
        halo = round(row["halo_rows"] / other["halo_rows"], 4) if other and other["halo_rows"] else None
        cpu_s = [each["cpu_s"] for each in theirs.values() if each["network"] == row["network"]]
        if row["partitioner"] != SHARED:
            cpu_s = [other["cpu_s"]] if other else []
        spent = round(row["cpu_s"] / sum(cpu_s), 4) if sum(cpu_s) else None
        found.append({**row, "ratio_to_kahypar": halo, "cpu_to_kahypar": spent})
    return found


def shown(rows: Sequence[Mapping[str, Any]]) -> list[Table]:
    """A table for each network."""
    tables = []
    for network in dict.fromkeys(row["network"] for row in rows):
        table = Table(title=f"{network}; in italics: over KaHyPar's", title_justify="left")
        table.add_column("partitioner")
        for name in ("P", "halo rows", "[i]/[/]", "pairs", "balance", "s", "CPU s", "[i]/[/]", "MiB"):
            table.add_column(name, justify="right")
        for row in (row for row in rows if row["network"] == network):
            halo, spent = row["ratio_to_kahypar"], row["cpu_to_kahypar"]
            table.add_row(
                row["partitioner"],
                f"{row['workers']}",
                f"{row['halo_rows']:,}",
                "" if halo is None else f"[i]{halo:.3f}[/]",
                f"{row['pairs']:,}",
                f"{row['balance']:.3f}",
                f"{row['seconds']:.2f}",
                f"{row['cpu_s']:.2f}",
                "" if spent is None else f"[i]{spent:.3f}[/]",
                f"{row['peak_bytes'] >> 20:,}",
            )
        tables.append(table)
    return tables


def main(
    workers: Annotated[list[int] | None, typer.Option(min=2, help="P; may be repeated.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Small networks: seconds instead of minutes.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare partitioners."""
    output = Output(json_)
    rows = []
    for case in cases(workers or WORKERS, quick):
        if case.partitioner == "hypergraph" and importlib.util.find_spec("kahypar") is None:
            output.say("KaHyPar is not installed (the extra hypergraph): not compared with")
            continue
        output.say(f"{case.network}: {case.partitioner}")
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=spawn) as process:
            rows += process.submit(partitioned, case).result()
    found = compared(rows)
    output.result({"partitions": found}, *shown(found))


if __name__ == "__main__":
    typer.run(main)
