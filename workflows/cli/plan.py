"""``lamella plan``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from lamella.client import Clients, Stack, explained
from lamella.cost import Architecture, book_for, load_book
from lamella.cut import Cut, read_cut
from lamella.errors import InputError
from lamella.events import CHANNELS, STRATEGIES, RunRequest
from lamella.files import Directory, Files
from lamella.manifest import Manifest
from lamella.planner import Capacity
from lamella.prediction import Activity, load_profile
from lamella.prediction.candidates import Candidate, Candidates, Terms, described
from lamella.prediction.closed_form import sensitivity
from lamella.prediction.express import Express, by_express
from lamella.prediction.planning import offered
from lamella.prediction.profile import DEFAULT_PROFILE
from lamella.quantities import usd
from workflows.charts import Axis, Kind, Series, chart
from workflows.cli import preflight
from workflows.cli.console import Output

SLOTS, CONCURRENCY, KEPT_FREE, SIZES_MB = 32, 1000, 2, (1024, 1769, 3008)
SHOWN, MOST_SENSITIVE = 12, 5


def plan(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Prepared model: a folder, or s3://...")],
    samples: Annotated[int, typer.Option(min=1, metavar="S", help="How many samples a run has.")],
    deadline: Annotated[
        float | None, typer.Option(metavar="S", help="Take the cheapest plan within so many seconds.")
    ] = None,
    budget: Annotated[
        float | None, typer.Option(metavar="USD", help="Take the fastest plan for so much.")
    ] = None,
    strategy: Annotated[str, typer.Option(help=f"Only this one of {', '.join(STRATEGIES)}.")] = "auto",
    channel: Annotated[str, typer.Option(help=f"Only this one of {', '.join(CHANNELS)}.")] = "auto",
    workers: Annotated[int | None, typer.Option(min=1, metavar="P", help="Only so many workers.")] = None,
    live: Annotated[
        float,
        typer.Option(min=0, max=1, metavar="SHARE", help="Of the samples, alive behind the first layer."),
    ] = 1.0,
    profile: Annotated[
        str, typer.Option(metavar="NAME", help="Constants to predict by, or a calibrated .json file.")
    ] = DEFAULT_PROFILE,
    region: Annotated[str, typer.Option(help="Whose prices.")] = "us-east-1",
    architecture: Annotated[str, typer.Option(help="x86_64 or arm64.")] = "x86_64",
    concurrency: Annotated[
        int, typer.Option(min=KEPT_FREE + 1, metavar="N", help="Executions that the account runs at a time.")
    ] = CONCURRENCY,
    slots: Annotated[int, typer.Option(min=0, metavar="N", help="Slots deployed, for channel sns.")] = SLOTS,
    stack: Annotated[
        str | None,
        typer.Option(metavar="NAME", envvar="LAMELLA_STACK", help="Whose account a model is read by."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Draw all candidates and their front there.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Show all candidates, not the best alone.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Predict what a run would take and cost, by every plan that fits; nothing is launched."""
    shown = Output(json)
    preflight.check_names(strategy, channel)
    preflight.check_limits(deadline, budget)
    check_plot(plot)
    known = Stack.find(stack, Clients.connect()) if stack and preflight.is_s3(model) else None
    manifest = preflight.check_model(model, known)
    files = preflight.bucket_files(model, known) if preflight.is_s3(model) else Directory(Path(model))
    request = RunRequest(
        model="s3://b/m/", input="s3://b/i", strategy=strategy, channel=channel, workers=workers
    )
    capacity = Capacity(slots, concurrency - KEPT_FREE, SIZES_MB)
    terms = Terms(
        activity_with(live, len(manifest.layers)),
        load_profile(profile),
        load_book(book_for(region)),
        checked_architecture(architecture),
        thorough=True,
    )
    with explained(f"reading {model}"):
        found = offered(request, manifest, samples, partial(cut_of, files, manifest), capacity, terms)
    chosen = found.choose(deadline, budget)
    express = by_express(found, terms, deadline, budget)
    if plot is not None:
        plot.write_text(drawn(found, chosen, f"{model}, {samples:,} samples"), encoding="utf-8")
    answer = _answer(found, chosen, express, terms)
    listed = found.all if everything else _best(found, chosen)
    lines = [
        f"chosen: {_line(chosen)}",
        _express_line(express),
        f"assumed: {'; '.join(chosen.prediction.assumed)}; "
        f"{concurrency:,} concurrent executions, {slots} slots",
        *([f"plot: {plot}"] if plot else []),
    ]
    shown.result(answer, _table(listed, found, chosen), _sensitive(answer["sensitivity"]), *lines)


def activity_with(live: float, layers: int) -> Activity:
    """All alive, or so many of the samples from the first layer on."""
    everyone = Activity.all_alive(layers)
    if live == 1:
        return everyone
    name = f"{live:.1%} of the samples live behind the first layer, as was said"
    return replace(everyone, name=name, live=(1.0, *(live,) * layers))


def checked_architecture(name: str) -> Architecture:
    """One of Lambda's.

    Raises
    ------
    InputError
        If it is not.
    """
    known: dict[str, Architecture] = {"x86_64": "x86_64", "arm64": "arm64"}
    if name not in known:
        raise InputError(f"there is no architecture {name!r}: use x86_64 or arm64")
    return known[name]


