"""Every way to cut and to talk gives the same bits: ``python -m benchmarks.exact [--quick] [--json]``.

Whole runs on the embedded cloud, through the deployed state machine: the official network, and a model whose
layers are all different, by every strategy, channel, number of workers and of micro-batches; and the official
network's first 24 layers by as many workers as a Distributed Map launches. Each is held to plain scipy.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from benchmarks.exact_grid import MIXED, NO_CHANNEL, Cell, chosen, full_grid, quick_grid
from benchmarks.mixed_model import mixed_samples, write_mixed_model
from benchmarks.samples import SAMPLES, benchmark_samples
from benchmarks.whole_runs import BenchmarkCloud, Outcome, Subject, benchmark_cloud
from lamella.errors import LamellaError
from model_prep.readers import open_source
from workflows.cli.console import Output

NEURONS = 1024
QUICK_SAMPLES = 1000
MOST_SECONDS = 300.0


def measure(cells: Sequence[Cell], samples: int, output: Output) -> Iterator[dict[str, Any]]:
    """Run cell after cell on one cloud."""
    most = max((cell.workers for cell in cells if cell.channel == "sns"), default=2)
    with (
        tempfile.TemporaryDirectory(prefix="lamella-exact-") as name,
        benchmark_cloud(output, most) as cloud,
    ):
        for network, group in groupby(cells, lambda cell: cell.network):
            of_network = list(group)
            subject = _subject(network, of_network, samples, Path(name), cloud)
            for cell in of_network:
                yield result(cell, _run(cell, subject, cloud))


def _subject(
    network: str, cells: Sequence[Cell], samples: int, folder: Path, cloud: BenchmarkCloud
) -> Subject:
    """The network, cut for all that its cells need."""
    workers = sorted({cell.workers for cell in cells} - {1})
    if network == MIXED:
        return cloud.place(
            open_source(str(write_mixed_model(folder / MIXED))), mixed_samples(folder), workers
        )
    return cloud.place(open_source(network), benchmark_samples(NEURONS, folder, samples), workers)


def _run(cell: Cell, subject: Subject, cloud: BenchmarkCloud) -> Outcome:
    asked: dict[str, Any] = {
        "strategy": cell.strategy,
        "workers": cell.workers,
        "micro_batches": cell.micro_batches,
    }
    if cell.channel != NO_CHANNEL:
        asked["channel"] = cell.channel
    return cloud.run(subject, **asked)


def result(cell: Cell, outcome: Outcome) -> dict[str, Any]:
    """A cell and what came of it: ``error`` is None only where it ran, in time and as it was asked for."""
    given = {name: outcome.answer.get(name) for name in ("strategy", "channel", "workers", "micro_batches")}
    error = outcome.error
    if not error and given != {name: getattr(cell, name) for name in given}:
        error = f"ran something else: {given}"
    if not error and outcome.seconds > MOST_SECONDS:
        error = f"took more than {MOST_SECONDS:.0f} s"
    return asdict(cell) | {"exact": outcome.exact, "seconds": round(outcome.seconds, 2), "error": error}


def verdict(row: Mapping[str, Any]) -> str:
    """Of one cell."""
    if row["error"]:
        return f"FAILED: {row['error']}"
    return "ok" if row["exact"] else "NOT EXACT"


def good(row: Mapping[str, Any]) -> bool:
    return verdict(row) == "ok"


def shown(rows: Sequence[Mapping[str, Any]]) -> Table:
    """A line for each cell."""
    table = Table(title="against plain scipy, every bit", title_justify="left")
    for name in ("network", "strategy", "channel"):
        table.add_column(name, no_wrap=True)
    for name in ("workers", "micro-\nbatches", "seconds"):
        table.add_column(name, justify="right")
    table.add_column("exact")
    for row in rows:
        channel = "" if row["channel"] == NO_CHANNEL else row["channel"]
        numbers = (str(row["workers"]), str(row["micro_batches"]), f"{row['seconds']:.1f}")
        table.add_row(row["network"], row["strategy"], channel, *numbers, verdict(row))
    return table


def summary(rows: Sequence[Mapping[str, Any]], seconds: float) -> str:
    """In one line."""
    return f"{sum(map(good, rows))} of {len(rows)} runs exact, in {seconds:.0f} s"


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Every pair of choices once, fewer images.")] = False,
    network: Annotated[list[str] | None, typer.Option(help="Only these; may be repeated.")] = None,
    strategy: Annotated[list[str] | None, typer.Option(help="Only these; may be repeated.")] = None,
    channel: Annotated[list[str] | None, typer.Option(help="Only these; may be repeated.")] = None,
    workers: Annotated[list[int] | None, typer.Option(help="Only these; may be repeated.")] = None,
    micro_batches: Annotated[list[int] | None, typer.Option(help="Only these; may be repeated.")] = None,
    samples: Annotated[int | None, typer.Option(min=1, max=SAMPLES, help="Images.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """Run every cell of the grid; exit 1 unless every one succeeds with the bits of plain scipy."""
    output = Output(json_)
    cells = chosen(
        quick_grid() if quick else full_grid(),
        networks=network,
        strategies=strategy,
        channels=channel,
        workers=workers,
        micro_batches=micro_batches,
    )
    if not cells:
        raise typer.BadParameter("no cell of the grid is like that")
    began = time.monotonic()
    rows: list[dict[str, Any]] = []
    try:
        for cell, row in zip(
            cells, measure(cells, samples or (QUICK_SAMPLES if quick else SAMPLES), output), strict=True
        ):
            rows.append(row)
            output.say(f"{len(rows)}/{len(cells)} {cell}: {verdict(row)}, {row['seconds']:.1f} s")
    except LamellaError as error:
        output.err.print(f"error: {error}", markup=False, soft_wrap=True)
        raise typer.Exit(error.exit_code) from error
    if json_:
        sys.stdout.write(json.dumps(rows) + "\n")
    else:
        output.out.print(shown(rows))
        output.out.print(summary(rows, time.monotonic() - began))
    if not all(map(good, rows)):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
