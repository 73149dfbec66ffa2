"""``lamella compare``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from lamella.client import explained
from lamella.cost import book_for, load_book
from lamella.events import RunRequest
from lamella.files import Directory
from lamella.plan import Plan
from lamella.planner import Capacity
from lamella.prediction import load_profile
from lamella.prediction.candidates import Terms, candidates, described
from lamella.prediction.planning import offered
from lamella.prediction.profile import DEFAULT_PROFILE
from lamella.quantities import usd
from workflows.charts import Axis, Series, chart
from workflows.cli import preflight
from workflows.cli.console import Output
from workflows.cli.plan import CONCURRENCY, KEPT_FREE, SIZES_MB, SLOTS, activity_with, check_plot, cut_of
from workflows.daily import Way, cheapest, crossing, job_of, ways

_DRAWN = [10 ** (step / 12) for step in range(12 * 5 + 1)]  # runs a day


def compare(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Prepared model: a folder.")],
    samples: Annotated[int, typer.Option(min=1, metavar="S", help="How many samples a run has.")],
    runs_per_day: Annotated[int, typer.Option(min=1, metavar="R", help="How many runs a day.")],
    live: Annotated[
        float,
        typer.Option(min=0, max=1, metavar="SHARE", help="Of the samples, alive behind the first layer."),
    ] = 1.0,
    profile: Annotated[
        str, typer.Option(metavar="NAME", help="Constants to predict by, or a calibrated .json file.")
    ] = DEFAULT_PROFILE,
    region: Annotated[str, typer.Option(help="Whose prices.")] = "us-east-1",
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Draw dollars a day over runs a day there.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Set what a day of runs costs beside a server's, SageMaker Serverless and Batch Transform."""
    shown = Output(json)
    check_plot(plot)
    manifest = preflight.check_model(model, None)
    constants, book = load_profile(profile), load_book(book_for(region))
    terms = Terms(activity_with(live, len(manifest.layers)), constants, book)
    cut = partial(cut_of, Directory(Path(model)), manifest)
    capacity = Capacity(SLOTS, CONCURRENCY - KEPT_FREE, SIZES_MB)
    request = RunRequest(model="s3://b/m/", input="s3://b/i")
    with explained(f"reading {model}"):
        chosen = offered(request, manifest, samples, cut, capacity, terms).choose()
        alone = [Plan("serial", "none", 1, 0, samples)]
        # What one process would need, whether a function has it or not.
        (serial,) = candidates(alone, manifest, cut, capacity, terms, memory_mb=SIZES_MB[-1]).all
    found = ways(chosen, job_of(serial, constants), book, constants)
    if plot is not None:
        plot.write_text(_drawn(found, f"{model}, {samples:,} samples a run"), encoding="utf-8")
    rows = [_row(way, found[0], runs_per_day) for way in found]
    best = cheapest(found, runs_per_day)
    answer = {
        "runs_per_day": runs_per_day,
        "plan": asdict(chosen.plan),
        "ways": rows,
        "cheapest": best.name,
        "assumed": list(chosen.prediction.assumed),
    }
    verdict = "Lamella is the cheapest" if best is found[0] else f"Lamella loses to: {best.name}"
    lines = [
        f"at {runs_per_day:,} runs a day {verdict} ({usd(best.usd(runs_per_day))} a day)",
        f"Lamella: {described(chosen.plan)}",
        f"assumed: {'; '.join(chosen.prediction.assumed)}; the same kernel and speed of a vCPU everywhere",
        *([f"plot: {plot}"] if plot else []),
    ]
    shown.result(answer, _table(rows, runs_per_day), *lines)


def _row(way: Way, ours: Way, runs: int) -> dict[str, Any]:
    at = None if way is ours else crossing(ours, way)
    return {
        "name": way.name,
        "seconds": None if way.reason else way.seconds,
        "usd_a_day": None if way.reason else way.usd(runs),
        "cheaper_than_lamella_from": at,
        "reason": way.reason,
    }


def _table(rows: Sequence[dict[str, Any]], runs: int) -> Table:
    table = Table(box=None, header_style="dim", title=f"{runs:,} runs a day", title_justify="left")
    for name in ("", "seconds a run", "dollars a day", "cheaper than Lamella"):
        table.add_column(name, justify="left" if not name else "right", overflow="fold")
    for number, row in enumerate(rows):
        if row["reason"]:
            table.add_row(row["name"], "", "", row["reason"])
            continue
        at = row["cheaper_than_lamella_from"]
        told = "never" if at is None else "always" if at == 1 else f"from {at:,} runs a day"
        table.add_row(row["name"], f"{row['seconds']:.1f}", usd(row["usd_a_day"]), told if number else "")
    return table


def _drawn(found: Sequence[Way], title: str) -> str:
    possible = [way for way in found if not way.reason]
    series = [Series(way.name, [(runs, way.usd(runs)) for runs in _DRAWN], "line") for way in possible]
    dollars = [usd for each in series for _, usd in each.points]
    return chart(title, Axis.over("runs a day", _DRAWN), Axis.over("dollars a day", dollars, "$"), series)
