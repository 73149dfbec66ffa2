"""``lamella cancel`` and ``lamella clean``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from lamella.errors import InputError
from lamella.events import SweepAnswer, SweptRun
from lamella.history import find_run
from lamella.quantities import size
from lamella.upkeep import Cancelled
from lamella.upkeep import cancel as cancel_run
from lamella.upkeep import clean as clean_stack
from workflows.cli.console import Output
from workflows.cli.history import JsonOption, StackOption, reached
from workflows.cli.tables import lines


def cancel(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Id of the run: the name of its execution.")],
    stack: StackOption = None,
    json: JsonOption = False,
) -> None:
    """Stop a run, whoever started it, and wait until its workers have left."""
    output = Output(json)
    handle = find_run(reached(stack), run)
    output.say(f"stopping run {run}")
    done = cancel_run(handle)
    output.result(asdict(done), _told(done))


def clean(
    yes: Annotated[bool, typer.Option("--yes", help="Remove it.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be removed: the default.")
    ] = False,
    stack: StackOption = None,
    json: JsonOption = False,
) -> None:
    """Show what dead runs have left, queues, leases and work, and remove it with --yes."""
    if yes and dry_run:
        raise InputError("--yes removes and --dry-run does not: give one of them")
    output = Output(json)
    found = clean_stack(reached(stack), remove=yes)
    output.result(found.model_dump(), _shown(found))


def _told(done: Cancelled) -> str:
    told = f"run {done.run_id} was stopped"
    if done.staying:
        workers = ", ".join(map(str, done.staying))
        told += (
            f"; no answer came from workers {workers}, which may go on until their functions' time is over: "
            "until then nobody else gets what they use"
        )
    else:
        told += f", and its workers have left within {done.workers_left_s:.1f} s"
    if not done.released:
        told += "; what it held has not been given back yet: see 'lamella clean' in some minutes"
    return told


def _shown(found: SweepAnswer) -> str:
    """What was found, a line a run."""
    said = []
    if found.dead:
        said += [_table(found.dead), ""]
    total = found.total
    what = (
        f"of {total['runs']:,} dead runs: {total['queues']:,} queues, {total['slots']:,} slots and "
        f"{total['units']:,} units of concurrency leased, {total['objects']:,} objects "
        f"({size(total['object_bytes'])}), {total['uploads']:,} unfinished uploads"
    )
    if not found.dead:
        said.append("dead runs have left nothing")
    elif found.removed:
        said.append(f"removed {what}")
    else:
        said.append(f"{what}; 'lamella clean --yes' removes them")
    if found.ending:
        until = time.strftime("%H:%M:%S", time.localtime(max(run.safe_from_s for run in found.ending)))
        names = ", ".join(run.run for run in found.ending)
        said.append(f"not yet, for they may still have workers until {until}: {names}")
    if found.going:
        said.append(f"under way, and left alone: {found.going:,} runs")
    if found.more:
        said.append("there are more: call it again")
    return "\n".join(said)


def _table(runs: Sequence[SweptRun]) -> str:
    head = ("run", "status", "queues", "slots", "units", "objects", "bytes", "uploads")
    rows = [
        (
            run.run,
            run.status,
            f"{run.queues:,}",
            f"{run.slots:,}",
            f"{run.units:,}",
            f"{run.objects:,}",
            size(run.object_bytes),
            f"{run.uploads:,}",
        )
        for run in runs
    ]
    return lines([head, *rows], to_the_right=range(2, len(head)))