def check_plot(path: Path | None) -> None:
    """Refuse to draw anything but an SVG file.

    Raises
    ------
    InputError
        If the name does not end with .svg, or its folder is not there.
    """
    if path is not None and path.suffix != ".svg":
        raise InputError(f"--plot {path}: name a file that ends with .svg")
    if path is not None and not path.absolute().parent.is_dir():
        raise InputError(f"--plot {path}: there is no folder {path.parent}")


def drawn(found: Candidates, chosen: Candidate, title: str) -> str:
    """Seconds and dollars of all candidates, as SVG."""

    def series(name: str, of: Sequence[Candidate], kind: Kind = "dots") -> Series:
        points = [(each.offer.seconds, each.offer.usd) for each in of]
        return Series(name, points, kind, [_line(each) for each in of])

    everything = series("candidates", found.all)
    across = Axis.over("seconds", [x for x, _ in everything.points])
    up = Axis.over("dollars a run", [y for _, y in everything.points], "$")
    best = series("front", found.front, "line")
    return chart(title, across, up, [everything, best, series("chosen", [chosen], "mark")])


def cut_of(files: Files, manifest: Manifest, workers: int) -> Cut:
    """The model's cut for so many workers."""
    return read_cut(files, manifest, workers)


def _best(found: Candidates, chosen: Candidate) -> list[Candidate]:
    """The front, and of every other strategy and channel the fastest and the cheapest."""
    kept = {id(each): each for each in (*found.front[:SHOWN], chosen)}
    kinds = {(each.plan.strategy, each.plan.channel) for each in found.all}
    for kind in sorted(kinds):
        of_kind = [each for each in found.all if (each.plan.strategy, each.plan.channel) == kind]
        for best in (min(of_kind, key=lambda c: c.offer.seconds), min(of_kind, key=lambda c: c.offer.usd)):
            kept[id(best)] = best
    return list(kept.values())


def _table(listed: Sequence[Candidate], found: Candidates, chosen: Candidate) -> Table:
    table = Table(box=None, header_style="dim", title=f"{len(found.all)} plans", title_justify="left")
    for name in ("", "plan", "seconds", "dollars", "bound by"):
        table.add_column(name, justify="right" if name in {"seconds", "dollars"} else "left")
    on_front = {id(each) for each in found.front}
    for each in sorted(listed, key=lambda c: (c.offer.seconds, c.offer.usd)):
        mark = "→" if each is chosen else "·" if id(each) in on_front else ""
        offer = each.offer
        table.add_row(
            mark, described(each.plan), f"{offer.seconds:.1f}", usd(offer.usd), each.prediction.bound
        )
    return table


def _sensitive(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(box=None, header_style="dim", title="what it hangs on", title_justify="left")
    for name in ("constant", "seconds, halved", "doubled", "dollars, halved", "doubled"):
        table.add_column(name, justify="left" if name == "constant" else "right")
    for row in rows[:MOST_SENSITIVE]:
        cells = (*row["seconds"], *row["usd"])
        table.add_row(row["constant"], *(f"{ratio:.2f} x" for ratio in cells))
    return table


def _line(candidate: Candidate) -> str:
    offer = candidate.offer
    bound = candidate.prediction.bound
    return f"{described(candidate.plan)}: {offer.seconds:.1f} s, {usd(offer.usd)}, mostly {bound}"


def _express_line(express: Express | None) -> str:
    if express is None:
        return "S3 Express One Zone: would change nothing, since no plan here sends objects"
    before, after = express.candidate.offer, express.offer
    taken = "it would be chosen" if express.is_taken else "it would not be chosen either"
    return (
        f"S3 Express One Zone: {described(express.candidate.plan)} would take {after.seconds:.1f} s and "
        f"{usd(after.usd)}, instead of {before.seconds:.1f} s and {usd(before.usd)}; {taken}"
    )


def _answer(found: Candidates, chosen: Candidate, express: Express | None, terms: Terms) -> dict[str, Any]:
    on_front = {id(each) for each in found.front}
    rows = sensitivity(chosen.workload, terms.profile, terms.book, terms.architecture)
    return {
        "chosen": _row(chosen, on_front),
        "candidates": [_row(each, on_front) for each in found.all],
        "front": [_row(each, on_front) for each in found.front],
        "s3_express": None
        if express is None
        else {
            "plan": asdict(express.candidate.plan),
            "seconds": express.offer.seconds,
            "usd": express.offer.usd,
            "seconds_without": express.candidate.offer.seconds,
            "usd_without": express.candidate.offer.usd,
            "chosen": express.is_taken,
        },
        "assumed": list(chosen.prediction.assumed),
        "sensitivity": [asdict(row) for row in rows],
    }


def _row(candidate: Candidate, on_front: set[int]) -> dict[str, Any]:
    prediction = candidate.prediction
    return {
        "plan": asdict(candidate.plan),
        "seconds": candidate.offer.seconds,
        "usd": candidate.offer.usd,
        "bound": prediction.bound,
        "parts": dict(prediction.parts),
        "need_bytes": candidate.workload.need_bytes,
        "front": id(candidate) in on_front,
    }
