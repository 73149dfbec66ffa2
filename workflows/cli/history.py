"""``lamella runs``, ``fetch`` and ``report``: the runs of a stack, however they were started."""

from __future__ import annotations

import webbrowser
from dataclasses import asdict
from json import loads
from pathlib import Path
from typing import Annotated

import typer

from lamella import client
from lamella.client import Clients, Stack
from lamella.errors import InputError
from lamella.history import find_run, recent_runs
from workflows.cli import tables
from workflows.cli.cloud import CHECKOUT
from workflows.cli.console import Output
from workflows.cli.runs import answer_of, check_destination, watch_run
from workflows.cli.state import find_open, state_directory

StackOption = Annotated[
    str | None,
    typer.Option(
        "--stack",
        metavar="NAME",
        envvar="LAMELLA_STACK",
        help="The deployed stack; default: that of an open 'lamella local'.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def runs(
    limit: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="How many, at most.")] = 20,
    stack: StackOption = None,
    json: JsonOption = False,
) -> None:
    """List a stack's latest runs, whoever started them."""
    found = recent_runs(reached(stack), limit)
    Output(json).result({"runs": [asdict(run) for run in found]}, tables.runs_lines(found))


def fetch(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Id of the run: the name of its execution.")],
    output: Annotated[Path, typer.Option(metavar="DIR", help="Download predictions and activations there.")],
    stack: StackOption = None,
    json: JsonOption = False,
) -> None:
    """Wait for a run to end, whoever started it, and download its predictions."""
    shown = Output(json)
    check_destination(output)
    handle = find_run(reached(stack), run)
    watch_run(handle, shown, local=stack is None)
    answer = answer_of(handle, output)
    shown.result(answer, tables.run_table(answer), *answer["outputs"])


def report(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Id of the run: the name of its execution.")],
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Save the page there, instead of opening it.")
    ] = None,
    stack: StackOption = None,
    json: JsonOption = False,
) -> None:
    """Wait for a run to end, well or not, and open its report in a browser, or save it."""
    shown = Output(json)
    handle = find_run(reached(stack), run)
    watch_run(handle, shown, local=stack is None)
    page, data = client.report_files(handle)
    path = output or state_directory() / "reports" / f"{handle.run_id}.html"
    if output is not None or not json:
        _save(page, path)
    if output is None and not json and not webbrowser.open(path.resolve().as_uri()):
        shown.say("no browser could be opened: open the page yourself")
    shown.result(loads(data), str(path))


def _save(page: bytes, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(page)
    except OSError as error:
        raise InputError(f"{path} can't be written: {error.strerror}: give another --output") from error


def reached(stack: str | None) -> Stack:
    """The deployed stack of that name, or that of an open 'lamella local'.

    Raises
    ------
    InputError
        If there is none.
    """
    if stack is not None:
        return Stack.find(stack, Clients.connect())
    found = find_open(CHECKOUT)
    if found is None:
        raise InputError("no 'lamella local' is open: name a deployed stack with --stack NAME")
    return found[1]
