"""Calls, billed units, bytes and dollars of a run beside what the paper measured.

``python -m benchmarks.paper_table --workers 8 --json``: the official network, cut into rows, over SNS and
SQS, on the embedded cloud. Calls and bytes are AWS's; Lambda's seconds and dollars are this machine's.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table
from safetensors.numpy import load_file

from benchmarks.samples import SAMPLES, Samples, benchmark_samples
from lamella.cost import cost, load_book
from lamella.errors import LamellaError, ModelError
from lamella.events import RunRequest
from lamella.files import Directory
from lamella.manifest import read_manifest
from lamella.usage import Usage
from model_prep.readers import open_source
from model_prep.reference import plain_scipy
from model_prep.writer import write_model
from workflows.cli.cloud import CHECKOUT, deployed_cloud
from workflows.cli.console import Output
from workflows.cli.runs import place_input, place_model, run_to_end
from workflows.paper import MEASURED, Measurement

LAYERS = 120
_OF_THIS_MACHINE = {"seconds", "usd", "usd, lambda"}
CACHE = CHECKOUT / "build" / "benchmarks"


@dataclass(frozen=True)
class Figures:
    """What a run used; None where it was not measured.

    Attributes
    ----------
    bytes_sent
        Between workers.
    usd
        At the paper's prices: all that a run of ours uses; of the paper's Lambda, SNS and SQS.
    """

    bytes_sent: int
    publishes_billed: int
    receives: int
    puts: int | None
    gets: int | None
    lists: int | None
    usd: float
    usd_by_service: Mapping[str, float]
    seconds: float


def our_figures(answer: Mapping[str, Any]) -> Figures:
    """Of a run's answer."""
    usage = Usage.from_json(answer["usage"])
    published = usage.count("sns.publish_batch") + usage.count("sns.publish")
    dollars = cost(usage, load_book("paper"))
    return Figures(
        bytes_sent=published.bytes,
        publishes_billed=int(published.billed),
        receives=usage.count("sqs.receive_message").calls,
        puts=usage.count("s3.put_object").calls,
        gets=usage.count("s3.get_object").calls,
        lists=usage.count("s3.list_objects_v2").calls,
        usd=dollars["total"],
        usd_by_service={service: usd for service, usd in dollars.items() if service != "total"},
        seconds=float(answer["seconds"]["infer"]),
    )


def paper_figures(row: Measurement) -> Figures:
    """Of one of the paper's configurations."""
    return Figures(
        bytes_sent=row.bytes_sent,
        publishes_billed=row.sns_publish_billed,
        receives=row.sqs_receive_calls,
        puts=None,
        gets=None,
        lists=None,
        usd=row.total_usd,
        usd_by_service={"lambda": row.lambda_usd, "sns": row.sns_usd, "sqs": row.sqs_usd},
        seconds=row.batch_seconds,
    )


def prepared_model(network: str, output: Output, workers: int | None = None) -> Path:
    """The network, prepared once, or once for each number of workers."""
    folder = CACHE / (network.replace(":", "-") + (f"-{workers}" if workers else ""))
    try:
        read_manifest(Directory(folder))
    except ModelError:
        # Not there, or of an older version.
        output.say(f"preparing {network}")
        shutil.rmtree(folder, ignore_errors=True)
        write_model(open_source(network), folder, workers=[workers] if workers else None)
    return folder


def measure(neurons: int, workers: int, output: Output) -> dict[str, Any]:
    """Run the network once, check every bit, and set its figures beside the paper's."""
    network = f"radixnet:{neurons}x{LAYERS}"
    model = prepared_model(network, output, workers)
    with tempfile.TemporaryDirectory(prefix="lamella-benchmark-") as name:
        work = Path(name)
        samples = benchmark_samples(neurons, work)
        with deployed_cloud(output) as (_, stack):
            request = RunRequest(
                model=place_model(stack, str(model)),
                input=place_input(stack, str(samples.path)),
                strategy="rows",
                channel="sns",
                workers=workers,
                samples=SAMPLES,
                activations=True,
            )
            answer = run_to_end(stack, request, output, destination=work, local=True).answer
        exact = is_exact(network, samples, work / "activations.safetensors")
    measured = MEASURED.get(("queue", neurons, workers))
    return {
        "network": network,
        "input": samples.description,
        "workers": workers,
        "channel": "sns",
        "exact": exact,
        "ours": asdict(our_figures(answer)),
        "paper": asdict(paper_figures(measured)) if measured else None,
    }


def is_exact(network: str, samples: Samples, activations: Path) -> bool:
    """Whether a run's activations have the bits that plain scipy gives."""
    got = load_file(activations)["activations"]
    expected = plain_scipy(open_source(network), samples.matrix)
    return got.shape == expected.shape and bool((got.view(np.uint32) == expected.view(np.uint32)).all())


def shown(result: Mapping[str, Any]) -> Table:
    """One measurement as a table."""
    verdict = "exact" if result["exact"] else "NOT EXACT"
    table = Table(
        title=f"{result['network']}, {result['workers']} workers: {verdict}",
        caption=f"Input: {result['input']}. Paper: FSD-Inference, arXiv 2403.15195, measured on AWS. Dollars "
        "at the paper's prices; our seconds, and Lambda's dollars with them, are this machine's.",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("")
    for name in ("ours", "paper", "ours / paper"):
        table.add_column(name, justify="right")
    ours, paper = _flat(result["ours"]), _flat(result["paper"] or {})
    for name, value in ours.items():
        if value is None:
            continue
        theirs = paper.get(name)
        ratio = f"{value / theirs:.3f}" if theirs and name not in _OF_THIS_MACHINE else ""
        table.add_row(name, _number(value), "" if theirs is None else _number(theirs), ratio)
    return table


def _flat(figures: Mapping[str, Any]) -> dict[str, float | None]:
    flat: dict[str, float | None] = {}
    for name, value in figures.items():
        if isinstance(value, Mapping):
            flat |= {f"usd, {service}": usd for service, usd in value.items()}
        else:
            flat[name.replace("_", " ")] = value
    return flat


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def main(
    workers: Annotated[list[int] | None, typer.Option(min=2, help="How many; may be repeated.")] = None,
    neurons: Annotated[int, typer.Option(help="1024, 4096, 16384 or 65536.")] = 1024,
    json_: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """Set runs of the official network beside the paper's measurements; exit 1 unless every bit is right."""
    output = Output(json_)
    try:
        results = [measure(neurons, count, output) for count in workers or [8]]
    except LamellaError as error:
        output.err.print(f"error: {error}", markup=False, soft_wrap=True)
        raise typer.Exit(error.exit_code) from error
    if json_:
        sys.stdout.write(json.dumps(results) + "\n")
    for result in results if not json_ else ():
        output.out.print(shown(result))
    if not all(result["exact"] for result in results):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
