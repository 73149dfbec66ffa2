"""``lamella calibrate``."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from lamella.client import Clients, Stack
from lamella.cost import load_book
from lamella.errors import InputError
from lamella.plan import ChannelName
from lamella.prediction import Profile, load_profile
from lamella.prediction.profile import Constant
from workflows.calibration import calibrated, expected_usd, measure_codec, measure_kernel, run_trials, trials
from workflows.cli.cloud import deployed_cloud
from workflows.cli.console import Output

CHANNELS: tuple[ChannelName, ...] = ("sns", "sqs", "s3")


def calibrate(
    local: Annotated[bool, typer.Option("--local", help="Measure this machine's embedded cloud.")] = False,
    stack: Annotated[
        str | None, typer.Option(metavar="NAME", help="Measure this deployed stack, by a few cheap runs.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where the profile goes; default: local.json, or NAME.json."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether to spend that.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure the constants that predictions rest on, and write them as a profile."""
    if local == (stack is not None):
        raise InputError("say what to measure: --local, or --stack NAME")
    shown = Output(json)
    path = output or Path(f"{stack or 'local'}.json")
    if path.suffix != ".json":
        raise InputError(f"--output {path}: a profile's name ends with .json")
    profile = _local(path.stem, shown) if stack is None else _deployed(stack, path.stem, shown, yes=yes)
    path.write_text(profile.to_json(), encoding="utf-8")
    measured = _measured(profile)
    shown.result({"profile": str(path), "constants": measured}, _table(measured), f"profile: {path}")


def _local(name: str, shown: Output) -> Profile:
    shown.say("measuring the kernel and the codec")
    kernel, codec = measure_kernel(), measure_codec()
    with deployed_cloud(shown) as (_, target):
        seen = run_trials(target, trials(CHANNELS, large=True), shown, local=True)
    return calibrated(
        load_profile(),
        name,
        date.today(),
        seen,
        kernel=kernel,
        codec=codec,
        processors=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
    )


def _deployed(stack: str, name: str, shown: Output, *, yes: bool) -> Profile:
    target = Stack.find(stack, Clients.connect())
    chosen = trials(CHANNELS)
    base = load_profile()
    usd = expected_usd(chosen, base, load_book())
    shown.err.print(
        f"{len(chosen)} runs on stack {stack} will cost some ${usd:.4f} (predicted by {base.name})",
        markup=False,
        soft_wrap=True,
    )
    if not yes and not typer.confirm("run them?", err=True):
        raise typer.Abort
    seen = run_trials(target, chosen, shown, local=False)
    return calibrated(base, name, date.today(), seen)


def _measured(profile: Profile) -> dict[str, Any]:
    """Constants that are of this calibration: a number, or a median."""
    return {
        place: constant.value if isinstance(constant, Constant) else constant.median
        for place, constant in profile.constants()
        if constant.source.startswith("lamella calibrate")
    }


def _table(measured: dict[str, Any]) -> Table:
    table = Table(title="measured", title_justify="left")
    table.add_column("constant")
    table.add_column("value", justify="right")
    for place, value in measured.items():
        table.add_row(place, f"{value:,.6g}")
    return table
