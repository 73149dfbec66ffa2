"""``lamella run``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from lamella.client import Clients, Stack
from lamella.events import CHANNELS, STRATEGIES, RunRequest
from lamella.inputs import SUFFIXES
from workflows.cli import preflight, tables
from workflows.cli.cloud import CHECKOUT, deployed_cloud
from workflows.cli.console import Output
from workflows.cli.runs import check_destination, place_input, place_model, run_to_end
from workflows.cli.state import find_open


def run(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Prepared model: a folder, or s3://...")],
    input: Annotated[  # noqa: A002
        str,
        typer.Option("--input", metavar="FILE", help=f"Samples x features: {', '.join(SUFFIXES)}."),
    ],
    id_column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Column of a .csv or .parquet that is each sample's id."),
    ] = None,
    strategy: Annotated[str, typer.Option(help=f"How work is cut: {', '.join(STRATEGIES)}.")] = "auto",
    channel: Annotated[str, typer.Option(help=f"How workers talk: {', '.join(CHANNELS)}.")] = "auto",
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="P", help="How many workers, all told.")
    ] = None,
    micro_batches: Annotated[
        int | None,
        typer.Option(min=1, metavar="M", help="Compute on one M-th of the samples while others are sent."),
    ] = None,
    samples: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Samples, where the last may be all zero.")
    ] = None,
    memory: Annotated[
        int | None,
        typer.Option(min=128, metavar="MB", help="Memory of a worker, MiB: a deployed size."),
    ] = None,
    deadline: Annotated[
        float | None, typer.Option(metavar="S", help="Take the cheapest plan within so many seconds.")
    ] = None,
    budget: Annotated[
        float | None, typer.Option(metavar="USD", help="Take the fastest plan for so much; refuse others.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Download predictions and activations there.")
    ] = None,
    checkpoints: Annotated[
        bool,
        typer.Option(
            "--checkpoints/--no-checkpoints", help="Let workers that die go on from what they left in S3."
        ),
    ] = True,
    local: Annotated[bool, typer.Option("--local", help="Run here, whatever LAMELLA_STACK says.")] = False,
    stack: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            envvar="LAMELLA_STACK",
            help="Run on this deployed stack; default: here.",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Run a prepared model over a batch of samples."""
    shown = Output(json)
    preflight.check_names(strategy, channel)
    known = _deployed(None if local else stack)
    manifest = preflight.check_model(model, known)
    found = preflight.check_input(input, manifest.features, samples, id_column, known)
    slots = known.slots if known else None
    preflight.check_plan(manifest, found, strategy, channel, workers, slots, micro_batches)
    preflight.check_limits(deadline, budget)
    check_destination(output)
    is_local = local or stack is None
    with _stack(known, shown) as target:
        request = RunRequest(
            model=place_model(target, model, manifest),
            input=place_input(target, input),
            id_column=id_column,
            strategy=strategy,
            channel=channel,
            workers=workers,
            micro_batches=micro_batches,
            samples=samples,
            memory_mb=memory,
            deadline_s=deadline,
            budget_usd=budget,
            activations=output is not None,
            checkpoints=checkpoints,
        )
        finished = run_to_end(target, request, shown, destination=output, local=is_local)
    answer = finished.answer
    if known is None and output is None:
        # The cloud that held them is gone.
        answer["outputs"] = []
    tables_shown = (tables.run_table(answer), tables.usage_table(answer["usage"]))
    shown.result(answer, *tables_shown, *answer["outputs"])


def _deployed(stack: str | None) -> Stack | None:
    """The stack that was named, or that of an open local cloud, if there is one."""
    if stack is not None:
        return Stack.find(stack, Clients.connect())
    found = find_open(CHECKOUT)
    return found[1] if found else None


@contextmanager
def _stack(known: Stack | None, output: Output) -> Iterator[Stack]:
    """The known stack, or an embedded cloud's for this run alone."""
    if known is not None:
        yield known
        return
    with deployed_cloud(output) as (_, stack):
        yield stack
