"""Many runs on one cloud: ``python -m benchmarks.soak [--runs N] [--at-once N] [--json]``.

Runs of every strategy over every channel, one after the other and then several at a time: each has to be
exact and to leave nothing, and the cloud may not grow: neither its memory nor its open files.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer
from rich.table import Table

from benchmarks.chaos import NETWORK, WORKERS, small_samples
from benchmarks.leaks import Watcher
from benchmarks.whole_runs import BenchmarkCloud, Subject
from lamella.errors import LamellaError
from model_prep.readers import open_source
from workflows.cli.cloud import deployed_cloud
from workflows.cli.console import Output

LEAVE_S = 40.0
ASKED: Sequence[Mapping[str, Any]] = (
    {"strategy": "serial", "workers": 1},
    {"strategy": "samples", "workers": 4},
    *({"strategy": "rows", "workers": 4, "channel": channel} for channel in ("sns", "sqs", "s3")),
    *({"strategy": "pipeline", "workers": 2, "channel": channel} for channel in ("sns", "sqs", "s3")),
    *({"strategy": "hybrid", "workers": 4, "channel": channel} for channel in ("sns", "sqs", "s3")),
)
# Whether something grows is told from the last fifth of the runs over the second: the first warms up.
FIFTHS = 5
FLAT = 1.1


@dataclass(frozen=True)
class Look:
    """At the cloud's server, after so many runs."""

    runs: int
    memory_bytes: int
    open_files: int
    functions: int


@dataclass(frozen=True)
class Soak:
    """Runs of one phase.

    Attributes
    ----------
    failures
        Of runs that were not exact, in words.
    leaks
        What was left when all had ended.
    """

    at_once: int
    runs: int
    seconds: float
    failures: tuple[str, ...]
    leaks: tuple[str, ...]
    looks: tuple[Look, ...]

    def growth(self, what: str) -> float:
        """How much more it is in the last fifth of the looks than in the second."""
        values = [getattr(look, what) for look in self.looks]
        size = max(len(values) // FIFTHS, 1)
        return statistics.median(values[-size:]) / max(
            statistics.median(values[size : 2 * size] or values[:1]), 1
        )

    @property
    def good(self) -> bool:
        """Whether all were exact, nothing was left, and nothing grew."""
        flat = all(self.growth(what) <= FLAT for what in ("memory_bytes", "open_files"))
        return flat and not self.failures and not self.leaks


def look(cloud: BenchmarkCloud, runs: int) -> Look:
    """At the server's process; functions have processes of their own."""
    server = psutil.Process(cloud.cloud.pid)
    return Look(runs, server.memory_info().rss, server.num_fds(), len(server.children(recursive=True)))


def phase(cloud: BenchmarkCloud, subject: Subject, runs: int, at_once: int) -> Soak:
    """So many runs, some at a time."""
    watcher = Watcher.begin(cloud.cloud, cloud.stack)
    failures, looks = [], []
    began = time.monotonic()
    with ThreadPoolExecutor(at_once) as pool:
        asked = list(islice(cycle(ASKED), runs))
        for number, (fields, outcome) in enumerate(
            zip(asked, pool.map(lambda fields: cloud.run(subject, **fields), asked), strict=True), 1
        ):
            if not outcome.exact:
                failures.append(f"run {number}, {fields}: {outcome.error or 'not exact'}")
                cloud.output.say(failures[-1])
            looks.append(look(cloud, number))
            if number % 20 == 0:
                cloud.output.say(f"{number} of {runs}, {at_once} at a time: {looks[-1]}")
    seconds = time.monotonic() - began
    return Soak(at_once, runs, seconds, tuple(failures), tuple(watcher.leaks(LEAVE_S)), tuple(looks))


def soak(runs: int, at_once: int, output: Output) -> Iterator[Soak]:
    """One after the other, and then several at a time, on the same cloud."""
    with (
        tempfile.TemporaryDirectory(prefix="lamella-soak-") as name,
        deployed_cloud(output) as (cloud, stack),
    ):
        there = BenchmarkCloud(cloud, stack, output)
        subject = there.place(open_source(NETWORK), small_samples(Path(name)), WORKERS)
        for together in (1, at_once):
            yield phase(there, subject, runs, together)


def figures(found: Sequence[Soak]) -> list[dict[str, Any]]:
    """Of each phase."""
    return [
        {
            "at_once": each.at_once,
            "runs": each.runs,
            "exact": each.runs - len(each.failures),
            "seconds": round(each.seconds, 1),
            "memory_growth": round(each.growth("memory_bytes"), 3),
            "open_files_growth": round(each.growth("open_files"), 3),
            "first": asdict(each.looks[0]),
            "last": asdict(each.looks[-1]),
            "failures": each.failures,
            "leaks": each.leaks,
        }
        for each in found
    ]


def shown(rows: Sequence[Mapping[str, Any]]) -> Table:
    """A line for each phase."""
    table = Table(title=f"runs of {NETWORK} on one cloud", title_justify="left")
    for name in ("at a time", "runs", "exact", "s", "MiB", "growth", "open files", "growth", "left"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            str(row["at_once"]),
            str(row["runs"]),
            str(row["exact"]),
            f"{row['seconds']:.0f}",
            str(row["last"]["memory_bytes"] >> 20),
            f"{row['memory_growth']:.2f}",
            str(row["last"]["open_files"]),
            f"{row['open_files_growth']:.2f}",
            str(len(row["leaks"])),
        )
    return table


def main(
    runs: Annotated[int, typer.Option(min=1, help="In each phase.")] = 200,
    at_once: Annotated[int, typer.Option(min=1, help="In the second phase.")] = 8,
    json_: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """Run on and on; exit 1 if a run was not exact, or something was left or grew."""
    output = Output(json_)
    try:
        found = list(soak(runs, at_once, output))
    except LamellaError as error:
        output.err.print(f"error: {error}", markup=False, soft_wrap=True)
        raise typer.Exit(error.exit_code) from error
    rows = figures(found)
    if json_:
        sys.stdout.write(json.dumps(rows) + "\n")
    else:
        output.out.print(shown(rows))
    if not all(each.good for each in found):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
